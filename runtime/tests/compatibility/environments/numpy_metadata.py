# SPDX-License-Identifier: BSD-3-Clause
"""Metadata with numpy values, as simulators return them."""

from typing import Any

import numpy as np
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Push(Action):
    force: float = 1.0


class Position(Observation):
    x: float = 0.0


class Cart(Environment[Push, Position, State]):
    def __init__(self) -> None:
        super().__init__()
        self._x = np.float64(0.0)
        self._steps = 0

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Position:
        self._x, self._steps = np.float64(0.0), 0
        return Position(metadata={"low": np.float32(-1.5)})

    def step(self, action: Push, timeout_s: float | None = None, **kwargs: Any) -> Position:
        self._x += action.force
        self._steps += 1
        metadata = {"velocity": np.array([action.force, 0.0]), "steps": np.int64(self._steps)}
        return Position(
            x=float(self._x),
            reward=float(self._x),
            done=bool(self._x > 2),
            metadata=metadata,
        )

    @property
    def state(self) -> State:
        return State(episode_id="cart", step_count=self._steps)


app = create_app(Cart, Push, Position)
