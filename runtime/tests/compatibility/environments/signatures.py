# SPDX-License-Identifier: BSD-3-Clause
"""Declares its methods in unusual ways: decorated, with other parameter names, positional-only."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Turn(Action):
    degrees: float


class Heading(Observation):
    given: dict[str, Any] = {}


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def counting(*args: Any, **kwargs: Any) -> Any:
        args[0].calls += 1
        return method(*args, **kwargs)

    return counting


class Ship(Environment[Turn, Heading, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True
    calls = 0

    @_counted
    def reset(this, *, level: int = 1) -> Heading:  # type: ignore[override] # noqa: N805
        return Heading(given={"level": level})

    @_counted
    def step(this, turn: Turn, /, hint: str = "", *more: Any) -> Heading:  # type: ignore[override] # noqa: N805
        return Heading(given={"degrees": turn.degrees, "hint": hint, "more": list(more)})

    @property
    def state(self) -> State:
        return State(episode_id="ship", step_count=self.calls)


app = create_app(Ship, Turn, Heading, max_concurrent_envs=4)
