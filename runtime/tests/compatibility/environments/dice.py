# SPDX-License-Identifier: BSD-3-Clause
"""A stochastic game: equal seeds give equal games."""

import random
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Roll(Action):
    dice: int = 1


class Rolled(Observation):
    eyes: list[int] = []
    luck: float = 0.0


class Dice(Environment[Roll, Rolled, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)
        self._steps = 0

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Rolled:
        self._random = random.Random(seed or 0)
        self._steps = 0
        return Rolled(luck=self._random.random())

    def step(self, action: Roll, timeout_s: float | None = None, **kwargs: Any) -> Rolled:
        self._steps += 1
        eyes = [self._random.randint(1, 6) for _ in range(action.dice)]
        luck = self._random.gauss(0, 1e-7)
        return Rolled(eyes=eyes, luck=luck, reward=sum(eyes) / 3, done=sum(eyes) > 30)

    @property
    def state(self) -> State:
        return State(episode_id="dice", step_count=self._steps)


app = create_app(Dice, Roll, Rolled, max_concurrent_envs=4)
