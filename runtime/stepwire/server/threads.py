# SPDX-License-Identifier: BSD-3-Clause
"""A bounded pool of threads that never keeps its process alive."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class DaemonThreads(Executor):
    """An executor for `run_in_executor` whose threads are daemons.

    At exit the interpreter waits for the threads of a `ThreadPoolExecutor`, so a single call that
    never returns would keep a stopping server alive.
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
        """Call `function` in an idle thread, or in a new one while there are fewer than `most`."""
        future: Future[ResultT] = Future()
        self._calls.put((future, lambda: function(*arguments, **keywords)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            name = f"{self._name}_{len(self._threads)}"
            thread = Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End each thread when its call has returned; does not wait for them."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                    future.set_exception(_as_error(error))
            del item, future, call  # otherwise the result lives until the next call
            self._idle.release()


def _as_error(raised: BaseException) -> Exception:
    """`raised`, or a `RuntimeError` in its place when asyncio would not deliver it to the caller.

    `SystemExit` and `KeyboardInterrupt` would end the server, `StopIteration` leave the caller
    waiting, and `CancelledError` look like a cancellation of the caller.
    """
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration | CancelledError):
        return raised
    error = RuntimeError(f"{type(raised).__name__} was raised in a thread")
    error.__cause__ = raised
    return error
