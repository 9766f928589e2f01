# SPDX-License-Identifier: BSD-3-Clause
"""`Call`: one request of a client and, once performed, its result or its failure."""

import asyncio
import inspect
import logging
import random
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

logger = logging.getLogger("stepwire.client")

ResultT = TypeVar("ResultT")


class Performer(Protocol):
    """What performs calls in the order in which they were made: the session of a client."""

    def perform_up_to(self, call: "Call[Any]") -> None: ...
    def perform_up_to_async(self, call: "Call[Any]") -> Coroutine[Any, Any, None]: ...


class Call(Generic[ResultT]):
    """One request and, once performed, its result or the exception it raised."""

    # Class attributes rather than assignments in `__init__`: a step is a few dozen such lines.
    is_done = False
    error: BaseException | None = None
    pauses: Iterator[float] | None = None  # of the session, between its attempts
    asked_at: float | None = None  # for a place on one of several servers; monotonic
    loop: asyncio.AbstractEventLoop | None = None  # on which it was made, if it is deferred
    _coroutine: Coroutine[Any, Any, ResultT] | None = None
    _unread: "_UnreadFailure | None" = None
    _result: ResultT

    def __init__(
        self,
        performer: Performer,
        request: bytes,
        parse: Callable[[bytes], ResultT],
        *,
        starts_episode: bool = False,
    ) -> None:
        """`parse` makes the result of a reply.

        A call that starts an episode may replace a lost session by a new one.
        """
        self.performer = performer
        self.request = request
        self.starts_episode = starts_episode
        self._parse = parse

    def rephrase(self, request: bytes, parse: Callable[[bytes], ResultT]) -> None:
        """Replace the request by another with the same meaning, before it is performed again."""
        self.request = request
        self._parse = parse

    def finish(self, reply: bytes) -> None:
        """Take the reply. Raises what is wrong with it, and then the call is not done."""
        self._result = self._parse(reply)
        self.is_done = True

    def settle(self, result: ResultT) -> None:
        """Take a result that is known without a request."""
        self._result = result
        self.is_done = True

    def fail(self, error: BaseException) -> None:
        """Fail the call. The error is raised wherever the result is asked for."""
        self.error = error
        self._unread = _UnreadFailure(error)
        self.is_done = True

    def outcome(self) -> ResultT:
        """The result of a call that is done; raises its error if it failed."""
        if self.error is not None:
            self.mark_read()
            raise self.error
        return self._result

    def read(self) -> ResultT:
        """The result; performs the call first, blocking, unless it is done."""
        if not self.is_done:
            self.performer.perform_up_to(self)
        return self.outcome()

    async def wait(self) -> ResultT:
        """The result; performs the call first, without blocking the loop, unless it is done."""
        if not self.is_done:
            await self.performer.perform_up_to_async(self)
        return self.outcome()

    def as_coroutine(self) -> Coroutine[Any, Any, ResultT]:
        """`wait()`, the same coroutine each time until it has ended."""
        if self._coroutine is None or not self.is_awaited:
            self._coroutine = self.wait()
        return self._coroutine

    @property
    def is_awaited(self) -> bool:
        """Whether a coroutine waits for the call, or is about to."""
        coroutine = self._coroutine
        return coroutine is not None and inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED

    @property
    def is_of_a_task(self) -> bool:
        """Whether a task performs or has performed the call, without a result so far."""
        return self._coroutine is not None and not (self.is_done and self.error is None)

    def failure(self) -> BaseException | None:
        """The error that `read()` would raise; performs the call first, unless it is done."""
        if not self.is_done:
            self.performer.perform_up_to(self)
        self.mark_read()
        return self.error

    def mark_read(self) -> None:
        """Note that the caller knows the outcome: a failure is not logged any more."""
        if self._unread is not None:
            self._unread.error = None


class _UnreadFailure:
    """Logs the failure of a call whose result was never asked for, as asyncio does for tasks."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            logger.error("A call failed, and its result was never read: %s", self.error)


def weak_method(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the client for its session, which must not keep the client from being dropped.

    Calls keep their client while they are performed.
    """
    found: Any = weakref.WeakMethod(method)
    return lambda *arguments: found()(*arguments)


def pauses(wait_s: float) -> Iterator[float]:
    """Pauses between attempts to get a session: doubling up to 2 s, `wait_s` seconds in all."""
    give_up_at = time.monotonic() + wait_s
    pause = 0.05
    while (left := give_up_at - time.monotonic()) > 0:
        # Jitter: clients that were refused together must not come back together.
        yield min(pause * random.uniform(0.5, 1.5), left)
        pause = min(pause * 2, 2.0)
