# SPDX-License-Identifier: BSD-3-Clause
"""Event loops: the one that runs here, threads for what would block it, and a last chance for
deferred calls before one is closed.

`asyncio.run` announces the shutdown of a loop only to asynchronous generators, through
`loop.shutdown_asyncgens`. So one generator per loop waits for it.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent import futures
from contextlib import suppress
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

ResultT = TypeVar("ResultT")


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
