# SPDX-License-Identifier: BSD-3-Clause
"""States that may be awaited, of whatever class the author declared.

Awaiting needs a method of the class. So a state becomes an instance of a subclass that is made on
the spot, has the name of the author's class, and differs from it only in being awaitable.
"""

from collections.abc import Callable
from copy import copy, deepcopy
from functools import cache
from typing import Any

from openenv.core.env_server.types import State

from stepwire.client.calls import Call
from stepwire.client.results import Pending, Settled, call_of, settled


class _Awaitable(Settled):
    """Makes a state awaitable, and equal to a plain one."""

    __slots__ = ()  # instances of a plain class can become instances of its awaitable subclass

    def __eq__(self, other: object) -> bool:
        plain = _plain(self)
        return bool(super().__eq__(other) if plain is self else plain == _plain(settled(other)))

    __hash__ = Settled.__hash__


class _AwaitableHere(_Awaitable):
    """The same, for classes made on the spot. They are pickled as their plain class."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return copy, (_plain(self),)


class AwaitableState(_Awaitable, State):
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
    """Stands for a state. Models have copying methods of their own, so it needs them as well."""

    def __copy__(self) -> Any:
        return copy(call_of(self).read())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return deepcopy(call_of(self).read(), memo)


@cache
def pending_state_class(model: type[State]) -> Callable[[Call[Any]], Any]:
    """The class of what stands for a state of class `model`."""
    return _subclass(_PendingState, model)


def _subclass(mixin: type, model: type[State]) -> type[State]:
    names: dict[str, Any] = {"__module__": model.__module__, "__qualname__": model.__qualname__}
    if mixin.__hash__ is not None:
        names["__hash__"] = mixin.__hash__  # or pydantic would hash the fields of a frozen model
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
