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
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
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


class _Awaiting:
    """Makes a state awaitable, and equal to a plain one."""

    __slots__ = ()  # so that the class of a plain state can be changed: see `awaitable_state`

    def __await__(self) -> "Generator[Any, None, Self]":
        return self
        yield

    def __eq__(self, other: object) -> bool:
        plain = _plain(self)
        return bool(super().__eq__(other) if plain is self else plain == _plain(_settled(other)))

    __hash__ = None  # type: ignore[assignment]


class _AwaitingOnly(_Awaiting):
    """The same, for classes made on the spot: no other process could unpickle them."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (_plain(self),)


class AwaitableState(_Awaiting, State):
    """A `State` that a type checker lets you await; awaiting it gives itself.

    `env.state()` returns an awaitable instance of any class of states, so this one is needed only
    in a client's declaration, for type checkers to accept `await env.state()`:

    class MyEnv(SessionClient[MyAction, MyObservation, AwaitableState]): ...

    With `MyState` there, they know the fields of `MyState` instead.
    """


def awaitable_state(state: Any) -> Any:
    """`state` itself, made an instance of an awaitable subclass of its class."""
    kind: Any = type(state)
    if isinstance(state, State) and not hasattr(kind, "__await__"):
        object.__setattr__(state, "__class__", _awaitable_class(kind))
    return state


_plain_classes: dict[type, type[State]] = {AwaitableState: State}  # by awaitable class


@cache
def _awaitable_class(model: type[State]) -> type[State]:
    made = _subclass(_AwaitingOnly, model)
    _plain_classes[made] = model
    return made


@cache
def pending_state_class(model: type[State]) -> "Callable[[Call[Any]], Any]":
    """The class of what stands for a state of class `model`."""
    return _subclass(_PendingModel, model)


def _subclass(mixin: type, model: type[State]) -> type[State]:
    names = {"__module__": model.__module__, "__qualname__": model.__qualname__}
    metaclass: Any = type(model)
    made: type[State] = metaclass(model.__name__, (mixin, model), names)
    return made


def _plain(value: Any) -> Any:
    """A copy of an awaitable state as an instance of its plain class; other values as they are."""
    plain_class = _plain_classes.get(type(value))
    if plain_class is None:
        return value
    plain = plain_class.__new__(plain_class)
    plain.__setstate__(value.__getstate__())
    return plain


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


class _PendingModel(_Pending):
    """The same for models, which have copying methods of their own."""

    def __copy__(self) -> Any:
        return copy(_call_of(self).read())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(_call_of(self).read(), memo)


class PendingStepResult(_Pending, AwaitableStepResult[ObsT]):
    """Stands for a `StepResult`."""

    @property
    def error(self) -> BaseException | None:
        return _call_of(self).failure()


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
    if isinstance(value, _Pending | PendingValue):
        return _call_of(value).read()
    return value
