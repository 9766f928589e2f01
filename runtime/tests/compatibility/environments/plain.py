# SPDX-License-Identifier: BSD-3-Clause
"""Adds numbers: a minimal environment on the framework's own classes."""

from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Add(Action):
    amount: int


class Total(Observation):
    total: int = 0


class Adding(Environment[Add, Total, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._total = 0
        self._state = State(episode_id=str(uuid4()))

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Total:
        self._total = 0
        self._state = State(episode_id=episode_id or str(uuid4()))
        return Total(done=False, reward=0.0)

    def step(self, action: Add, timeout_s: float | None = None, **kwargs: Any) -> Total:
        self._total += action.amount
        self._state.step_count += 1
        return Total(total=self._total, reward=action.amount, metadata={"added": action.amount})

    @property
    def state(self) -> State:
        return self._state


app = create_app(Adding, Add, Total, env_name="adding", max_concurrent_envs=4)
