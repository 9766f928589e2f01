# SPDX-License-Identifier: BSD-3-Clause
"""Whose turn it is: one call of a client at a time, from whichever threads and event loops."""

import asyncio
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType


class Turn:
    """A lock for threads (`with turn`) and for coroutines (`await turn.take()`, `turn.end()`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self.loop: asyncio.AbstractEventLoop | None = None  # the loop of the coroutine that has it

    def is_taken_here(self) -> bool:
        """Whether a coroutine on the event loop of this thread has the turn."""
        return self.loop is not None and self.loop is asyncio._get_running_loop()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Released first: woken while the turn is held, the next one would wait for nobody.
        self._lock.release()
        if self._waiting:
            self._wake_next()

    def take_at_once(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Take the turn for a coroutine on this loop if nobody has it."""
        if self._lock.acquire(blocking=False):
            self.loop = loop
            return True
        return False

    async def take(self) -> None:
        """Wait for the turn without blocking the loop, which may have to end the present one."""
        loop = asyncio.get_running_loop()
        while not self.take_at_once(loop):
            waiting = (loop, loop.create_future())
            self._waiting.append(waiting)
            try:
                if self.take_at_once(loop):  # it ended before this one was in the queue
                    return
                await waiting[1]
            except BaseException:
                if waiting not in self._waiting:  # woken for nothing: the next one's turn
                    self._wake_next()
                raise
            finally:
                with suppress(ValueError):
                    self._waiting.remove(waiting)

    def end(self) -> None:
        """End a coroutine's turn."""
        self.loop = None
        self._lock.release()
        if self._waiting:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            loop, turn_ended = self._waiting.popleft()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, turn_ended)
                return


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
