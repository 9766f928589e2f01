# SPDX-License-Identifier: BSD-3-Clause
"""No class of its own: the framework's `Action`, `Observation` and `State`."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Bare(Environment[Action, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        return Observation(metadata={"given": kwargs})

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        return Observation(reward=len(action.metadata), done=bool(action.metadata.get("end")))

    @property
    def state(self) -> State:
        return State()


app = create_app(Bare, Action, Observation, max_concurrent_envs=4)
