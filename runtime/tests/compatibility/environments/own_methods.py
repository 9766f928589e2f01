# SPDX-License-Identifier: BSD-3-Clause
"""Each instance sets its own `reset` and `step`: a partial function and an `async` one."""

from functools import partial
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Turn(Action):
    degrees: float


class Heading(Observation):
    given: dict[str, Any] = {}


class Ship(Environment[Turn, Heading, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.reset = partial(self.start, wind="west")  # type: ignore[method-assign]
        self.step_async = self.turn  # type: ignore[method-assign, assignment]

    def start(self, level: int = 1, wind: str = "none", **kwargs: Any) -> Heading:
        return Heading(given={"level": level, "wind": wind, **kwargs})

    async def turn(self, action: Turn, timeout_s: float | None = None) -> Heading:
        return Heading(given={"degrees": action.degrees, "timeout_s": timeout_s}, reward=0)

    def reset(self, *args: Any, **kwargs: Any) -> Heading:
        raise NotImplementedError

    def step(self, *args: Any, **kwargs: Any) -> Heading:
        raise NotImplementedError

    @property
    def state(self) -> State:
        return State(episode_id="ship")


app = create_app(Ship, Turn, Heading, max_concurrent_envs=4)
