# SPDX-License-Identifier: BSD-3-Clause
"""Describes itself with `get_metadata`; its models have descriptions, bounds and examples."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import ConfigDict, Field

from compatibility.served_by import create_app


class Play(Action):
    """A card to play."""

    card: str = Field(description="The card", examples=["ace"], min_length=1)
    raise_by: int = Field(0, ge=0, le=100, alias="raiseBy")
    model_config = ConfigDict(populate_by_name=True)


class Table(Observation):
    """What lies on the table."""

    cards: list[str] = Field(default_factory=list, description="All cards")
    model_config = ConfigDict(extra="allow")


class Poker(Environment[Play, Table, State]):
    """Cards."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Table:
        return Table()

    def step(self, action: Play, timeout_s: float | None = None, **kwargs: Any) -> Table:
        return Table(cards=[action.card], pot=action.raise_by, reward=0.5)

    @property
    def state(self) -> State:
        return State(episode_id="poker")

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(
            name="Poker", description="Cards", version="2.1.0", author="The authors"
        )


app = create_app(Poker, Play, Table, env_name="poker", max_concurrent_envs=4)
