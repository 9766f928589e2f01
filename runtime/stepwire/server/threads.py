# SPDX-License-Identifier: BSD-3-Clause
"""A bounded pool of threads that does not outlive its process, whatever its calls do."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class DaemonThreads(Executor):
    """For `run_in_executor`: the standard pool, but for what happens at the end.

    That one has the interpreter wait for its threads, so a single call that never returns keeps a
    process that was told to stop.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._threads: list[Thread] = []
        self._idle = Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(
        self, function: Callable[..., ResultT], /, *arguments: Any, **keywords: Any
    ) -> "Future[ResultT]":
        """Call `function` in a thread, a new one when all are busy and there may be more."""
        future: Future[ResultT] = Future()
        self._calls.put((future, lambda: function(*arguments, **keywords)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            name = f"{self._name}_{len(self._threads)}"
            thread = Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the threads, each when its call has returned; nobody waits for that."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                    future.set_exception(_as_error(error))
            del item, future, call  # or the last result lives until the next call
            self._idle.release()


def _as_error(raised: BaseException) -> Exception:
    """`raised`, or an error of what asyncio does not just raise where the call is awaited.

    One that ends a thread, an iteration or a task would end the server, keep the caller waiting
    for ever or be taken for the caller's own end.
    """
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration | CancelledError):
        return raised
    error = RuntimeError(f"{type(raised).__name__} was raised in a thread")
    error.__cause__ = raised
    return error
