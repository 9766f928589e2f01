# SPDX-License-Identifier: BSD-3-Clause
"""Measures what clients have not read, and disconnects clients when memory is short."""

import ctypes
import logging
import sys
from contextlib import suppress
from time import monotonic
from typing import Any

from stepwire.server.memory import LARGE, PATIENCE_S, RECEIVED, REPLIES

logger = logging.getLogger("stepwire.server")

_LEAST_READ = 64 * 1024
# Bytes of a reply that the system may have taken, while we keep all of it.
_SENT_AND_KEPT = 4 * 1024 * 1024
# Of glibc's `mallopt`: the number of an option, and its value in bytes.
_TRIM_THRESHOLD = (-1, 4 * 1024 * 1024)
_MMAP_THRESHOLD = (-3, 1024 * 1024)


def return_memory_early() -> None:
    """Make the C library return the memory of a large message once it has been answered.

    By default, it keeps tens of megabytes once it has freed a large block.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):  # the C library is not glibc
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(*option)


class Pressure:
    """Disconnects clients that hold memory that others wait for."""

    def __init__(self, connections: set[Any]) -> None:
        """`connections` are the protocols of uvicorn's open connections."""
        return_memory_early()
        self._connections = connections
        self._unread_before: dict[Any, int] = {}
        REPLIES.count_further = self.unread
        REPLIES.relieve = self._end_unread
        RECEIVED.relieve = self._end_slow

    def unread(self) -> int:
        """Bytes of large replies that wait for their clients.

        A reply is kept whole until the system has taken all of it.
        """
        return sum(
            max(size, getattr(connection, "large_reply", size + _SENT_AND_KEPT))
            for connection, size in self._unread().items()
        )

    def _unread(self) -> dict[Any, int]:
        sizes = {
            connection: connection.transport.get_write_buffer_size()
            for connection in self._connections
        }
        return {
            connection: size
            for connection, size in sizes.items()
            if size > LARGE or (size and getattr(connection, "large_reply", 0))
        }

    def _end_unread(self) -> None:
        """Disconnect clients that have read almost nothing since the previous call."""
        before, self._unread_before = self._unread_before, self._unread()
        for connection, size in self._unread_before.items():
            read = before.get(connection, 0) - size
            # A reply that was written since then gets its own time.
            is_old = monotonic() - getattr(connection, "unread_since", 0.0) > PATIENCE_S
            if is_old and 0 <= read < _LEAST_READ:
                logger.info("A client did not read %d bytes, which others wait for", size)
                connection.transport.abort()

    def _end_slow(self) -> None:
        """Disconnect clients whose messages take too long to arrive."""
        for connection in list(self._connections):
            if (end := getattr(connection, "end_slow_message", None)) is not None:
                end()
