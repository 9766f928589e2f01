# SPDX-License-Identifier: BSD-3-Clause
"""Episodes of three steps, with the outcome as reward; further steps are refused."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Guess(Action):
    number: int


class Hint(Observation):
    hint: str = ""
    guesses_left: int = 3


class Guessing(Environment[Guess, Hint, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0
        self._done = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Hint:
        self._steps, self._done = 0, False
        return Hint(hint="1 to 9", reward=None)

    def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Hint:
        if self._done:
            return Hint(hint="reset first", done=True, reward=0, guesses_left=0)
        self._steps += 1
        self._done = action.number == 7 or self._steps == 3
        hint = "right" if action.number == 7 else "more" if action.number < 7 else "less"
        reward = (1 if hint == "right" else -1) if self._done else 0
        return Hint(hint=hint, done=self._done, reward=reward, guesses_left=3 - self._steps)

    @property
    def state(self) -> State:
        return State(episode_id="guessing", step_count=self._steps, finished=self._done)


app = create_app(Guessing, Guess, Hint, max_concurrent_envs=4)
