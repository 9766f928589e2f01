# SPDX-License-Identifier: BSD-3-Clause
"""Bare JSON-RPC 2.0, on `POST /mcp` and in `mcp` frames: tools, and sessions created over MCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

from openenv.core.env_server.exceptions import OpenEnvError
from openenv.core.env_server.mcp_types import (
    JsonRpcErrorCode,
    JsonRpcRequest,
    JsonRpcResponse,
)
from pydantic import ValidationError
from pydantic_core import from_json, to_jsonable_python

from stepwire.server.encoding import encode_json_rpc
from stepwire.server.errors import MessageError, StoppingError, describe
from stepwire.server.json_values import as_known, jsonable
from stepwire.server.observing.metrics import CODES, counts
from stepwire.server.session import Session
from stepwire.server.sessions import Sessions
from stepwire.server.tools import ToolFailure, result_of

_MOST_KEYS = 50  # of a request; a valid one has four


class JsonRpc:
    """Answers JSON-RPC requests one by one, without MCP's handshake."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        sessions.places.answer_with(self._answer_other_worker)

    async def answer(self, payload: Any, session: Session | None = None) -> dict[str, Any]:
        """Answer one request; `session` is the session of the WebSocket it came over, if any.

        The worker that has the session, or that makes it, answers.
        """
        try:
            request = read_request(payload)
        except MessageError as error:
            return failure_response(
                JsonRpcErrorCode.INVALID_REQUEST, "Invalid request", error.errors
            )
        worker = self._worker_for(request, session)
        if worker is not None:
            return await self._ask(worker, payload, request)
        return await self._answer(request, session)

    def _worker_for(self, request: JsonRpcRequest, session: Session | None) -> int | None:
        """The worker that answers a request, unless it is this one."""
        if request.method == "openenv/session/create":
            return self._sessions.places.least_loaded() if session is None else None
        if session is None or request.method == "openenv/session/close":
            return self._sessions.places.holder(request.params.get("session_id"))
        return None

    async def _ask(self, worker: int, payload: Any, request: JsonRpcRequest) -> dict[str, Any]:
        async with self._sessions.awaited():
            reply = await self._sessions.places.ask(worker, encode_json_rpc(payload))
        if not reply:
            message = "The server lost the session: a worker process has ended"
            return failure_response(JsonRpcErrorCode.SERVER_ERROR, message, request_id=request.id)
        answer: dict[str, Any] = from_json(reply)
        if (failure := answer.pop("failure", None)) is not None:
            raise StoppingError if failure == str(StoppingError()) else OpenEnvError(failure)
        return answer

    async def _answer_other_worker(self, question: bytes) -> bytes:
        try:
            answer = await self._answer(read_request(from_json(question)), None)
        except Exception as error:  # noqa: BLE001 - the other worker raises it
            answer = {"failure": describe(error)["message"]}
        return encode_json_rpc(answer)

    async def _answer(self, request: JsonRpcRequest, session: Session | None) -> dict[str, Any]:
        try:
            result = await self._dispatch(request, session)
        except _RpcFailure as failure:
            return failure_response(failure.code, str(failure), failure.data, request.id)
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
                if session is not None:
                    return await _use_tools(request, session)
                async with self._session_for(request.params) as session:
                    return await _use_tools(request, session)
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
            session.share()
        return {"session_id": session.id}

    async def _close_session(
        self, params: dict[str, Any], session: Session | None
    ) -> dict[str, Any]:
        if session is not None and params.get("session_id") == session.id:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_REQUEST,
                "A WebSocket's own session ends with it, or by a `close` frame, not over MCP",
            )
        target = self._named_session(params)
        if target is None:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS, "Invalid params - 'session_id' is required"
            )
        if target.connection is not None:
            target.end_with_connection()
            return {"session_id": target.id, "closed": False, "closing": True}
        await self._sessions.close(target)
        return {"session_id": target.id, "closed": True}

    @asynccontextmanager
    async def _session_for(self, params: dict[str, Any]) -> AsyncIterator[Session]:
        """The session that a request over HTTP names, when its turn comes; else one of its own."""
        named = self._named_session(params)
        if named is None:
            async with self._sessions.temporary() as temporary:
                yield temporary
            return
        try:
            async with self._sessions.request(named):
                yield named  # `close` waits for the calls before it
        finally:
            # A stopping server waits for the session; one with a connection ends with that.
            if self._sessions.draining and not named.is_in_use and named.connection is None:
                await self._sessions.close(named)

    def _named_session(self, params: dict[str, Any]) -> Session | None:
        session_id = params.get("session_id")
        if not session_id:
            return None
        session = self._sessions.find_shared(session_id)
        if session is None:
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS, f"Unknown session_id: {str(session_id)[:64]}"
            )
        return session


async def _use_tools(request: JsonRpcRequest, session: Session) -> Any:
    try:
        if request.method == "tools/list":
            return {"tools": await session.tools.specifications(session)}
        name, arguments = request.params.get("name"), request.params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise _RpcFailure(
                JsonRpcErrorCode.INVALID_PARAMS,
                "Invalid params - 'name' must be a string and 'arguments' an object",
            )
        result = await session.tools.call(session, name, arguments)
    except ToolFailure as failure:
        if failure.code is not None:
            raise _RpcFailure(failure.code, str(failure)) from None
        result = result_of(str(failure), is_error=True)
    sent = to_jsonable_python(jsonable(result), by_alias=False, fallback=as_known)
    if isinstance(sent, dict) and "is_error" in sent:
        # The framework's clients read these fields by the stock's names, MCP's by the standard's.
        sent |= {"structuredContent": sent["structured_content"], "isError": sent["is_error"]}
    return sent


def read_request(payload: Any) -> JsonRpcRequest:
    """The request as a model; raises `MessageError` if it is not a request."""
    if isinstance(payload, dict) and len(payload) > _MOST_KEYS:
        payload = {key: payload[key] for key in islice(payload, _MOST_KEYS)}  # as invalid
    try:
        request = JsonRpcRequest.model_validate(payload)
    except ValidationError as error:
        raise MessageError.from_validation(error) from None
    if isinstance(payload.get("id"), bool | float):  # the model makes integers of them
        reason = "An id is a string or an integer"
        raise MessageError.invalid("id_type", ("id",), reason, payload["id"])
    return request


class _RpcFailure(Exception):
    """An error to answer a request with."""

    def __init__(self, code: JsonRpcErrorCode, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def failure_response(
    code: JsonRpcErrorCode, message: str, data: Any = None, request_id: str | int | None = None
) -> dict[str, Any]:
    """A response with an error."""
    counts[CODES[code]] += 1
    return JsonRpcResponse.error_response(code, message, data, request_id).model_dump()


def unreadable_response(error: MessageError) -> dict[str, Any]:
    """The response to text that is not JSON, or that exceeds a limit."""
    return failure_response(JsonRpcErrorCode.PARSE_ERROR, str(error), error.errors)
