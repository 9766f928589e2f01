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
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from stepwire.client.errors import UsageError

ResultT = TypeVar("ResultT")
_END = object()
_FLUSH_AFTER_S = 0.02
_LOOK_AGAIN_S = 1.0  # whether a loop has been closed, which nothing announces


class _Flushable(Protocol):
    def flush_unawaited(self, loop: asyncio.AbstractEventLoop) -> None: ...
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


def flush_soon(loop: asyncio.AbstractEventLoop, session: _Flushable) -> None:
    """Have `session.flush_unawaited(loop)` called on this running loop after 20 ms.

    Before the loop is closed, `session.flush_async()` is awaited.
    """
    loop.call_later(_FLUSH_AFTER_S, session.flush_unawaited, loop)
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


class Holder:
    """A coroutine on an event loop, or a thread, that acquires a `CallLock`.

    It acquires inside a `try`. `finally`, it sets `is_over` and then calls `CallLock.wake_next`. An
    assignment is what no signal's handler can come before, as it can before a call.
    """

    __slots__ = ("is_over", "loop", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.is_over = False
        self.loop = loop
        self.thread = threading.get_ident()


class CallLock:
    """A lock for threads and for coroutines.

    A closed loop resumes no coroutine, so the lock is taken over from those of such a loop.
    """

    def __init__(self, on_taken_over: Callable[[], None] = lambda: None) -> None:
        """`on_taken_over` is called by the new holder."""
        self._changing = threading.RLock()  # a signal's handler may acquire in between
        self._on_taken_over = on_taken_over
        self._waiting: deque[Callable[[], object]] = deque()
        self.holder = Holder()  # the last one
        self.holder.is_over = True

    def is_held_here(self) -> bool:
        """Whether the holder goes on only when this thread does: waiting for it has no end."""
        holder = self.holder
        if holder.is_over:
            return False
        if holder.loop is not None and holder.loop.is_running():
            return holder.loop is running_loop()
        return holder.thread == threading.get_ident()

    def require_not_held_here(self) -> None:
        """Raise `UsageError` if waiting for the lock, blocking, has no end."""
        if not self.is_held_here():
            return
        if (loop := self.holder.loop) is None:
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

    def is_held(self) -> bool:
        """Whether acquiring the lock needs waiting."""
        holder = self.holder
        return not holder.is_over and (holder.loop is None or not holder.loop.is_closed())

    def acquire_now(self, new: Holder) -> bool:
        """Acquire the lock if that needs no waiting; returns whether it is acquired."""
        with self._changing:
            if self.is_held():
                return False
            left, self.holder = self.holder, new
        if not left.is_over:
            self._on_taken_over()
        return True

    def take_over(self) -> None:
        """Take the lock from a coroutine that a closed loop has left, if one holds it."""
        holder = Holder()
        holder.is_over = True
        self.acquire_now(holder)

    def acquire_blocking(self, new: Holder) -> None:
        """Wait for the lock, blocking. Raises what `require_not_held_here` does."""
        while not self.acquire_now(new):
            self.require_not_held_here()
            released = threading.Event()
            with self._in_line(released.set):
                if self.acquire_now(new):  # it was released before this waiter was in line
                    return
                released.wait(_LOOK_AGAIN_S)

    async def acquire(self, new: Holder) -> None:
        """Wait for the lock without blocking the running loop: the holder may be on the same."""
        while not self.acquire_now(new):
            loop, holder = asyncio.get_running_loop(), self.holder
            if holder.loop is not None and holder.loop is not loop:  # a thread may go on meanwhile
                self.require_not_held_here()
            released = loop.create_future()
            with self._in_line(partial(loop.call_soon_threadsafe, _resolve, released)):
                if self.acquire_now(new):
                    return
                await asyncio.wait([released], timeout=_LOOK_AGAIN_S)

    @contextmanager
    def _in_line(self, wake: Callable[[], object]) -> Generator[None, None, None]:
        self._waiting.append(wake)
        try:
            yield
        except BaseException:
            if wake not in self._waiting:  # already woken: pass that on to the next one
                self.wake_next()
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(wake)

    def wake_next(self) -> None:
        """Wake the next one that waits, after the holder is over."""
        while self._waiting:
            with suppress(RuntimeError, IndexError):  # its loop is closed, or another was faster
                self._waiting.popleft()()
                return


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
