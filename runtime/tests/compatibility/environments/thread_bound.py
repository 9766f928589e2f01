# SPDX-License-Identifier: BSD-3-Clause
"""Holds what belongs to its thread: a thread-local, a context variable, an event loop."""

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app

_local = threading.local()
_steps: ContextVar[int] = ContextVar("steps")


class Look(Action):
    at: str


class Seen(Observation):
    kept: Any = None
    steps: int = 0
    later: str = ""


class Browser(Environment[Look, Seen, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.get_ident()
        _local.kept = "made in the constructor"
        _steps.set(0)

    async def _later(self, text: str) -> str:
        await asyncio.sleep(0)
        return text

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Seen:
        _steps.set(0)
        return Seen(kept=_local.kept)

    def step(self, action: Look, timeout_s: float | None = None, **kwargs: Any) -> Seen:
        _steps.set(_steps.get() + 1)
        later = self._loop.run_until_complete(self._later(action.at))
        _local.kept, kept = action.at, _local.kept
        return Seen(kept=kept, steps=_steps.get(), later=later)

    @property
    def state(self) -> State:
        return State(episode_id="browser")

    def close(self) -> None:
        if threading.get_ident() == self._thread:
            self._loop.close()


app = create_app(Browser, Look, Seen, max_concurrent_envs=4)
