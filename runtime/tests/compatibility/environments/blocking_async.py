# SPDX-License-Identifier: BSD-3-Clause
"""Async methods, and a constructor and a `close` that run event loops of their own."""

import asyncio
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Go(Action):
    url: str


class Page(Observation):
    title: str = ""


async def _launch() -> str:
    await asyncio.sleep(0.01)
    return "launched"


class Browser(Environment[Go, Page, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._status = asyncio.run(_launch())

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Page:
        return Page(title=f"{self._status} without a loop")

    def step(self, action: Go, timeout_s: float | None = None, **kwargs: Any) -> Page:
        return Page(title="without a loop")

    async def step_async(self, action: Go, timeout_s: float | None = None, **kwargs: Any) -> Page:
        await asyncio.sleep(0)
        return Page(title=f"title of {action.url}", reward=1.0)

    @property
    def state(self) -> State:
        return State(episode_id=self._status)

    def close(self) -> None:
        asyncio.run(_launch())


app = create_app(Browser, Go, Page, max_concurrent_envs=4)
