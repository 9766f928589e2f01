# SPDX-License-Identifier: BSD-3-Clause
"""Threads that call environments, one for each session. A process does not wait for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError
from queue import SimpleQueue
from threading import Thread, get_ident
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class CallThread:
    """A thread that makes calls one at a time, in the order in which they were requested.

    It is a daemon: a call that never returns must not keep a stopping server alive.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None]
        self._calls = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return get_ident() == self._thread.ident

    def call(self, function: Callable[[], ResultT]) -> "asyncio.Future[ResultT]":
        """Request a call. It is not made if the future is cancelled before its turn."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._calls.put((future, function))
        return future

    def end(self) -> None:
        """End the thread after the calls requested so far; does not wait for them."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, function = item
            if not future.cancelled():
                result = error = None
                try:
                    result = function()
                except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
                    error = _as_error(raised)
                try:  # noqa: SIM105 - `suppress` costs more, at every call
                    future.get_loop().call_soon_threadsafe(_settle, future, result, error)
                except RuntimeError:
                    pass  # the loop is closed: the call was abandoned
                del result, error
            del item, future, function  # otherwise they live until the next call


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


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
