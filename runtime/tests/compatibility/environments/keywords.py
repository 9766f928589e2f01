# SPDX-License-Identifier: BSD-3-Clause
"""Its `reset` and `step` declare keywords of their own and take no others."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Turn(Action):
    degrees: float


class Heading(Observation):
    degrees: float = 0.0
    given: dict[str, Any] = {}


class Ship(Environment[Turn, Heading, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(
        self, level: int = 1, *, wind: str = "none", episode_id: str | None = None
    ) -> Heading:
        return Heading(given={"level": level, "wind": wind, "episode_id": episode_id})

    def step(
        self, action: Turn, timeout_s: float | None = None, hint: str | None = None
    ) -> Heading:
        return Heading(degrees=action.degrees, given={"timeout_s": timeout_s, "hint": hint})

    @property
    def state(self) -> State:
        return State(episode_id="ship")


app = create_app(Ship, Turn, Heading, max_concurrent_envs=4)
