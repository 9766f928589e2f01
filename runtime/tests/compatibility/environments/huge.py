# SPDX-License-Identifier: BSD-3-Clause
"""Observations of a megabyte, and with unusual characters."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Ask(Action):
    text: str = ""
    kilobytes: int = 0


class Text(Observation):
    text: str = ""
    numbers: list[float] = []


class Printing(Environment[Ask, Text, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Text:
        return Text(text='é😀\u2028\u0000"\\', numbers=[1e300, 5e-324, -0.0, 1e16, 0.1])

    def step(self, action: Ask, timeout_s: float | None = None, **kwargs: Any) -> Text:
        return Text(text=action.text + "a" * (1024 * action.kilobytes), reward=0.1 + 0.2)

    @property
    def state(self) -> State:
        return State(episode_id="huge")


app = create_app(Printing, Ask, Text, max_concurrent_envs=4)
