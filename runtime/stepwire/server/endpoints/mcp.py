# SPDX-License-Identifier: BSD-3-Clause
"""Bare JSON-RPC 2.0, on `POST /mcp` and in `mcp` frames: tools, and sessions created over MCP."""

from typing import Any

from openenv.core.env_server.exceptions import OpenEnvError
from openenv.core.env_server.mcp_types import (
    JsonRpcErrorCode,
    JsonRpcRequest,
    JsonRpcResponse,
    ToolErrorType,
)
from pydantic import ValidationError

from stepwire.server.errors import MessageError, describe
from stepwire.server.session import Session
from stepwire.server.sessions import Sessions
from stepwire.server.tools import ToolFailure, as_result, call_tool, tools_of


class JsonRpc:
    """Answers JSON-RPC requests one by one, without MCP's handshake."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def answer(self, payload: Any, session: Session | None = None) -> dict[str, Any]:
        """Answer one request; `session` is the session of the WebSocket it came over, if any."""
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
                        return await _use_tools(request, session)
                async with self._sessions.temporary() as temporary:
                    return await _use_tools(request, temporary)
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
            session.outlive_connections()
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
        if target.connection is None:
            await self._sessions.close(target)
        else:
            target.end_with_connection()
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


async def _use_tools(request: JsonRpcRequest, session: Session) -> Any:
    if request.method == "tools/list":
        specifications = [tool.specification for tool in tools_of(session.environment).values()]
        return {
            "tools": [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": tool.input_schema,
                }
                for tool in specifications
            ]
        }
    name, arguments = request.params.get("name"), request.params.get("arguments") or {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise _RpcFailure(
            JsonRpcErrorCode.INVALID_PARAMS,
            "Invalid params - 'name' must be a string and 'arguments' an object",
        )
    try:
        result = await call_tool(session, name, arguments)
    except ToolFailure as failure:
        if failure.kind is not ToolErrorType.EXECUTION_ERROR:
            raise _RpcFailure(JsonRpcErrorCode.INVALID_PARAMS, str(failure)) from None
        result = as_result(str(failure), is_error=True)
    # The framework's clients read the stock names, MCP's clients the standard ones.
    return {
        **result,
        "structuredContent": result["structured_content"],
        "isError": result["is_error"],
    }


class _RpcFailure(Exception):
    """An error to answer a request with."""

    def __init__(self, code: JsonRpcErrorCode, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def _failure(
    request_id: str | int | None, code: JsonRpcErrorCode, message: str, data: Any
) -> dict[str, Any]:
    return JsonRpcResponse.error_response(code, message, data, request_id).model_dump()
