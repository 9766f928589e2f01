# SPDX-License-Identifier: BSD-3-Clause
"""The tools of an environment: the functions in its class attribute `TOOLS`, a tuple.

A function's name, annotations and docstring become the tool's schema. Tools are called the same way
as steps. Calling one is not a step: it earns no reward and leaves the step count as it is.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from openenv.core.env_server.mcp_types import (
    RESERVED_TOOL_NAMES,
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
    ToolError,
    ToolErrorType,
)
from openenv.core.env_server.types import Observation
from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic_core import to_json, to_jsonable_python

from stepwire.server.errors import MessageError, describe
from stepwire.server.session import Session


@dataclass(frozen=True)
class OfferedTool:
    """One of an environment's tools: `call` is `function` with validated arguments."""

    function: Callable[..., Any]
    specification: Tool
    call: Callable[..., Any]


class ToolFailure(Exception):
    """A tool could not be called, or it raised."""

    def __init__(self, kind: ToolErrorType, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def tools_of(environment: object) -> dict[str, OfferedTool]:
    """The tools of an environment, or of its class, by name.

    Raises `ValueError` for a tool whose name the protocol reserves.
    """
    return _offered(tuple(getattr(environment, "TOOLS", ())))


@lru_cache
def _offered(functions: tuple[Callable[..., Any], ...]) -> dict[str, OfferedTool]:
    tools: dict[str, OfferedTool] = {}
    for function in functions:
        name = function.__name__
        if name in RESERVED_TOOL_NAMES:
            raise ValueError(f"A tool may not be called {name!r}: the protocol reserves that name")
        specification = Tool(
            name=name,
            description=inspect.getdoc(function) or "",
            input_schema=TypeAdapter(function).json_schema(),
        )
        tools[name] = OfferedTool(function, specification, validate_call(function))
    return tools


async def call_tool(session: Session, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool; its result has the fields of FastMCP's results. Raises `ToolFailure`."""
    tools = tools_of(session.environment)
    if name not in tools:
        offered = ", ".join(tools) or "none"
        raise ToolFailure(
            ToolErrorType.TOOL_NOT_FOUND, f"Unknown tool: {name[:80]!r} (offered: {offered})"
        )
    try:
        result = await session.call(tools[name].call, **arguments)
        if inspect.isawaitable(result):
            result = await result
        return as_result(to_jsonable_python(result))
    except ValidationError as error:
        entries = MessageError.from_validation(error).errors or []
        reasons = "; ".join(
            f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in entries
        )
        raise ToolFailure(ToolErrorType.INVALID_ARGS, reasons) from None
    except Exception as error:
        raise ToolFailure(ToolErrorType.EXECUTION_ERROR, describe(error)["message"]) from error


def as_result(value: Any, *, is_error: bool = False) -> dict[str, Any]:
    """The result of a tool that returned `value`, in the form that the stock servers send."""
    text = value if isinstance(value, str) else to_json(value).decode()
    return {
        "content": [{"type": "text", "text": text}],
        "structured_content": value if isinstance(value, dict) else {"result": value},
        "meta": None,
        "data": value,
        "is_error": is_error,
    }


async def act(session: Session, action: CallToolAction | ListToolsAction) -> Observation:
    """Answer a tool-style action."""
    if isinstance(action, ListToolsAction):
        tools = tools_of(session.environment).values()
        return ListToolsObservation(tools=[tool.specification for tool in tools])
    observation = CallToolObservation(tool_name=action.tool_name)
    try:
        observation.result = await call_tool(session, action.tool_name, action.arguments)
    except ToolFailure as failure:
        observation.error = ToolError(error_type=failure.kind, message=str(failure))
    return observation
