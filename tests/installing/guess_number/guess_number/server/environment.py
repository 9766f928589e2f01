"""The guessing game."""

import random
from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment

from guess_number.models import Guess, GuessState, Hint

GUESSES = 10


class GuessNumberEnvironment(Environment[Guess, Hint, GuessState]):
    """The agent has ten guesses to find a number between 1 and 100."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    BLOCKING = False  # its methods return at once

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Hint:
        self._number = random.Random(seed).randint(1, 100)
        self._state = GuessState(episode_id=episode_id or str(uuid4()), step_count=0)
        return Hint(guesses_left=GUESSES, reward=0.0)

    def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Hint:
        self._state.step_count += 1
        self._state.guesses.append(action.number)
        left = max(GUESSES - self._state.step_count, 0)
        if action.number == self._number:
            return Hint(answer="correct", guesses_left=left, reward=1.0, done=True)
        answer = "higher" if action.number < self._number else "lower"
        return Hint(answer=answer, guesses_left=left, reward=0.0, done=left == 0)

    @property
    def state(self) -> GuessState:
        return self._state.model_copy(deep=True)
