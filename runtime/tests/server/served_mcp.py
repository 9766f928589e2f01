# SPDX-License-Identifier: BSD-3-Clause
"""Environments with tools on FastMCP, each below a path; `SERVED_BY=stock` is the stock server."""

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
import asyncio
from typing import Any

from fastmcp import Client, Context, FastMCP
from fastmcp.utilities.types import Image
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation, ListToolsAction
from openenv.core.env_server.types import Action, Observation, State
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from compatibility.served_by import create_app


class SignedCall(CallToolAction):
    """A call of a tool that says who makes it."""

    signature: str = "unsigned"


class Paint(Action):
    """An action that is no tool."""

    colour: str


class Code(Action):
    """Python that calls the tools."""

    code: str


class Workshop(MCPEnvironment):
    """Counts and rewards its steps, tool calls included."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp: Any = FastMCP("workshop")
        self._steps = self._busy = self._most_busy = 0

        @mcp.tool
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        @mcp.tool
        async def rest(seconds: float) -> str:
            """Wait; says how many calls of the environment were open at most."""
            self._busy += 1
            self._most_busy = max(self._most_busy, self._busy)
            await asyncio.sleep(seconds)
            self._busy -= 1
            return f"{self._most_busy} at once"

        @mcp.tool
        def fail(reason: str) -> str:
            """Raise an error."""
            raise ValueError(f"Because {reason}")

        @mcp.tool
        async def count(context: Context) -> int:
            """Count the calls of the session in FastMCP's own state."""
            calls = (await context.get_state("calls") or 0) + 1
            await context.set_state("calls", calls)
            return calls

        @mcp.tool
        def draw() -> Any:
            return Image(data=b"\x89PNG", format="png")

        super().__init__(mcp)

    def reset(self, **_: Any) -> Observation:
        self._steps = 0
        return Observation(reward=0.0, metadata={"status": "ready"})

    def step(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        raise AssertionError("The servers call step_async")

    async def step_async(
        self, action: Action, timeout_s: float | None = None, **_: Any
    ) -> Observation:
        self._steps += 1
        observation: Observation = await super().step_async(action, timeout_s=timeout_s)
        observation.reward = self._steps / 2
        observation.metadata["action"] = type(action).__name__
        return observation

    def _step_impl(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        if isinstance(action, Code):
            return self.execute_code(action.code)
        return Observation(metadata={"painted": getattr(action, "colour", None)})

    @property
    def state(self) -> State:
        return State(episode_id="workshop", step_count=self._steps)


class _Plain(Environment[Paint, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, **_: Any) -> Observation:
        return Observation()

    def step(self, action: Action, **_: Any) -> Observation:
        return Observation(metadata={"action": type(action).__name__})

    @property
    def state(self) -> State:
        return State()


def _shelf() -> Any:
    mcp: Any = FastMCP("shelf")

    @mcp.tool
    def take(number: int = 1) -> dict[str, int]:
        """Take a number."""
        return {"taken": number}

    @mcp.tool
    async def drop(number: int) -> None:
        raise KeyError("/secret/path")

    return mcp


class WithClient(_Plain):
    """Has a FastMCP client, without being an `MCPEnvironment`."""

    def __init__(self) -> None:
        super().__init__()
        self.mcp_client = Client(_shelf())


class WithServer(_Plain):
    """Has only a FastMCP server."""

    def __init__(self) -> None:
        super().__init__()
        self.mcp_server = _shelf()


class Lazy(_Plain):
    """Has its MCP server from the first reset on."""

    _server: Any = None

    @property
    def mcp_server(self) -> Any:
        if self._server is None:
            raise RuntimeError("reset first")
        return self._server

    def reset(self, **_: Any) -> Observation:
        self._server = _shelf()
        return Observation()


class Reserving(Workshop):
    """Has a tool of a reserved name, which the framework's constructor refuses."""

    def __init__(self) -> None:
        mcp: Any = FastMCP("reserving")
        mcp.tool(lambda: None, name="reset")
        MCPEnvironment.__init__(self, mcp)


class Uninitialised(Workshop):
    """Forgets to call the constructor of its base class."""

    def __init__(self) -> None:
        pass


class WithoutTools(_Plain):
    """Has something else in the place of an MCP server."""

    def __init__(self) -> None:
        super().__init__()
        self.mcp_server = "http://localhost/mcp"


def _serve(environment: Any, action: Any = CallToolAction, most: int = 8) -> Any:
    return create_app(environment, action, CallToolObservation, max_concurrent_envs=most)


def _health(_: Any) -> PlainTextResponse:
    return PlainTextResponse("healthy")


app = Starlette(
    routes=[
        Route("/health", _health),
        Mount("/workshop", _serve(Workshop)),
        Mount("/signed", _serve(Workshop, SignedCall)),
        Mount("/narrow", _serve(Workshop, most=1)),
        Mount("/made", _serve(lambda: Workshop())),
        Mount("/coded", _serve(Workshop, Code)),
        Mount("/painted", _serve(Workshop, Paint)),
        Mount("/either", _serve(Workshop, Paint | CallToolAction | ListToolsAction)),
        Mount("/tools-only", _serve(Workshop, None)),
        Mount("/client", _serve(WithClient)),
        Mount("/client-beside-actions", _serve(WithClient, Paint)),
        Mount("/server", _serve(WithServer)),
        Mount("/lazy", _serve(Lazy, Paint)),
        Mount("/reserving", _serve(Reserving)),
        Mount("/uninitialised", _serve(Uninitialised)),
        Mount("/without-tools", _serve(WithoutTools)),
    ]
)
