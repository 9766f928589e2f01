# SPDX-License-Identifier: BSD-3-Clause
"""A game as an environment without `async` methods, for tests of the web interface.

With `REPLACE` among the variables, the author replaces the page.
"""

import os

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import threading
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router

from stepwire.server import create_app


class Guess(Action):
    number: int = Field(ge=0, le=100, description="The number to try")


class Hint(Observation):
    text: str = ""


class GuessingState(State):
    guesses: list[int] = Field(default_factory=list)


class Guessing(Environment[Guess, Hint, GuessingState]):
    """Guess a number; 98 and 99 fail."""

    name = "a number from 0 to 100"

    def __init__(self) -> None:
        super().__init__()
        self._secret: int | None = None
        self._state = GuessingState()
        self._stepping = threading.Lock()

    def reset(  # type: ignore[override]
        self, seed: int | None = None, episode_id: str | None = None, secret: int = 7
    ) -> Hint:
        self._secret = secret
        self._state = GuessingState(episode_id=episode_id or "an episode", step_count=0)
        return Hint(text=f"Guess {self.name}", metadata={"seed": seed})

    def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Hint:
        if not self._stepping.acquire(blocking=False):
            raise ValueError("Two steps at once")
        try:
            return self._answer(action.number)
        finally:
            self._stepping.release()

    def _answer(self, number: int) -> Hint:
        if number == 98:
            raise KeyError("/secret/path")
        if number == 99:
            raise ValueError("99 is never right")
        self._state.guesses.append(number)
        self._state.step_count += 1
        is_right = number == self._secret
        return Hint(text="right" if is_right else "wrong", reward=float(is_right), done=is_right)

    @property
    def state(self) -> GuessingState:
        if self._secret is None:
            raise RuntimeError("Call reset() first")
        return self._state


app = create_app(Guessing, Guess, Hint, env_name="guessing")


def _replace_page() -> None:
    """Remove the web interface and mount another page, with the same `web_manager`."""
    replaced = {"/web", "/web/reset", "/web/step", "/web/state", "/web/metadata", "/ws/ui"}
    found: dict[str, Any] = {}
    for route in app.routes:
        for cell in getattr(getattr(route, "endpoint", None), "__closure__", None) or ():
            found.setdefault(type(cell.cell_contents).__name__, cell.cell_contents)
    app.routes[:] = [route for route in app.routes if getattr(route, "path", None) not in replaced]

    async def page(_: Any) -> PlainTextResponse:
        episode = found["WebInterfaceManager"].episode_state
        name = found["EnvironmentMetadata"].name
        return PlainTextResponse(f"{name}: {episode.step_count} steps")

    app.mount("/web", Router([Route("/", page)]))


if "REPLACE" in os.environ:
    _replace_page()
