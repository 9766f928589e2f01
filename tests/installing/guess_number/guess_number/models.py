"""What an agent sends and what it gets back."""

from typing import Literal

from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field


class Guess(Action):
    number: int = Field(ge=1, le=100, description="The number that you think of")


class Hint(Observation):
    answer: Literal["start", "higher", "lower", "correct"] = "start"
    guesses_left: int = Field(10, ge=0, description="Guesses until the episode ends")


class GuessState(State):
    guesses: list[int] = Field(default_factory=list, description="The guesses of this episode")
