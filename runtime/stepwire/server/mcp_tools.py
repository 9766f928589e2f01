# SPDX-License-Identifier: BSD-3-Clause
"""Tools of environments on FastMCP: `MCPEnvironment`, or any with the attributes it has.

`mcp_client` lists and calls the tools; where it is missing, the tools of `mcp_server` are called
directly. `mcp_session()` keeps the client connected. Nothing here imports FastMCP: an environment
of this kind has done so.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from openenv.core.env_server.mcp_types import JsonRpcErrorCode, ToolErrorType

from stepwire.server.errors import describe
from stepwire.server.logs import logger
from stepwire.server.tools import ToolFailure, Tools, ToolUser, internal_failure

_MODULE = "openenv.core.env_server.mcp_environment"
_LISTING = ("list_tools", "get_tools")  # of FastMCP 3 and later, of FastMCP 2
# Their errors are written for the caller of a tool.
_SPEAKING_PACKAGES = ("fastmcp", "mcp")


def is_mcp_environment(environment_cls: type[Any]) -> bool:
    """Whether the class is an `MCPEnvironment`, found out without importing FastMCP."""
    module = sys.modules.get(_MODULE)
    return module is not None and issubclass(environment_cls, module.MCPEnvironment)


def check_mcp_attributes(owner: Any) -> bool:
    """Whether an environment has `mcp_client` or `mcp_server`; `owner` may also be its class.

    Raises `ValueError` for one that has no tools to list.
    """
    client, server = _attribute(owner, "mcp_client"), _attribute(owner, "mcp_server")
    if isinstance(owner, type):
        client, server = (None if _is_computed(value) else value for value in (client, server))
    if client and not (hasattr(client, "list_tools") and hasattr(client, "call_tool")):
        raise ValueError(_unusable(owner, "mcp_client", client, "a FastMCP client"))
    if server and not client and not any(hasattr(server, name) for name in _LISTING):
        raise ValueError(_unusable(owner, "mcp_server", server, "a FastMCP server"))
    return bool(client or server)


@lru_cache
def mcp_tools(acts_in_steps: bool) -> "McpTools":
    """The one object for all environments on FastMCP whose tool actions are, or are not, steps."""
    use_our_log()
    # Raised by the framework's own code: an author cannot do anything about it.
    warnings.filterwarnings("ignore", "Accessing `Tool.inputSchema`", module=_MODULE)
    return McpTools(acts_in_steps=acts_in_steps)


def use_our_log() -> None:
    """Send FastMCP's log lines through the server's handlers instead of its own."""
    log = logging.getLogger("fastmcp")
    log.handlers[:] = logger.handlers
    log.propagate = logger.propagate
    log.setLevel(logging.WARNING)


class McpTools(Tools):
    """The tools of `mcp_client` or `mcp_server`."""

    async def specifications(self, user: ToolUser) -> list[dict[str, Any]]:
        try:
            async with _connected(user.environment) as client:
                if client:
                    return [_specification(tool) for tool in await client.list_tools()]
            tools = await _tools_of(user.environment.mcp_server)
        except Exception as error:
            raise _failure(error) from error
        return [
            {
                "name": tool.name,
                "description": tool.description or "",
                "inputSchema": tool.parameters or {},
            }
            for tool in tools.values()
        ]

    async def _call(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        # FastMCP calls a function in a thread, which a cancellation does not reach.
        return await user.finish(self._call_to_the_end(user, name, arguments))

    async def _call_to_the_end(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        try:
            async with _connected(user.environment) as client:
                if client:
                    return await client.call_tool(name=name, arguments=arguments)
            tools = await _tools_of(user.environment.mcp_server)
            if name in tools:
                _check_arguments(tools[name].fn, arguments)
                result = await user.call(tools[name].fn, **arguments)
                return await result if inspect.isawaitable(result) else result
        except Exception as error:
            raise _failure(error) from error
        message = f"Tool not found: {name[:80]}"
        raise ToolFailure(ToolErrorType.TOOL_NOT_FOUND, message, JsonRpcErrorCode.INVALID_PARAMS)


@asynccontextmanager
async def _connected(environment: Any) -> AsyncIterator[Any]:
    """The environment's client, connected; `None` where it only has a server.

    Within a session that is already connected, entering again costs nothing.
    """
    client = getattr(environment, "mcp_client", None)
    if not client:
        if not getattr(environment, "mcp_server", None):
            raise internal_failure("The environment has no MCP server; it may have been closed")
        yield None
        return
    session = getattr(environment, "mcp_session", None)
    async with session() if callable(session) else client:
        yield client


async def _tools_of(server: Any) -> Mapping[str, Any]:
    """The tools of a FastMCP server by name."""
    list_tools = next(getattr(server, name) for name in _LISTING if hasattr(server, name))
    tools = await list_tools()
    return tools if isinstance(tools, Mapping) else {tool.name: tool for tool in tools}


def _specification(tool: Any) -> dict[str, Any]:
    described = tool.model_dump() if hasattr(tool, "model_dump") else dict(tool)
    # FastMCP 4 renamed the field; clients of the standard read this name. The framework's client
    # shows no tool at all when one has no description.
    described.setdefault("inputSchema", described.get("input_schema"))
    described["description"] = described.get("description") or ""
    return described


def _check_arguments(function: Any, arguments: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a function in C that does not say
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        code = JsonRpcErrorCode.INTERNAL_ERROR  # that of the framework's servers
        raise ToolFailure(ToolErrorType.INVALID_ARGS, f"Arguments: {error}", code) from None


def _failure(error: Exception) -> ToolFailure:
    if isinstance(error, ToolFailure):
        return error
    if type(error).__module__.partition(".")[0] not in _SPEAKING_PACKAGES:
        return internal_failure(describe(error)["message"])
    failure = internal_failure(str(error))
    # FastMCP has one class for all; `MCPEnvironment` goes by the text too.
    if "unknown tool" in str(error).lower():
        failure.kind = ToolErrorType.TOOL_NOT_FOUND
    elif "validation error" in str(error).lower():
        failure.kind = ToolErrorType.INVALID_ARGS
    return failure


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - a property may fail in any way before the first reset
        return None


def _is_computed(value: Any) -> bool:
    """Whether a class attribute only says how instances get their value."""
    return hasattr(type(value), "__get__")


def _unusable(owner: Any, attribute: str, value: Any, expected: str) -> str:
    name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return (
        f"{name}.{attribute} is of type {type(value).__name__}, which has no tools to list; the "
        f"server needs {expected} there"
    )
