# SPDX-License-Identifier: BSD-3-Clause
"""`Watch`: waits for the replies on many connections at once."""

import os
import selectors
import time

from stepwire.client.connection import Connection


class Watch:
    """A selector that watches connections by the index of their session.

    It keeps watching between rounds, which spares most of them its system calls.
    """

    def __init__(self) -> None:
        self.process = os.getpid()  # a fork shares the selector of its parent
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, tuple[Connection, int, int]] = {}

    def __del__(self) -> None:
        self._selector.close()

    def wait(self, waiting: dict[int, Connection]) -> list[int]:
        """The indices on whose sockets something happened, and those whose time has come."""
        first = min(connection.wake_at for connection in waiting.values())
        ready = [key.data for key, _ in self._selector.select(max(0.0, first - time.monotonic()))]
        for index in ready:
            if index not in waiting:  # a ping, a close frame, or what another round waits for
                self.set(index, None)
        now = time.monotonic()
        due = [index for index in ready if index in waiting]
        if now >= first:
            due += [
                index
                for index, connection in waiting.items()
                if now >= connection.wake_at and index not in ready
            ]
        return due

    def set(self, index: int, connection: Connection | None) -> None:
        """Watch this connection, and no other, for session `index`."""
        watched = self._watched.get(index)
        events = 0 if connection is None else connection.events
        if watched is not None and watched[0] is connection and watched[2] == events:
            return
        if watched is not None:
            self._selector.unregister(watched[1])
            del self._watched[index]
        if connection is not None:
            descriptor = connection.fileno()
            if (closed := self._selector.get_map().get(descriptor)) is not None:
                # The socket that had this descriptor was closed outside this round.
                self.set(closed.data, None)
            self._selector.register(descriptor, events, index)
            self._watched[index] = (connection, descriptor, events)
