# SPDX-License-Identifier: BSD-3-Clause
"""Has an event loop read the socket of one connection, and wakes the call that waits for it.

The loop watches the socket from the first awaited call on, not anew for each: that halves the cost
of an awaited step. Between calls it lets the connection answer pings.
"""

import asyncio
import socket
import time
import weakref
from contextlib import suppress
from typing import Protocol


class _Readable(Protocol):
    def read_available(self) -> bool: ...
    def answer_pings(self) -> None: ...


class Readiness:
    """Watches a socket on the running loop until `stop`."""

    def __init__(self, sock: socket.socket, connection: _Readable) -> None:
        self.loop = asyncio.get_running_loop()
        self._sock = sock
        # The loop holds this object; held by it in turn, a dropped client would never be collected.
        self._connection = weakref.ref(connection)
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.loop.add_reader(sock, self._on_readable)

    def message(self, deadline: float) -> "asyncio.Future[None]":
        """Done when a message is there; a `TimeoutError` from `deadline` (monotonic) on."""
        waiter = self._waiter = self.loop.create_future()
        self._deadline = deadline
        if self._timer is None:  # one timer for many calls: each only moves the deadline
            self._timer = self.loop.call_later(deadline - time.monotonic(), self._on_timer)
        return waiter

    def stop(self) -> None:
        """Stop watching, from whichever thread."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(RuntimeError):  # the loop is closed, and watches nothing any more
            if asyncio._get_running_loop() is self.loop:
                self.loop.remove_reader(self._sock)
            else:
                self.loop.call_soon_threadsafe(self.loop.remove_reader, self._sock.fileno())

    def _on_readable(self) -> None:
        connection, waiter = self._connection(), self._waiter
        if connection is None:
            self.stop()
        elif waiter is None or waiter.done():
            connection.answer_pings()
        else:
            # Read at once: were it left to the waiting call, the loop would report it once more.
            try:
                if connection.read_available():
                    waiter.set_result(None)
            except Exception as error:  # noqa: BLE001 - raised in the waiting call
                waiter.set_exception(error)

    def _on_timer(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._timer = self.loop.call_later(left, self._on_timer)
        else:
            waiter.set_exception(TimeoutError())
