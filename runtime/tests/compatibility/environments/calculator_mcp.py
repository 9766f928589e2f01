# SPDX-License-Identifier: BSD-3-Clause
"""An `MCPEnvironment` with tools of several kinds; `step` is overridden and counts."""

from typing import Any

from fastmcp import Context, FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel

from compatibility.served_by import create_app


class Point(BaseModel):
    x: int
    y: int = 0


class Calculator(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp: Any = FastMCP("calculator")
        self._memory = 0
        self._state = State(episode_id="none", step_count=0)

        @mcp.tool
        def add(a: int, b: int = 1) -> int:
            """Adds two numbers."""
            return a + b

        @mcp.tool
        async def remember(value: int) -> dict[str, int]:
            """Keeps a number; returns the one before."""
            before, self._memory = self._memory, value
            return {"before": before, "now": value}

        @mcp.tool
        def mirror(point: Point) -> Point:
            return Point(x=-point.x, y=-point.y)

        @mcp.tool
        def divide(a: float, b: float) -> float:
            return a / b

        @mcp.tool
        def words(text: str) -> list[str]:
            return text.split()

        @mcp.tool
        def nothing() -> None:
            pass

        @mcp.tool
        async def count(context: Context) -> int:
            """How often this has been called over one MCP session."""
            calls = (await context.get_state("calls") or 0) + 1
            await context.set_state("calls", calls)
            return calls

        super().__init__(mcp)

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        self._memory = 0
        self._state = State(episode_id=episode_id, step_count=0)
        return Observation(reward=0.0, metadata={"status": "ready", "message": "Calculate!"})

    def _step_impl(
        self, action: Action, timeout_s: float | None = None, **kwargs: Any
    ) -> Observation:
        return Observation(metadata={"error": f"unknown action {type(action).__name__}"})

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._state.step_count += 1
        seen: Observation = super().step(action, timeout_s=timeout_s, **kwargs)
        seen.reward = float(self._state.step_count)
        return seen

    async def step_async(
        self, action: Action, timeout_s: float | None = None, **kwargs: Any
    ) -> Observation:
        self._state.step_count += 1
        seen: Observation = await super().step_async(action, timeout_s=timeout_s, **kwargs)
        seen.reward = float(self._state.step_count)
        return seen

    @property
    def state(self) -> State:
        return self._state


app = create_app(
    Calculator, CallToolAction, CallToolObservation, env_name="calculator", max_concurrent_envs=8
)
