# SPDX-License-Identifier: BSD-3-Clause
"""The memory of one HTTP request."""

import asyncio
from time import monotonic

from starlette.types import Message, Receive, Scope

from stepwire.server.json_limits import size_of_values
from stepwire.server.memory import DECODED, LARGE, RECEIVED, REPLIES, is_slow, size_in_memory

_MEMORY = "stepwire.memory"  # in the scope of a request
_POLL_S = 1.0
_GROWTH_TIMEOUT_S = 5.0


async def make_room(scope: Scope, size: int) -> None:
    """Wait for the memory of a response, which is released once the response is written."""
    if (memory := scope.get(_MEMORY)) is not None:
        await memory.make_room(size)


class MemoryOfRequest:
    """The memory shares of a request: those of its body and that of its response."""

    def __init__(self, scope: Scope, declared: int) -> None:
        """`declared` is the size that the request declares; 0 where it does not."""
        scope[_MEMORY] = self
        self._declared = declared
        self._received = 0
        self._decoded = 0
        self._reply = 0
        self._received_share = 0
        self._decoded_share = 0
        self._reply_share = 0
        self._began = 0.0

    async def receive(self, receive: Receive) -> Message:
        """Receive a chunk. Raises `TimeoutError` if others wait while the body does not arrive."""
        while self._received_share:
            try:
                return await asyncio.wait_for(receive(), _POLL_S)
            except asyncio.TimeoutError:
                if RECEIVED.is_contended and is_slow(self._began, self._received):
                    raise
        return await receive()

    async def take(self, chunk: bytes, is_more_expected: bool) -> None:
        """Take the share for a chunk; with the last one, those for decoding and answering it.

        Raises `TimeoutError` if the body has no declared size and there is no room for more of it.
        """
        self._received += len(chunk)
        decoded, reply = size_in_memory(chunk)
        self._decoded += decoded + size_of_values(chunk)
        self._reply += reply
        if self._received <= LARGE:
            return
        if not self._received_share:
            self._began = monotonic()
        if self._received > self._received_share:
            # Without a declared size, twice as much each time.
            wanted = max(self._declared, self._received, 2 * self._received_share)
            more = wanted - self._received_share
            # What holds a share does not wait for more without end: others may do the same.
            timeout_s = _GROWTH_TIMEOUT_S if self._received_share else None
            await asyncio.wait_for(RECEIVED.wait(more), timeout_s)
            self._received_share += more
        if not is_more_expected:
            decoded = min(self._decoded, DECODED.limit)
            await DECODED.wait(decoded)
            self._decoded_share = decoded

    async def make_room(self, size: int) -> None:
        """Take the share for the response; `size` is what is known of its bytes."""
        wanted = min(max(self._reply if self._received_share else 0, size), REPLIES.limit)
        if wanted > LARGE:
            await REPLIES.wait(wanted)
            self._reply_share += wanted

    def give_back(self) -> None:
        """Release all shares."""
        REPLIES.give_back(self._reply_share)
        self._reply_share = 0
        RECEIVED.give_back(self._received_share)
        DECODED.give_back(self._decoded_share)
        self._received_share = self._decoded_share = 0
