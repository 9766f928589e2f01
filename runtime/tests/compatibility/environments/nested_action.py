# SPDX-License-Identifier: BSD-3-Clause
"""Actions with enumerations, literals, optional fields, unions and nested models."""

from enum import Enum
from typing import Annotated, Any, Literal

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, Field, field_validator

from compatibility.served_by import create_app


class Direction(str, Enum):
    NORTH = "north"
    SOUTH = "south"


class Press(BaseModel):
    kind: Literal["press"]
    key: Literal["a", "b"]


class Move(BaseModel):
    kind: Literal["move"]
    direction: Direction
    distance: Annotated[int, Field(ge=1, le=9)] = 1


class Order(Action):
    command: Annotated[Press | Move, Field(discriminator="kind")]
    repeat: int | str = 1
    note: str | None = None
    then: list[Move] = []

    @field_validator("note")
    @classmethod
    def _is_short(cls, note: str | None) -> str | None:
        if note and len(note) > 10:
            raise ValueError("a note has at most 10 characters")
        return note


class Log(Observation):
    did: list[dict[str, Any]] = []
    facing: Direction = Direction.NORTH


class Robot(Environment[Order, Log, State]):
    def __init__(self) -> None:
        super().__init__()
        self._steps = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Log:
        self._steps = 0
        return Log()

    def step(self, action: Order, timeout_s: float | None = None, **kwargs: Any) -> Log:
        self._steps += 1
        facing = next((each.direction for each in reversed(action.then)), Direction.SOUTH)
        return Log(did=[action.model_dump()], facing=facing, reward=float(action.repeat))

    @property
    def state(self) -> State:
        return State(episode_id="robot", step_count=self._steps)


app = create_app(Robot, Order, Log)
