# SPDX-License-Identifier: BSD-3-Clause
"""`CallLock`: one call of a client at a time, from any thread and any event loop."""

import asyncio
import threading
from collections import deque
from contextlib import suppress

from stepwire.client.loops import running_loop


class CallLock:
    """A lock for threads (`acquire_blocking()`) and for coroutines (`await acquire()`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire_blocking = self._lock.acquire
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        # Of the coroutine that holds the lock. Read before `is_held_here`, it saves a call.
        self.loop: asyncio.AbstractEventLoop | None = None

    def is_held_here(self) -> bool:
        """Whether a coroutine on this thread's event loop holds the lock."""
        return self.loop is not None and self.loop is running_loop()

    def acquire_now(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Acquire the lock for a coroutine on `loop` if it is free; returns whether it was."""
        if self._lock.acquire(blocking=False):
            self.loop = loop
            return True
        return False

    async def acquire(self) -> None:
        """Wait for the lock without blocking the loop: the holder may be on the same loop."""
        loop = asyncio.get_running_loop()
        while not self.acquire_now(loop):
            waiting = (loop, loop.create_future())
            self._waiting.append(waiting)
            try:
                if self.acquire_now(loop):  # it was released before this waiter was in the queue
                    return
                await waiting[1]
            except BaseException:
                if waiting not in self._waiting:  # already woken: pass that on to the next one
                    self._wake_next()
                raise
            finally:
                with suppress(ValueError):
                    self._waiting.remove(waiting)

    def release(self) -> None:
        """Release the lock, also from another thread than the one that holds it."""
        self.loop = None
        # Release before waking: a waiter that wakes while the lock is held goes to sleep again, and
        # nothing would wake it a second time.
        self._lock.release()
        if self._waiting:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            loop, released = self._waiting.popleft()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, released)
                return


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
