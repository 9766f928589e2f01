# SPDX-License-Identifier: BSD-3-Clause
"""Answers `ListToolsAction` and `CallToolAction` itself, without an MCP server."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
    ToolError,
    ToolErrorType,
)
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app

SCHEMA = {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]}


class Library(Environment[Action, Observation, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        self._calls = 0
        return Observation(metadata={"status": "open"})

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        if isinstance(action, ListToolsAction):
            return ListToolsObservation(
                tools=[Tool(name="read", description="Reads a page", input_schema=SCHEMA)]
            )
        assert isinstance(action, CallToolAction)
        self._calls += 1
        if action.tool_name != "read":
            missing = ToolError(error_type=ToolErrorType.TOOL_NOT_FOUND, message="no such tool")
            return CallToolObservation(tool_name=action.tool_name, error=missing)
        page = int(action.arguments.get("page", 0))
        return CallToolObservation(
            tool_name="read", result={"text": f"page {page}"}, reward=0.5, done=page == 3
        )

    @property
    def state(self) -> State:
        return State(episode_id="library", step_count=self._calls)


app = create_app(Library, CallToolAction, CallToolObservation, max_concurrent_envs=4)
