# SPDX-License-Identifier: BSD-3-Clause
"""A server with an environment of tools only, of class `MCPEnvironment`.

It is the framework's own server, or ours with `SERVED_BY=ours`.
"""

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
import os
from typing import Any

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State

if os.environ.get("SERVED_BY") == "ours":
    from stepwire.server import create_app
else:
    from openenv.core.env_server.http_server import create_app


class ToolEnvironment(MCPEnvironment):
    """Tools to echo, to keep a note and to fail."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        tools = FastMCP("tools")

        @tools.tool
        def echo_message(message: str) -> str:
            """Echo a message."""
            return message

        @tools.tool
        def echo_with_length(message: str) -> dict[str, Any]:
            """Echo a message with its length."""
            return {"message": message, "length": len(message)}

        @tools.tool
        def keep_note(text: str, weight: float) -> dict[str, Any]:
            """Keep a note; its fields are those of the notes environment's observation."""
            if text == "fail":
                raise ValueError("the tool failed")
            return {"text": text, "length": len(text)}

        super().__init__(tools)
        self.reset()

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        self._state = State(episode_id=episode_id or "none given", step_count=0)
        return Observation(
            reward=0.0, metadata={"status": "ready", "message": "Echo environment ready!"}
        )

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._state.step_count += 1
        return super().step(action, timeout_s=timeout_s, **kwargs)

    async def step_async(
        self, action: Action, timeout_s: float | None = None, **kwargs: Any
    ) -> Observation:
        self._state.step_count += 1
        return await super().step_async(action, timeout_s=timeout_s, **kwargs)

    def _step_impl(
        self, action: Action, timeout_s: float | None = None, **kwargs: Any
    ) -> Observation:
        raise NotImplementedError

    @property
    def state(self) -> State:
        return self._state


app = create_app(ToolEnvironment, CallToolAction, CallToolObservation, max_concurrent_envs=64)
