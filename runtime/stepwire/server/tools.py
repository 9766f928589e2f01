# SPDX-License-Identifier: BSD-3-Clause
"""The tools of an environment, in whichever way it offers them.

- Functions in its class attribute `TOOLS` (`tool_functions.py`).
- A FastMCP server: `MCPEnvironment`, or attributes of its names (`mcp_tools.py`).
- Only its steps list and call them: its action class is one of the framework's tool actions.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    JsonRpcErrorCode,
    ListToolsAction,
    ListToolsObservation,
    Tool,
    ToolError,
    ToolErrorType,
)
from openenv.core.env_server.types import Action, Observation
from pydantic_core import to_json, to_jsonable_python

from stepwire.server.errors import describe, encodable
from stepwire.server.json_values import as_known, find_lone_surrogate, jsonable


class ToolFailure(Exception):
    """A tool could not be called, or it raised.

    `code` is that of the JSON-RPC error; with `None`, the answer is a result with `is_error`.
    """

    def __init__(
        self, kind: ToolErrorType, message: str, code: JsonRpcErrorCode | None = None
    ) -> None:
        super().__init__(encodable(message))
        self.kind = kind
        self.code = code


@dataclass
class ToolResult:
    """What a tool returned. The fields are those of FastMCP's `CallToolResult`."""

    content: list[Any]
    structured_content: dict[str, Any] | None
    data: Any
    meta: dict[str, Any] | None = None
    is_error: bool = False


class ToolUser(Protocol):
    """The session whose environment has the tools."""

    environment: Any

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Awaitable[Observation]: ...

    def call(self, function: Any, /, *arguments: Any, **keywords: Any) -> Awaitable[Any]: ...

    def finish(self, call: Coroutine[Any, Any, Any]) -> Awaitable[Any]: ...


class Tools(ABC):
    """How the environments of one class offer tools."""

    def __init__(self, *, acts_in_steps: bool) -> None:
        """`acts_in_steps`: tool actions are steps of the environment, which answers them itself."""
        self.acts_in_steps = acts_in_steps

    @abstractmethod
    async def specifications(self, user: ToolUser) -> list[dict[str, Any]]:
        """Each tool as JSON-RPC sends it: `name`, `description`, `inputSchema` and maybe more."""

    async def call(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool. Returns a `ToolResult`, FastMCP's result, or another value.

        Raises `ToolFailure`, also for a result with a lone surrogate: it cannot be sent.
        """
        result = await self._call(user, name, arguments)
        if (place := find_lone_surrogate(result)) is not None:
            reason = f"The tool {name[:80]!r} returned text with a lone surrogate{place}"
            raise ToolFailure(ToolErrorType.EXECUTION_ERROR, reason)
        return self._in_form(result)

    @abstractmethod
    async def _call(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool; returns what it returned."""

    def _in_form(self, result: Any) -> Any:
        """The result in the form in which `call` returns it."""
        return result

    async def act(
        self, user: ToolUser, action: Action, arguments: dict[str, Any] | None = None
    ) -> Observation:
        """Answer a tool-style action."""
        if isinstance(action, ListToolsAction):
            if self.acts_in_steps:
                return await user.step(_plain(action, ListToolsAction), arguments)
            tools = [
                Tool(
                    name=tool["name"],
                    description=tool["description"],
                    input_schema=tool["inputSchema"],
                )
                for tool in await self.specifications(user)
            ]
            return ListToolsObservation(tools=tools)
        assert isinstance(action, CallToolAction)
        if self.acts_in_steps:
            return await user.step(_plain(action, CallToolAction), arguments)
        observation = CallToolObservation(tool_name=action.tool_name)
        try:
            result = await self.call(user, action.tool_name, action.arguments)
            has_form = hasattr(result, "structured_content")
            observation.result = result if has_form else result_of(result)
        except ToolFailure as failure:
            observation.error = ToolError(error_type=failure.kind, message=str(failure))
        return observation


class StepTools(Tools):
    """Tools that only the environment's own steps list and call."""

    async def specifications(self, user: ToolUser) -> list[dict[str, Any]]:
        listed = await self._step(user, ListToolsAction(), ListToolsObservation)
        return [{**tool.model_dump(), "inputSchema": tool.input_schema} for tool in listed.tools]

    async def _call(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        action = CallToolAction(tool_name=name, arguments=arguments)
        return await self._step(user, action, CallToolObservation)

    async def _step(self, user: ToolUser, action: Action, expected: type[Observation]) -> Any:
        try:
            observation = await user.step(action)
        except Exception as error:
            raise internal_failure(describe(error)["message"]) from error
        if not isinstance(observation, expected):
            raise internal_failure(
                f"A step with {type(action).__name__} returned {type(observation).__name__}, "
                f"expected {expected.__name__}"
            )
        return observation


def result_of(value: Any, *, is_error: bool = False) -> ToolResult:
    """The result of a tool that returned `value`, as JSON values."""
    value = to_jsonable_python(jsonable(value), fallback=as_known)
    text = value if isinstance(value, str) else to_json(value).decode()
    return ToolResult(
        content=[{"type": "text", "text": text}],
        structured_content=value if isinstance(value, dict) else {"result": value},
        data=value,
        is_error=is_error,
    )


def internal_failure(message: str) -> ToolFailure:
    """A failure that JSON-RPC answers with an internal error, as the stock servers do."""
    return ToolFailure(ToolErrorType.EXECUTION_ERROR, message, JsonRpcErrorCode.INTERNAL_ERROR)


def _plain(action: Action, framework_cls: type[Action]) -> Action:
    """The action as an instance of the framework's class, which environments may test for."""
    if type(action) is framework_cls:
        return action
    return framework_cls.model_construct(action.model_fields_set, **dict(action))
