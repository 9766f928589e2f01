# SPDX-License-Identifier: BSD-3-Clause
"""An environment that returns what it is sent: its clients decide about the fields."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import ConfigDict

from stepwire.server import create_app


class Anything(Action):
    model_config = ConfigDict(extra="allow")


class Same(Observation):
    model_config = ConfigDict(extra="allow")


class Mirror(Environment[Anything, Same, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self, **_: Any) -> Same:  # type: ignore[override]
        self._state = State()
        return Same()

    def step(self, action: Anything, **_: Any) -> Same:  # type: ignore[override]
        self._state.step_count += 1
        return Same(**(action.model_extra or {}), reward=1.0)

    @property
    def state(self) -> State:
        return self._state


app = create_app(Mirror, Anything, Same, max_concurrent_envs=8)
