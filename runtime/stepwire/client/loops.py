# SPDX-License-Identifier: BSD-3-Clause
"""Event loops and threads: what waits for both, what must not block a loop, and a last chance for
deferred calls before a loop is closed.

`asyncio.run` announces the shutdown of a loop only to asynchronous generators, through
`loop.shutdown_asyncgens`. So one generator per loop waits for it.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent import futures
from contextlib import aclosing, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from stepwire.client.errors import UsageError

ResultT = TypeVar("ResultT")
_END = object()
_LOOK_AGAIN_S = 1.0  # whether a loop has been closed, which nothing announces


class _Flushable(Protocol):
    async def flush_async(self) -> None: ...


_Registered = tuple["WeakSet[_Flushable]", AsyncGenerator[None, None]]
_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Registered]" = WeakKeyDictionary()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread; `None` where none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def in_thread(function: Callable[[], ResultT]) -> "futures.Future[ResultT]":
    """Call a function in a daemon thread of its own.

    The threads of a loop's executor may all be busy, and a program waits for them when it ends.
    """
    result: futures.Future[ResultT] = futures.Future()
    result.set_running_or_notify_cancel()  # from now on it cannot be cancelled

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


async def run_in_thread(function: Callable[[], ResultT]) -> ResultT:
    """`in_thread` without blocking the loop. Cancelled, it leaves the function running."""
    return await asyncio.wrap_future(in_thread(function))


def iterated_in_thread(
    items: Callable[[], AsyncGenerator[ResultT, None]],
) -> Generator[ResultT, None, None]:
    """What an asynchronous generator yields on a loop in a thread of its own.

    Closing this generator cancels that one, and waits for its end.
    """
    received: SimpleQueue[Any] = SimpleQueue()

    async def put_all() -> None:
        task: Any = asyncio.current_task()
        received.put(partial(task.get_loop().call_soon_threadsafe, task.cancel))
        async with aclosing(items()) as each:
            async for item in each:
                received.put(item)

    running = in_thread(lambda: asyncio.run(put_all()))
    running.add_done_callback(lambda _: received.put(_END))
    if (cancel := received.get()) is _END:
        running.result()  # raises why there is no loop: too many files are open
        return
    try:
        while (item := received.get()) is not _END:
            yield item
        running.result()
    finally:
        with suppress(RuntimeError):  # the loop has ended
            cancel()
        futures.wait([running])


def on_loop_shutdown(loop: asyncio.AbstractEventLoop, session: _Flushable) -> None:
    """Have `session.flush_async()` awaited before this running loop is closed."""
    if loop not in _loops:
        sessions: WeakSet[_Flushable] = WeakSet()
        generator = _flush_on_shutdown(sessions)
        with suppress(StopIteration):
            generator.__anext__().send(None)  # a started generator is one that the loop knows
        _loops[loop] = (sessions, generator)
    _loops[loop][0].add(session)


async def _flush_on_shutdown(sessions: "WeakSet[_Flushable]") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for session in list(sessions):
            await session.flush_async()


class CallLock:
    """A lock for threads and for coroutines, which name their event loop.

    A closed loop resumes no coroutine, so the lock is taken over from those of such a loop.
    """

    def __init__(self, on_taken_over: Callable[[], None] = lambda: None) -> None:
        """`on_taken_over` is called by the new holder."""
        self._lock = threading.Lock()
        self._taking_over = threading.Lock()
        self._on_taken_over = on_taken_over
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the coroutine that holds the lock
        self._thread: int | None = None  # in which it was acquired

    def is_held_here(self) -> bool:
        """Whether the holder goes on only when this thread does: waiting for it has no end."""
        if (loop := self._loop) is not None and loop.is_running():
            return loop is running_loop()
        return self._thread == threading.get_ident()

    def require_not_held_here(self) -> None:
        """Raise `UsageError` if waiting for the lock, blocking, has no end."""
        if not self.is_held_here():
            return
        if (loop := self._loop) is None:
            raise UsageError(
                "A call of the same client is under way in this thread, in a loop over "
                "`step_as_completed` that has not ended, or interrupted by a signal's handler; "
                "waiting for it here would last forever. End that loop first."
            )
        if not loop.is_running():
            raise UsageError(
                "A call of the same client is under way on an event loop that does not run any "
                "more; waiting for it here would last forever. Run that loop on, or close it."
            )
        raise UsageError(
            "This result is read while a call of the same client is being awaited on this "
            "event loop; blocking here would block that one forever. Await the result instead."
        )

    def acquire_now(self, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Acquire the lock if that needs no waiting; returns whether it is acquired."""
        if self._lock.acquire(blocking=False):
            self._loop, self._thread = loop, threading.get_ident()
            return True
        with self._taking_over:
            if self._loop is None or not self._loop.is_closed():
                return False
            self._loop, self._thread = loop, threading.get_ident()
        self._on_taken_over()
        return True

    def acquire_blocking(self) -> None:
        """Wait for the lock, blocking. Raises what `require_not_held_here` does."""
        while not self.acquire_now():
            self.require_not_held_here()
            if self._lock.acquire(timeout=_LOOK_AGAIN_S):
                self._thread = threading.get_ident()
                return

    async def acquire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the lock without blocking the running loop: the holder may be on the same."""
        while not self.acquire_now(loop):
            if self._loop is not None and self._loop is not loop:  # a thread may go on meanwhile
                self.require_not_held_here()
            waiting = (loop, loop.create_future())
            self._waiting.append(waiting)
            try:
                if self.acquire_now(loop):  # it was released before this waiter was in the queue
                    return
                await asyncio.wait([waiting[1]], timeout=_LOOK_AGAIN_S)
            except BaseException:
                if waiting not in self._waiting:  # already woken: pass that on to the next one
                    self._wake_next()
                raise
            finally:
                with suppress(ValueError):
                    self._waiting.remove(waiting)

    def release(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Release the lock that was acquired with `loop`.

        Does nothing for a loop that is closed, whose coroutine may end at any time afterwards.
        """
        if loop is not None and loop.is_closed():
            return
        self._loop = self._thread = None
        # Release before waking: a waiter that wakes while the lock is held goes to sleep again, and
        # nothing would wake it a second time.
        self._lock.release()
        if self._waiting:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            loop, released = self._waiting.popleft()
            with suppress(RuntimeError):  # the loop is closed: wake another
                loop.call_soon_threadsafe(_resolve, released)
                return


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
