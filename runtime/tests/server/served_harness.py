# SPDX-License-Identifier: BSD-3-Clause
"""Environments that wrap an agent, in production mode, served by our server and by the stock's."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import asyncio
from collections.abc import AsyncIterator
from typing import Any

from openenv.core.env_server.http_server import create_app as create_stock_app
from openenv.core.env_server.types import Observation
from openenv.core.harness import (
    AgenticHarnessAdapter,
    HarnessAction,
    HarnessConfig,
    HarnessEnvironment,
    HarnessEvent,
    HarnessNotRunningError,
)
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from stepwire.server import create_app

RUNNING: set[int] = set()


class Agent(AgenticHarnessAdapter):
    """Repeats a message in capitals; some messages make it fail."""

    def __init__(self) -> None:
        config = HarnessConfig(name="shouting", command=["none"], session_timeout_s=0.5)
        super().__init__(config)
        self.turns = 0

    async def start(self, working_directory: str) -> None:
        RUNNING.add(id(self))

    async def stop(self) -> None:
        RUNNING.discard(id(self))

    async def inject_tools(self, tools: Any, bridge_url: str | None = None) -> None:
        pass

    async def is_alive(self) -> bool:
        return id(self) in RUNNING

    async def send_message_streaming(self, message: str) -> AsyncIterator[HarnessEvent]:
        self.turns += 1
        if message == "crash":
            raise RuntimeError("/secret/path")
        if message == "vanish":
            raise HarnessNotRunningError("/secret/path")
        yield HarnessEvent(type="text_output", timestamp=1.0, data={"text": message})
        if message == "hang":
            await asyncio.sleep(3600)
        if message == "die after this turn":
            RUNNING.discard(id(self))
        if message != "stop short":
            data = {"response": message.upper(), "turn": self.turns}
            yield HarnessEvent(type="turn_complete", timestamp=2.0, data=data)


class Talking(HarnessEnvironment):
    def __init__(self) -> None:
        super().__init__(Agent())


class Unstartable(Talking):
    async def reset_async(self, **arguments: Any) -> Observation:
        raise RuntimeError("/secret/path")


def make_talking() -> Any:
    return Talking()


def _mounts() -> list[Mount]:
    environments = {"class": Talking, "function": make_talking, "unstartable": Unstartable}
    return [
        Mount(f"/{server}/{mode}/{name}", create(env, HarnessAction, Observation, mode=mode))
        for server, create in {"ours": create_app, "stock": create_stock_app}.items()
        for name, env in environments.items()
        for mode in ("production", "simulation")
    ]


app = Starlette(
    routes=[
        Route("/health", lambda _: PlainTextResponse("healthy")),
        Route("/running", lambda _: PlainTextResponse(str(len(RUNNING)))),
        *_mounts(),
    ]
)
