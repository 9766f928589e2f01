# SPDX-License-Identifier: BSD-3-Clause
"""The classes of an environment's messages: given by its author or found in its annotations."""

import typing
from typing import Any

from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State

from stepwire.server.factory import EnvironmentFactory


class Models:
    """The classes that `/schema` and `/openapi.json` describe."""

    def __init__(
        self,
        factory: EnvironmentFactory,
        action_cls: type[Action] | None,
        observation_cls: type[Observation] | None,
        reset_observation_cls: type[Observation] | None,
        state_cls: type[State],
    ) -> None:
        """Without an action class, the environment has no actions but tools."""
        self.action = action_cls or CallToolAction
        self.observation = observation_cls or CallToolObservation
        self.reset_observation = reset_observation_cls or self.observation
        self._factory = factory
        self._state_cls = state_cls

    @property
    def state(self) -> type[State]:
        """The class that was given, else the one in the environment's annotations, else `State`."""
        if self._state_cls is not State:
            return self._state_cls
        return _annotated_state(self._factory.environment_cls) or State


def _annotated_state(environment_cls: type[Any] | None) -> type[State] | None:
    """The class that `state` is annotated to return, else the one in `Environment[A, O, S]`."""
    for cls in getattr(environment_cls, "__mro__", ()):
        named = [_returned_by(vars(cls).get("state"))]
        for base in vars(cls).get("__orig_bases__", ()):
            named += typing.get_args(base)
        named = [annotation for annotation in named if annotation is not State]
        for annotation in named:
            if isinstance(annotation, type) and issubclass(annotation, State):
                return annotation
    return None


def _returned_by(attribute: Any) -> Any:
    getter = getattr(attribute, "fget", attribute)
    try:
        return typing.get_type_hints(getter).get("return")
    except Exception:  # noqa: BLE001 - an annotation may name what only type checkers import
        return None
