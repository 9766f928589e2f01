# SPDX-License-Identifier: BSD-3-Clause
"""The classes of an environment's messages: given by its author or found in its annotations."""

import typing
from dataclasses import dataclass
from typing import Any

from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State


@dataclass(frozen=True)
class Models:
    """The classes that `/schema` and `/openapi.json` describe."""

    action: type[Action]
    observation: type[Observation]
    reset_observation: type[Observation]
    state: type[State]


def models_of(
    environment_cls: type[Any] | None,
    action_cls: type[Action] | None,
    observation_cls: type[Observation] | None,
    reset_observation_cls: type[Observation] | None,
    state_cls: type[State],
) -> Models:
    """The classes to describe. Without an action class, the environment's only actions are tools.

    Without a class for the first observation, it is that of all; `State` stands for the class in
    the environment's annotations, as far as it has them.
    """
    observation = observation_cls or CallToolObservation
    if state_cls is State:
        state_cls = _annotated_state(environment_cls) or State
    return Models(
        action=action_cls or CallToolAction,
        observation=observation,
        reset_observation=reset_observation_cls or observation,
        state=state_cls,
    )


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
