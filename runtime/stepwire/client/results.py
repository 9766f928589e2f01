# SPDX-License-Identifier: BSD-3-Clause
"""Results that may be awaited or read as they are.

`env.step(action)` looks the same in a notebook, which reads the result, and in a coroutine, which
awaits it. So on a running event loop the call is only deferred, and a pending result is returned.
Awaiting that performs the call without blocking the loop, and reading it performs the call on the
spot. A call whose result is neither awaited nor read is performed by the loop soon after; this
blocks it, as reading does, unless the client's last call was awaited. The calls of one client are
performed in the order in which they were made.

States are of whatever class the author declared, and awaiting needs a method of the class. So a
state becomes an instance of a subclass that is made on the spot, has the name of the author's
class, and differs from it only in being awaitable.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from openenv.core.client_types import StepResult
from openenv.core.env_server.types import State

from stepwire.client.calls import Call

if TYPE_CHECKING:
    from typing_extensions import Self

ObsT = TypeVar("ObsT")
ResultT = TypeVar("ResultT")


class Settled:
    """Awaiting it gives itself. It is a coroutine that has ended, as `asyncio.run(…)` wants one."""

    __slots__ = ()
    __hash__ = object.__hash__  # `asyncio.gather` puts its arguments into a dict

    def __await__(self) -> "Generator[Any, None, Self]":
        return self
        yield  # makes this a generator function

    def send(self, value: Any) -> Any:
        raise StopIteration(self)

    def throw(self, error: Any, *_: Any) -> Any:
        raise error

    def close(self) -> None:
        """Does nothing, as with any coroutine that has ended."""

    def __dir__(self) -> list[str]:
        return without_coroutine_names(super().__dir__())


@dataclass(eq=False)
class AwaitableStepResult(Settled, StepResult[ObsT]):
    """A `StepResult` with the observation's metadata; awaiting it gives itself.

    It equals a plain `StepResult` of the same observation, with or without the metadata.
    """

    metadata: dict[str, Any] | None = None
    __hash__ = Settled.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepResult):
            return NotImplemented
        its: Any = settled(other)
        metadata = getattr(its, "metadata", None)  # which not every release has
        return (self.observation, self.reward, self.done) == (
            its.observation,
            its.reward,
            its.done,
        ) and (metadata is None or metadata == self.metadata)

    @property
    def error(self) -> BaseException | None:
        """The exception that reading any other field raises, `None` for a step that succeeded."""
        return None


class AwaitableList(Settled, list[ResultT]):  # type: ignore[misc] # may be hashed
    """A list; awaiting it gives itself."""


class AwaitedAsCoroutine:
    """Makes an awaitable with a method `close` a coroutine for `asyncio.iscoroutine`.

    `AutoEnv` passes what `from_docker_image` returns to `asyncio.run`.
    """

    _being_awaited: Generator[Any, None, Any] | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        raise NotImplementedError

    def send(self, value: Any) -> Any:
        """Part of the protocol of coroutines, for `asyncio`."""
        return self._go_on_awaiting("send", value)

    def throw(self, *error: Any) -> Any:
        """Part of the protocol of coroutines, for `asyncio`."""
        return self._go_on_awaiting("throw", *error)

    def _go_on_awaiting(self, how: str, *arguments: Any) -> Any:
        if self._being_awaited is None:
            self._being_awaited = self.__await__()
        try:
            return getattr(self._being_awaited, how)(*arguments)
        except BaseException:
            self._being_awaited = None
            raise

    def __dir__(self) -> list[str]:
        return without_coroutine_names(super().__dir__())


class Closed(Settled):
    """The result of `close()`: nothing, but awaitable."""

    def __repr__(self) -> str:
        return "<closed>"

    def __await__(self) -> Generator[Any, None, None]:  # type: ignore[override]
        return
        yield

    def send(self, value: Any) -> Any:
        raise StopIteration


def without_coroutine_names(names: Iterable[str]) -> list[str]:
    """Names without those that only make an object a coroutine: completion leaves them out."""
    return [name for name in names if name not in ("send", "throw")]


_get, _set = object.__getattribute__, object.__setattr__


class _Awaitable:
    """Awaits the result of a call, any number of times.

    It is a coroutine, as the results of the stock client are: `asyncio.create_task(env.step(…))`.
    """

    def __await__(self) -> Generator[Any, None, Any]:
        call: Call[Any] = _get(self, "_call")
        if not call.is_done:
            yield from call.performer.perform_up_to_async(call).__await__()
        return call.outcome()

    def send(self, value: Any) -> Any:
        return call_of(self).as_coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        return call_of(self).as_coroutine().throw(*error)

    def close(self) -> None:
        call_of(self).as_coroutine().close()


class Pending(_Awaitable):
    """Stands for the result of a call that may not have been performed yet.

    Forwards attribute access to the result; only the awaitable protocol is its own.
    """

    def __init__(self, call: Call[Any]) -> None:
        _set(self, "_call", call)

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return _get(self, name)
        return getattr(call_of(self).read(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(call_of(self).read(), name, value)

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (call_of(self).read(),)

    def __eq__(self, other: object) -> bool:
        return bool(call_of(self).read() == settled(other))

    __hash__ = object.__hash__  # `asyncio.gather` puts its arguments into a dict

    def __repr__(self) -> str:
        return repr(call_of(self).read())


class PendingStepResult(Pending, AwaitableStepResult[ObsT]):
    """Stands for a `StepResult`."""

    __class__ = AwaitableStepResult  # type: ignore[assignment] # of which `replace` makes another

    @property
    def error(self) -> BaseException | None:
        return call_of(self).failure()


class PendingValue(_Awaitable, Generic[ResultT]):
    """Stands for any other value, such as the result of a tool.

    The type of that value is not known before the call: code that needs a real `str` or `list`, for
    `isinstance` or `json.dumps`, has to await it.
    """

    def __init__(self, call: Call[ResultT]) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        if name in _OF_COROUTINES:
            raise AttributeError(name)
        return getattr(self._call.read(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._call.read()[key]  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._call.read())  # type: ignore[call-overload, no-any-return]

    def __len__(self) -> int:
        return len(self._call.read())  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        # Newer Pythons ask this of the coroutine of a task in order to show the task.
        return self._call.is_of_a_task or bool(self._call.read())

    def __contains__(self, item: Any) -> bool:
        return item in self._call.read()  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        return bool(self._call.read() == settled(other))

    __hash__ = object.__hash__

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (self._call.read(),)

    def __format__(self, how: str) -> str:
        return format(self._call.read(), how)

    def __str__(self) -> str:
        return str(self._call.read())

    def __repr__(self) -> str:
        return repr(self._call.read())


# What asyncio asks of a coroutine in order to show a task, as it does in debug mode: no result has
# it, and asking must not perform the call.
_OF_COROUTINES = {
    *("cr_code", "cr_frame", "cr_running", "cr_await", "ag_code", "ag_frame"),
    *("gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "__name__", "__qualname__"),
}
_OWN = _OF_COROUTINES | {
    *("__class__", "__await__", "__reduce_ex__", "_call", "close", "error", "send", "throw"),
}


def call_of(pending: Any) -> Call[Any]:
    """The call of a pending result; does not perform it."""
    call: Call[Any] = _get(pending, "_call")
    return call


def settled(value: Any) -> Any:
    """The result that a pending one stands for; other values as they are."""
    if isinstance(value, Pending | PendingValue):
        return call_of(value).read()
    return value


# States.


class _SettledState(Settled):
    """Makes a state awaitable, and equal to a plain one."""

    __slots__ = ()  # instances of a plain class can become instances of its awaitable subclass

    def __eq__(self, other: object) -> bool:
        plain = _plain(self)
        return bool(super().__eq__(other) if plain is self else plain == _plain(settled(other)))

    __hash__ = Settled.__hash__


class _AwaitableHere(_SettledState):
    """The same for classes that are made at run time. They are pickled as their plain class."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (_plain(self),)


class AwaitableState(_SettledState, State):
    """A `State` that type checkers let you await; awaiting it gives itself.

    Only type checkers need it. `env.state()` returns an instance of whatever class of states a
    client declares, and that instance can always be awaited, but a checker does not know so. A
    client that declares this class instead of `State` type-checks with `await env.state()`:

    class MyEnv(SessionClient[MyAction, MyObservation, AwaitableState]): ...

    A client that declares a class of its own, such as `MyState`, has its fields type-checked
    instead.
    """


_plain_classes: dict[type, type[State]] = {AwaitableState: State}  # by awaitable class


def awaitable_state(state: Any) -> Any:
    """`state` itself, after its class has become an awaitable subclass of its class."""
    model: Any = type(state)
    if isinstance(state, State) and not hasattr(model, "__await__"):
        object.__setattr__(state, "__class__", _awaitable_class(model))
    return state


@cache
def _awaitable_class(model: type[State]) -> type[State]:
    made = _subclass(_AwaitableHere, model)
    _plain_classes[made] = model
    return made


class _PendingState(Pending):
    """Proxy for a state. Models define copying methods, so the proxy defines them too."""

    def __copy__(self) -> Any:
        return copy(call_of(self).read())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(call_of(self).read(), memo)


@cache
def pending_state_class(model: type[State]) -> Callable[[Call[Any]], Any]:
    """The class of proxies for states of class `model`."""
    return _subclass(_PendingState, model)


def _subclass(mixin: type, model: type[State]) -> type[State]:
    names: dict[str, Any] = {"__module__": model.__module__, "__qualname__": model.__qualname__}
    if mixin.__hash__ is not None:
        names["__hash__"] = mixin.__hash__  # pydantic's would hash the fields of a frozen model
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
