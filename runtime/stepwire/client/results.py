# SPDX-License-Identifier: BSD-3-Clause
"""Calls made on a running event loop, where nobody can tell yet whether they will be awaited.

`env.step(action)` looks the same in a notebook, which reads the result, and in a coroutine, which
awaits it. So there the call is only noted down. Awaiting it performs it without blocking the loop;
reading it performs it on the spot; left alone, it is performed when the loop gets round to it.
Calls of one client are performed in the order in which they were made.
"""

import inspect
import logging
from collections.abc import Callable, Coroutine, Generator, Iterator
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from openenv.core.client_types import StepResult
from openenv.core.env_server.types import State

logger = logging.getLogger("stepwire.client")

if TYPE_CHECKING:
    from typing_extensions import Self

ObsT = TypeVar("ObsT")
ResultT = TypeVar("ResultT")


@dataclass
class AwaitableStepResult(StepResult[ObsT]):
    """A `StepResult` with metadata on every generation of OpenEnv; awaiting it gives itself."""

    metadata: dict[str, Any] | None = None

    @property
    def error(self) -> BaseException | None:
        """What reading the other fields raises: always `None`, but for results of a pool."""
        return None

    def __await__(self) -> "Generator[Any, None, Self]":
        return self
        yield  # makes this a generator, as `await` wants it


class AwaitableState(State):
    """A `State`; awaiting it gives itself."""

    def __await__(self) -> "Generator[Any, None, Self]":
        return self
        yield


class AwaitableList(list[ResultT]):
    """A list; awaiting it gives itself."""

    def __await__(self) -> "Generator[Any, None, Self]":
        return self
        yield


class Performer(Protocol):
    """What performs the calls of one client, in order."""

    def perform_up_to(self, call: "Call[Any]") -> None: ...

    def perform_up_to_async(self, call: "Call[Any]") -> Coroutine[Any, Any, None]: ...


class Call(Generic[ResultT]):
    """One request and, once performed, its result or the exception it raised."""

    # Here rather than in `__init__`: a step is hardly more than a few dozen of such lines.
    is_done = False
    error: BaseException | None = None
    pauses: Iterator[float] | None = None  # of the performer, before it tries again
    _coroutine: Coroutine[Any, Any, ResultT] | None = None
    _unread: "_Unread | None" = None
    _result: ResultT

    def __init__(
        self,
        performer: Performer,
        request: bytes,
        parse: Callable[[bytes], ResultT],
        *,
        starts_episode: bool = False,
    ) -> None:
        self.performer = performer
        self.request = request
        self.starts_episode = starts_episode  # then it may open a new session for a lost one
        self._parse = parse

    def finish(self, reply: bytes) -> None:
        """Take the reply. Raises what is wrong with it; then the call is not done."""
        self._result = self._parse(reply)
        self.is_done = True

    def fail(self, error: BaseException) -> None:
        """Give the call up; the error is kept for whoever asks for the result."""
        self.error = error
        self._unread = _Unread(error)
        self.is_done = True

    def outcome(self) -> ResultT:
        """The result of a call that is done, or its exception raised."""
        if self.error is not None:
            self.was_asked_for()
            raise self.error
        return self._result

    def read(self) -> ResultT:
        """The result, performing the call on the spot if need be."""
        if not self.is_done:
            self.performer.perform_up_to(self)
        return self.outcome()

    async def wait(self) -> ResultT:
        """The result, performing the call without blocking the loop if need be."""
        if not self.is_done:
            await self.performer.perform_up_to_async(self)
        return self.outcome()

    def as_coroutine(self) -> Coroutine[Any, Any, ResultT]:
        """`wait`, as one and the same coroutine until that has ended."""
        if (
            self._coroutine is None
            or inspect.getcoroutinestate(self._coroutine) == inspect.CORO_CLOSED
        ):
            self._coroutine = self.wait()
        return self._coroutine

    def failure(self) -> BaseException | None:
        """What reading the result would raise, performing the call if need be."""
        if not self.is_done:
            self.performer.perform_up_to(self)
        self.was_asked_for()
        return self.error

    def was_asked_for(self) -> None:
        """Somebody knows how it went: a failure need not be logged."""
        if self._unread is not None:
            self._unread.error = None


class _Unread:
    """A failure that nobody asked for yet. If nobody does, the log is told, as of lost tasks."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            logger.error("A call failed, and its result was never read: %s", self.error)


_get, _set = object.__getattribute__, object.__setattr__


class _Awaitable:
    """What may be awaited for the result of a call, also again.

    It is a coroutine, as the stock client's results are (`asyncio.create_task(env.step(…))`).
    """

    def __await__(self) -> Generator[Any, None, Any]:
        call: Call[Any] = _get(self, "_call")
        if not call.is_done:
            yield from call.performer.perform_up_to_async(call).__await__()
        return call.outcome()

    def send(self, value: Any) -> Any:
        return _call_of(self).as_coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        return _call_of(self).as_coroutine().throw(*error)

    def close(self) -> None:
        _call_of(self).as_coroutine().close()


class _Pending(_Awaitable):
    """What stands for the result of a call that may not have been performed yet.

    Whatever is asked of it is asked of the result, but for how to await it.
    """

    def __init__(self, call: Call[Any]) -> None:
        _set(self, "_call", call)

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return _get(self, name)
        return getattr(_call_of(self).read(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_call_of(self).read(), name, value)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (_call_of(self).read(),)

    def __eq__(self, other: object) -> bool:
        return bool(_call_of(self).read() == _settled(other))

    __hash__ = object.__hash__  # `asyncio.gather` puts what it is given into a dict

    def __repr__(self) -> str:
        return repr(_call_of(self).read())


class PendingStepResult(_Pending, AwaitableStepResult[ObsT]):
    """Stands for a `StepResult`."""

    @property
    def error(self) -> BaseException | None:
        return _call_of(self).failure()


class PendingState(_Pending, AwaitableState):
    """Stands for a `State`."""


class PendingValue(_Awaitable, Generic[ResultT]):
    """Stands for any other value, such as a tool's result: await it, or use it like the value.

    Of which type that will be, nobody knows before: where it has to be a `str` or `list` itself,
    for `isinstance` or `json.dumps`, await it.
    """

    def __init__(self, call: Call[ResultT]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call.read(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._call.read()[key]  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._call.read())  # type: ignore[call-overload, no-any-return]

    def __len__(self) -> int:
        return len(self._call.read())  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return bool(self._call.read())

    def __contains__(self, item: Any) -> bool:
        return item in self._call.read()  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        return bool(self._call.read() == _settled(other))

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return str(self._call.read())

    def __repr__(self) -> str:
        return repr(self._call.read())


_OWN = frozenset(
    {"__class__", "__await__", "__reduce_ex__", "_call", "close", "error", "send", "throw"}
)


def _call_of(pending: Any) -> Call[Any]:
    call: Call[Any] = _get(pending, "_call")
    return call


def _settled(value: Any) -> Any:
    if isinstance(value, PendingStepResult | PendingState | PendingValue):
        return _call_of(value).read()
    return value
