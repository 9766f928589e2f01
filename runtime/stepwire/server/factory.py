# SPDX-License-Identifier: BSD-3-Clause
"""`EnvironmentFactory`: makes the environments, and knows their class.

The class is known at once where the author passes a class, or a function whose return type is
annotated. Otherwise it is known from the first session on: the server makes no environment just to
find out, because a backend that the environment needs may not be up yet.
"""

import inspect
import typing
from collections.abc import Callable
from functools import partial
from typing import Any

from openenv.core.env_server.interfaces import Environment

from stepwire.server.calling import AnyEnvironment


class EnvironmentFactory:
    """Makes environments, one for each session."""

    def __init__(self, make: Callable[[], AnyEnvironment]) -> None:
        """Raises `TypeError` when `make` cannot be called."""
        if not callable(make):
            raise TypeError(
                f"env must be a callable that makes an environment; {type(make).__name__} cannot "
                "be called. Pass the environment class, not an instance."
            )
        self.make = make
        self._source: Any = make
        while isinstance(self._source, partial):
            self._source = self._source.func
        self.environment_cls = _declared_class(self._source)
        """`None` as long as it is not known."""
        self._waiting: list[Callable[[type[AnyEnvironment]], None]] = []

    @property
    def name(self) -> str:
        """Name of the class or function, for users."""
        return str(getattr(self._source, "__name__", type(self._source).__name__))

    @property
    def module(self) -> str:
        """Module of the environment's class or, as long as that is not known, of the function."""
        source = self.environment_cls or self._source
        return str(getattr(source, "__module__", None) or type(source).__module__)

    def when_known(self, use: Callable[[type[AnyEnvironment]], None]) -> None:
        """Call `use` with the environment's class: now, or when the first environment is made.

        An exception of `use` is raised here, or in every session until `use` succeeds.
        """
        if self.environment_cls is None:
            self._waiting.append(use)
        else:
            use(self.environment_cls)

    def note(self, environment: AnyEnvironment) -> None:
        """Learn the class from an environment that was made."""
        if self.environment_cls is None:
            for use in self._waiting:
                use(type(environment))
            self.environment_cls = type(environment)


def _declared_class(source: Any) -> type[AnyEnvironment] | None:
    """The class itself, or the class that a function is annotated to return; no abstract class."""
    if isinstance(source, type):
        return source
    function = source if inspect.isroutine(source) else type(source).__call__
    try:
        declared = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - an annotation may name what only type checkers import
        return None
    declared = typing.get_origin(declared) or declared
    if isinstance(declared, type) and issubclass(declared, Environment):
        return None if inspect.isabstract(declared) else declared
    return None
