# SPDX-License-Identifier: BSD-3-Clause
"""Limits the memory of large messages: a worker has three pools, a message waits for its share.

Messages up to `LARGE` bytes take no share: what a connection holds of them is limited. A
message takes its shares in the order of the pools, so no two wait for each other. The limits are
multiples of `MAX_MESSAGE_BYTES`; `docs/limits.md` has the arithmetic.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

LARGE = 16 * 1024

_POLL_S = 0.02
PATIENCE_S = 1.0  # until clients that neither send nor read are disconnected
_BYPASSED_S = 5.0  # until smaller shares no longer overtake a waiting one
_LEAST_BYTES_PER_S = 1_000_000  # that a client must send while others wait
_DEFAULT_MESSAGE = 16 * 1024 * 1024
_COPIES = 6  # of a message, while an echo of it is encoded: three in the reply, which exists twice


class Pool:
    """A limit on bytes in use. A share above the limit gets the whole pool to itself."""

    def __init__(self, multiple: int) -> None:
        self._multiple = multiple
        self._used = 0
        self._waiting: list[float] = []  # since when
        self.limit = multiple * _DEFAULT_MESSAGE
        self.count_further: Callable[[], int] = int
        """Bytes in use that are not taken as shares."""
        self.relieve: Callable[[], None] = lambda: None
        """Called while a share has waited for long."""

    def set_message_limit(self, size: int) -> None:
        """Set the limit from the size of the largest message."""
        self.limit = self._multiple * size

    @property
    def is_contended(self) -> bool:
        """Whether a share waits."""
        return bool(self._waiting)

    def take(self, size: int) -> bool:
        """Take a share if there is room for it."""
        if size:  # to count may take long
            used = self._used + self.count_further()
            if used and used + size > self.limit:
                return False
        self._used += size
        return True

    def give_back(self, size: int) -> None:
        self._used -= size

    async def wait(self, size: int) -> None:
        """Take a share as soon as there is room for it."""
        if not self._waiting and self.take(size):
            return
        began = relieved = monotonic()
        self._waiting.append(began)
        try:
            while not (self._may_pass(began) and self.take(size)):
                await asyncio.sleep(_POLL_S)
                if monotonic() - relieved >= PATIENCE_S:
                    relieved = monotonic()
                    self.relieve()
        finally:
            self._waiting.remove(began)

    def _may_pass(self, began: float) -> bool:
        first = self._waiting[0]
        return first == began or monotonic() - first < _BYPASSED_S

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Hold a share during a block."""
        await self.wait(size)
        try:
            yield
        finally:
            self.give_back(size)

    async def room(self, size: int) -> None:
        """Wait for room. The caller must use it at once, without waiting for anything else."""
        await self.wait(size)
        self.give_back(size)


RECEIVED = Pool(2)
"""Messages as they arrive, until they are answered."""
DECODED = Pool(3)
"""What decoded messages take beyond their bytes, until they are answered."""
REPLIES = Pool(_COPIES)
"""Replies that clients have not read, and the one that is being encoded."""


def set_message_limit(size: int) -> None:
    """Adapt all pools to `MAX_MESSAGE_BYTES`."""
    for pool in (RECEIVED, DECODED, REPLIES):
        pool.set_message_limit(size)


def is_slow(began: float, size: int) -> bool:
    """Whether a client that has sent `size` bytes since `began` keeps others waiting too long."""
    return monotonic() - began > PATIENCE_S + size / _LEAST_BYTES_PER_S


def size_in_memory(message: str | bytes) -> tuple[int, int]:
    """Bytes that a message's texts may take: decoded, and in a reply that repeats them."""
    size, width = len(message), _width(message)
    utf8 = size * (width if isinstance(message, str) else 1)
    return (size * width if width > 1 else 0), _COPIES * utf8


def _width(message: str | bytes) -> int:
    """Bytes of a character in Python, at most: one wide character makes all of a text wide."""
    if isinstance(message, str):
        message = message.encode("utf-8", "surrogatepass")
    has_escape = b"\\u" in message
    if message.isascii() and not has_escape:
        return 1
    has_wide = any(first in message for first in _FIRST_OF_FOUR)
    if has_wide or (has_escape and any(start in message for start in _SURROGATES)):
        return 4
    return 2


_FIRST_OF_FOUR = [bytes((first,)) for first in range(0xF0, 0xF5)]
_SURROGATES = [
    b"\\u%b%b" % (d, h) for d in (b"d", b"D") for h in (b"8", b"9", b"a", b"A", b"b", b"B")
]
