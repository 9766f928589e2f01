# SPDX-License-Identifier: BSD-3-Clause
"""An `MCPEnvironment` with actions of its own, and tools that exist in one mode only."""

from typing import Any

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Shout(Action):
    text: str


class Volume(Observation):
    text: str = ""


class Voice(MCPEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__(FastMCP("voice"))
        self._said: list[str] = []
        self._mode = "simulation"

        @self.tool()
        def whisper(text: str) -> str:
            """Says it quietly."""
            self._said.append(text)
            return text.lower()

        @self.tool(mode="simulation")
        def rehearse(text: str, times: int = 2) -> str:
            """Says it again."""
            return text * times

        @self.tool(mode="production")
        def broadcast(text: str) -> str:
            """Says it to all."""
            return text

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Volume:
        self._said.clear()
        return Volume(text="ready")

    def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Volume:
        assert isinstance(action, Shout)
        self._said.append(action.text)
        return Volume(text=action.text.upper(), reward=1.0)

    @property
    def state(self) -> State:
        return State(episode_id="voice", step_count=len(self._said))


app = create_app(Voice, Action, Volume, max_concurrent_envs=8)
