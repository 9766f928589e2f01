# SPDX-License-Identifier: BSD-3-Clause
"""Implements `reset_async` and `step_async`; the synchronous methods raise."""

import asyncio
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Ask(Action):
    question: str


class Reply(Observation):
    text: str = ""


class Oracle(Environment[Ask, Reply, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[str] = []
        self._lock = asyncio.Lock()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Reply:
        raise NotImplementedError("use reset_async")

    def step(self, action: Ask, timeout_s: float | None = None, **kwargs: Any) -> Reply:
        raise NotImplementedError("use step_async")

    async def reset_async(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Reply:
        async with self._lock:
            self._asked.clear()
            return Reply(text="ask")

    async def step_async(self, action: Ask, timeout_s: float | None = None, **kwargs: Any) -> Reply:
        async with self._lock:
            await asyncio.sleep(0)
            self._asked.append(action.question)
            return Reply(text=action.question[::-1], reward=len(self._asked))

    @property
    def state(self) -> State:
        return State(episode_id="oracle", step_count=len(self._asked))


app = create_app(Oracle, Ask, Reply, max_concurrent_envs=4)
