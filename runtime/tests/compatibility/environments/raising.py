# SPDX-License-Identifier: BSD-3-Clause
"""Raises on request: in `reset`, `step`, `state` and `close`."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Touch(Action):
    what: str


class Felt(Observation):
    what: str = ""


class Fragile(Environment[Touch, Felt, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state_raises = False

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Felt:
        if seed == 13:
            raise ValueError("an unlucky seed")
        return Felt(what="reset")

    def step(self, action: Touch, timeout_s: float | None = None, **kwargs: Any) -> Felt:
        self._state_raises = action.what == "state"
        if action.what == "glass":
            raise RuntimeError("broken")
        if action.what == "wire":
            raise KeyError("wire")
        return Felt(what=action.what, reward=1.0)

    @property
    def state(self) -> State:
        if self._state_raises:
            raise RuntimeError("no state")
        return State(episode_id="fragile")

    def close(self) -> None:
        raise RuntimeError("cannot close")


app = create_app(Fragile, Touch, Felt, max_concurrent_envs=4)
