# SPDX-License-Identifier: BSD-3-Clause
"""Observations with pixels from numpy, and with bytes."""

import base64
from typing import Any

import numpy as np
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Paint(Action):
    x: int
    y: int
    color: list[int] = [255, 255, 255]


class Canvas(Observation):
    pixels: list[list[list[int]]] = []
    shape: list[int] = []
    raw: bytes = b""
    encoded: str = ""


class Painting(Environment[Paint, Canvas, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._canvas = np.zeros((6, 8, 3), dtype=np.uint8)

    def _seen(self) -> Canvas:
        data = self._canvas[:1].tobytes()
        return Canvas(
            pixels=self._canvas.tolist(),
            shape=list(self._canvas.shape),
            raw=bytes(byte & 0x7F for byte in data),
            encoded=base64.b64encode(data).decode(),
            reward=float(self._canvas.mean()),
        )

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Canvas:
        self._canvas[:] = 0
        return self._seen()

    def step(self, action: Paint, timeout_s: float | None = None, **kwargs: Any) -> Canvas:
        self._canvas[action.y, action.x] = action.color
        return self._seen()

    @property
    def state(self) -> State:
        return State(episode_id="canvas")


app = create_app(Painting, Paint, Canvas, "painting", 8)
