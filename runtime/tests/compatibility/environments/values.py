# SPDX-License-Identifier: BSD-3-Clause
"""Observations with many types: dates, decimals, sets, enumerations, aliases, computed fields."""

import datetime
import decimal
import enum
import uuid
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, Field, computed_field, field_serializer

from compatibility.served_by import create_app


class Color(enum.Enum):
    RED = "red"


class Base(BaseModel):
    name: str = "base"


class Special(Base):
    extra: int = 3


class Give(Action):
    kind: str = ""


class Given(Observation):
    model_config = {"extra": "allow", "populate_by_name": True}
    when: datetime.datetime = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    span: datetime.timedelta = datetime.timedelta(minutes=90)
    price: decimal.Decimal = decimal.Decimal("1.10")
    key: uuid.UUID = uuid.UUID(int=5)
    tags: set[str] = {"one"}
    pair: tuple[int, str] = (1, "a")
    color: Color = Color.RED
    base: Base = Special()
    by_number: dict[int, str] = {1: "one"}
    renamed: int = Field(1, alias="reNamed")
    hidden: str = Field("secret", exclude=True)
    shouted: str = "quiet"

    @computed_field
    def length(self) -> int:
        return len(self.tags)

    @field_serializer("shouted")
    def _shout(self, value: str) -> str:
        return value.upper()


class Other(Observation):
    text: str = "another class"


class Giving(Environment[Give, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        return Given()

    def step(self, action: Give, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        match action.kind:
            case "other":
                return Other()
            case "bare":
                return Observation(reward=1)
            case "more":
                return Given(added=[Color.RED, datetime.date(2026, 5, 6)], reward=True)
            case "infinite":
                return Given(added=float("inf"))
            case "not a number":
                return Given(reward=float("nan"))
            case "nothing":
                return None  # type: ignore[return-value]
            case "dictionary":
                return {"text": "a dictionary"}  # type: ignore[return-value]
        return Given(metadata={"color": Color.RED, "cost": decimal.Decimal("2.5")})

    @property
    def state(self) -> Any:
        return None


app = create_app(Giving, Give, Given, max_concurrent_envs=4)
