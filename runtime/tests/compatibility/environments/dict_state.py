# SPDX-License-Identifier: BSD-3-Clause
"""Its `state` is a dictionary; its rewards are booleans, integers and `None`."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation

from compatibility.served_by import create_app


class Move(Action):
    to: str = "rest"


class Place(Observation):
    at: str = "start"


REWARDS: dict[str, bool | int | float | None] = {"gate": True, "hall": 3, "roof": -1.0}


class Walking(Environment[Move, Place, Any]):
    def __init__(self) -> None:
        super().__init__()
        self._visited: list[str] = []

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Place:
        self._visited = ["start"]
        return Place()

    def step(self, action: Move, timeout_s: float | None = None, **kwargs: Any) -> Place:
        self._visited.append(action.to)
        return Place(at=action.to, reward=REWARDS.get(action.to))

    @property
    def state(self) -> Any:
        return {"visited": list(self._visited), "step_count": len(self._visited)}


app = create_app(Walking, Move, Place)
