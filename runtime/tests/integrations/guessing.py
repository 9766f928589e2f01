# SPDX-License-Identifier: BSD-3-Clause
"""An author's environment with other types of fields, whose episodes end."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
from typing import Any, Literal

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from stepwire.client import SessionClient
from stepwire.server import create_app


class Guess(Action):
    number: int = Field(ge=0, le=9)
    mood: Literal["bold", "shy"] = "shy"


class Answer(Observation):
    right: bool = False
    far_by: float = Field(default=0.0, ge=0, le=9)
    guesses: list[int] = Field(default_factory=list)
    mood: Literal["bold", "shy"] = "shy"


class Guessing(Environment[Guess, Answer, State]):
    """The number to guess is the seed's last digit."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, **_: Any) -> Answer:  # type: ignore[override]
        self._number = (seed or 0) % 10
        self._guesses: list[int] = []
        return Answer()

    def step(self, action: Guess, **_: Any) -> Answer:  # type: ignore[override]
        self._guesses.append(action.number)
        right = action.number == self._number
        return Answer(
            right=right,
            far_by=abs(action.number - self._number),
            guesses=self._guesses,
            mood=action.mood,
            reward=float(right),
            done=right,
        )

    @property
    def state(self) -> State:
        return State(step_count=len(self._guesses))


class GuessingEnv(SessionClient[Guess, Answer, State]):
    pass


app = create_app(Guessing, Guess, Answer)
