# SPDX-License-Identifier: BSD-3-Clause
"""`Turn`: one call of an environment at a time, in the order in which they were requested."""

import asyncio
from collections import deque
from contextlib import suppress


class Turn:
    """A lock on one event loop. Unlike `asyncio.Lock`, it is taken without awaiting while free."""

    __slots__ = ("__weakref__", "_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take the turn if it is free; returns whether it was."""
        if self._is_taken:
            return False
        self._is_taken = True
        return True

    async def take(self) -> None:
        """Wait for the turn and take it."""
        if self.take_now():
            return
        passed = asyncio.get_running_loop().create_future()
        self._waiting.append(passed)
        try:
            await passed
        except asyncio.CancelledError:
            if not passed.cancelled():  # cancelled after the turn was passed on
                self.give_back()
            with suppress(ValueError):
                self._waiting.remove(passed)
            raise

    def give_back(self) -> None:
        """End the turn, which passes to the first that still waits."""
        while self._waiting:
            passed = self._waiting.popleft()
            if not passed.done():
                passed.set_result(None)
                return
        self._is_taken = False
