# SPDX-License-Identifier: BSD-3-Clause
"""Tools: bare JSON-RPC 2.0 on `POST /mcp` and in `mcp` frames, and tool-style actions in `step`.

An environment offers tools by a class attribute `TOOLS`, a tuple of plain functions: name,
annotations and docstring become the schema. They are called where its steps are: on the event loop
when these are `async`, in a thread otherwise. A tool does not touch the episode, so calling one
neither counts as a step nor earns a reward.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from openenv.core.env_server.exceptions import OpenEnvError
from openenv.core.env_server.mcp_types import (
    RESERVED_TOOL_NAMES,
    CallToolAction,
    CallToolObservation,
    JsonRpcErrorCode,
    JsonRpcRequest,
    JsonRpcResponse,
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
from stepwire.server.sessions import Session, Sessions


@dataclass(frozen=True)
class OfferedTool:
    """A function of an environment's `TOOLS`, what clients are told of it and how it is called."""

    function: Callable[..., Any]
    specification: Tool
    call: Callable[..., Any]


class ToolFailure(Exception):
    """A tool that could not be called, or that raised."""

    def __init__(self, kind: ToolErrorType, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@lru_cache
def _offered(functions: tuple[Callable[..., Any], ...]) -> dict[str, OfferedTool]:
    tools: dict[str, OfferedTool] = {}
    for function in functions:
        name = function.__name__
        if name in RESERVED_TOOL_NAMES:
            raise ValueError(f"A tool may not be called {name!r}: that is the protocol's own word")
        specification = Tool(
            name=name,
            description=inspect.getdoc(function) or "",
            input_schema=TypeAdapter(function).json_schema(),
        )
        tools[name] = OfferedTool(function, specification, validate_call(function))
    return tools


class ToolBox:
    """The tools of an environment, called by name."""

    def offered(self, environment: object) -> list[OfferedTool]:
        """The tools of an environment or of its class."""
        return list(self._tools(environment).values())

    def specifications(self, environment: object) -> list[Tool]:
        """What clients are told of these tools."""
        return [tool.specification for tool in self.offered(environment)]

    async def call(self, session: Session, name: str, arguments: dict[str, Any]) -> Any:
        """The tool's result as JSON values; raises `ToolFailure`."""
        offered = self._tools(session.environment)
        tool = offered.get(name)
        if tool is None:
            names = ", ".join(offered) or "none"
            raise ToolFailure(
                ToolErrorType.TOOL_NOT_FOUND, f"Unknown tool: {name[:80]!r} (offered: {names})"
            )
        try:
            result = await session.call(tool.call, **arguments)
            if inspect.isawaitable(result):
                result = await result
            return to_jsonable_python(result)
        except ValidationError as error:
            entries = MessageError.from_validation(error).errors or []
            reasons = "; ".join(
                f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in entries
            )
            raise ToolFailure(ToolErrorType.INVALID_ARGS, reasons) from None
        except Exception as error:
            raise ToolFailure(ToolErrorType.EXECUTION_ERROR, describe(error)["message"]) from error

    async def act(self, session: Session, action: CallToolAction | ListToolsAction) -> Observation:
        """Answer a tool-style action."""
        if isinstance(action, ListToolsAction):
            return ListToolsObservation(tools=self.specifications(session.environment))
        observation = CallToolObservation(tool_name=action.tool_name)
        try:
            observation.result = await self.call(session, action.tool_name, action.arguments)
        except ToolFailure as failure:
            observation.error = ToolError(error_type=failure.kind, message=str(failure))
        return observation

    @staticmethod
    def _tools(environment: object) -> dict[str, OfferedTool]:
        return _offered(tuple(getattr(environment, "TOOLS", ())))


class JsonRpc:
    """Bare JSON-RPC: one request in, one response out, without a handshake."""

    def __init__(self, sessions: Sessions, tools: ToolBox) -> None:
        self._sessions = sessions
        self._tools = tools

    async def answer(self, payload: Any, session: Session | None = None) -> dict[str, Any]:
        """Answer one request; `session` is the one whose WebSocket it came over, if any."""
        try:
            request = JsonRpcRequest.model_validate(payload)
        except ValidationError as error:
            entries = MessageError.from_validation(error).errors
            return _failure(None, JsonRpcErrorCode.INVALID_REQUEST, "Invalid request", entries)
        try:
            result = await self._dispatch(request, session)
        except _RpcFailure as failure:
            return _failure(request.id, failure.code, str(failure), failure.data)
        return JsonRpcResponse.success(result, request.id).model_dump()

    async def _dispatch(self, request: JsonRpcRequest, session: Session | None) -> Any:
        match request.method:
            case "ping":
                return {}
            case "openenv/session/create":
                return await self._create_session(session)
            case "openenv/session/close":
                return await self._close_session(request.params, session)
            case "tools/list" | "tools/call":
                session = session or self._named_session(request.params)
                if session is not None:
                    with session.in_use():
                        return await self._use_tools(request, session)
                async with self._sessions.temporary() as temporary:
                    return await self._use_tools(request, temporary)
        raise _RpcFailure(
            JsonRpcErrorCode.METHOD_NOT_FOUND, f"Method not found: {request.method[:80]}"
        )

    async def _create_session(self, session: Session | None) -> dict[str, Any]:
        if session is None:
            try:
                session = await self._sessions.open()
            except OpenEnvError as error:
                details = describe(error)
                message = details.pop("message")
                del details["code"]
                raise _RpcFailure(JsonRpcErrorCode.SERVER_ERROR, message, details) from None
        return {"session_id": session.id}

    async def _close_session(
        self, params: dict[str, Any], session: Session | None
    ) -> dict[str, Any]:
        target = self._named_session(params)
        if target is None:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS, "Invalid params - 'session_id' is required"
            )
        if target is session:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_REQUEST,
                "A WebSocket's own session is closed by a `close` frame, not over MCP",
            )
        if target.attached:
            target.closing = True  # the connection goes first; then the session does
        else:
            await self._sessions.close(target)
        return {"session_id": target.id, "closed": True}

    def _named_session(self, params: dict[str, Any]) -> Session | None:
        session_id = params.get("session_id")
        if not session_id:
            return None
        session = self._sessions.get(session_id) if isinstance(session_id, str) else None
        if session is None:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS, f"Unknown session_id: {str(session_id)[:64]}"
            )
        return session

    async def _use_tools(self, request: JsonRpcRequest, session: Session) -> Any:
        if request.method == "tools/list":
            return {
                "tools": [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "inputSchema": tool.input_schema,
                    }
                    for tool in self._tools.specifications(session.environment)
                ]
            }
        name, arguments = request.params.get("name"), request.params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS,
                "Invalid params - 'name' must be a string and 'arguments' an object",
            )
        try:
            result = await self._tools.call(session, name, arguments)
        except ToolFailure as failure:
            if failure.kind is not ToolErrorType.EXECUTION_ERROR:
                raise _RpcFailure(JsonRpcErrorCode.INVALID_PARAMS, str(failure)) from None
            return _tool_result(str(failure), str(failure), is_error=True)
        text = result if isinstance(result, str) else to_json(result).decode()
        return _tool_result(text, result, is_error=False)


def _tool_result(text: str, value: Any, *, is_error: bool) -> dict[str, Any]:
    """MCP's `CallToolResult`, and `data`, from which the stock clients take the value."""
    structured = value if isinstance(value, dict) else {"result": value}
    return {
        "content": [{"type": "text", "text": text}],
        "structuredContent": structured,
        "data": value,
        "isError": is_error,
    }


class _RpcFailure(Exception):
    def __init__(self, code: JsonRpcErrorCode, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def _failure(
    request_id: str | int | None, code: JsonRpcErrorCode, message: str, data: Any
) -> dict[str, Any]:
    return JsonRpcResponse.error_response(code, message, data, request_id).model_dump()
