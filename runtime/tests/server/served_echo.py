# SPDX-License-Identifier: BSD-3-Clause
"""An environment that answers with what it got, as the attacks of `attacks.py` expect."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from stepwire.server import create_app


class Say(Action):
    message: str


class Heard(Observation):
    message: str = ""


class Echo(Environment[Say, Heard, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True
    BLOCKING = False

    def reset(self, seed: int | None = None, **arguments: Any) -> Heard:
        return Heard()

    def step(self, action: Say, timeout_s: float | None = None, **arguments: Any) -> Heard:
        text = action.message
        return Heard(message=text, metadata={"message": text})

    @property
    def state(self) -> State:
        return State()


app = create_app(Echo, Say, Heard)
