# SPDX-License-Identifier: BSD-3-Clause
"""Scored by an asynchronous rubric, as for a judge in another process."""

import asyncio
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.rubrics import Rubric

from compatibility.served_by import create_app


class Say(Action):
    text: str


class Heard(Observation):
    text: str = ""


class Judge(Rubric):
    async def forward(self, action: Say, observation: Heard) -> float:
        await asyncio.sleep(0.001)
        return len(observation.text) / 10


class Debate(Environment[Say, Heard, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__(rubric=Judge())

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Heard:
        self._reset_rubric()
        return Heard()

    def step(self, action: Say, timeout_s: float | None = None, **kwargs: Any) -> Heard:
        raise NotImplementedError

    async def step_async(self, action: Say, timeout_s: float | None = None, **kwargs: Any) -> Heard:
        heard = Heard(text=action.text)
        heard.reward = await self._apply_rubric_async(action, heard)
        return heard

    @property
    def state(self) -> State:
        return State(episode_id="debate")


app = create_app(Debate, Say, Heard, max_concurrent_envs=4)
