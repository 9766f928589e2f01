# SPDX-License-Identifier: BSD-3-Clause
"""`POST /mcp`: the standard protocol or bare JSON-RPC, one message or a batch of them."""

from typing import Any

from fastapi import APIRouter, Request, Response
from openenv.core.env_server.mcp_types import JsonRpcErrorCode
from starlette.types import Message

from stepwire.server.encoding import encode_json_rpc
from stepwire.server.endpoints.http import body_schema
from stepwire.server.endpoints.mcp import JsonRpc, failure_response, unreadable_response
from stepwire.server.endpoints.mcp_streamable_http import (
    StreamableHttp,
    is_standard_client,
    speaks_standard_mcp,
)
from stepwire.server.errors import MessageError, describe
from stepwire.server.wire import MessageDecoder, as_utf_8

# The only version of MCP that has batches. Its clients do not name it in a header.
_BATCH_VERSION = "2025-03-26"
_MOST_IN_BATCH = 100


class McpRoute:
    """Answers each message in the protocol that the request asks for."""

    def __init__(
        self, decoder: MessageDecoder, json_rpc: JsonRpc, streamable_http: StreamableHttp
    ) -> None:
        self._decoder = decoder
        self._json_rpc = json_rpc
        self._streamable_http = streamable_http

    def add_to(self, router: APIRouter) -> None:
        router.post(
            "/mcp",
            tags=["Tools"],
            summary="List and call tools over MCP",
            responses={
                200: {
                    "model": dict[str, Any] | list[dict[str, Any]],
                    "description": "A JSON-RPC response, or a list of them for a batch",
                },
                202: {"description": "The notification or response was received"},
                400: {"model": dict[str, Any], "description": "This version has no batches"},
            },
            openapi_extra=body_schema("JsonRpcRequest", is_required=True),
        )(self.mcp)

    async def mcp(self, request: Request) -> Response:
        """Speak MCP over Streamable HTTP, and bare JSON-RPC 2.0 without MCP's handshake:
        `tools/list`, `tools/call`, `openenv/session/create` and `openenv/session/close`.
        """
        try:
            body = as_utf_8(await request.body())
            payload = self._decoder.decode_json(body)
        except MessageError as error:
            return _json_response(unreadable_response(error))
        if isinstance(payload, list):
            return await self._answer_batch(request, payload)
        return await self._answer(request, payload, body)

    async def _answer(self, request: Request, payload: Any, body: bytes) -> Response:
        if _is_response(payload):
            return Response(status_code=202)  # there is no request to match: this server sends none
        is_standard = speaks_standard_mcp(request, payload)
        if (is_standard or is_standard_client(request)) and _has_null_id(payload):
            return _refusal("MCP allows no id that is null; a notification has no id")
        if is_standard:
            return await self._streamable_http.answer(request, payload, body)
        return _json_response(await self._json_rpc.answer(payload))

    async def _answer_batch(self, request: Request, batch: list[Any]) -> Response:
        """Answer the messages in order; 202 if none of them has an answer."""
        version = request.headers.get("mcp-protocol-version", _BATCH_VERSION)
        if version != _BATCH_VERSION:
            message = f"MCP has batches in version {_BATCH_VERSION} only, not in {version[:20]}"
            return _refusal(message, status_code=400)
        if not 0 < len(batch) <= _MOST_IN_BATCH:
            message = f"A batch has 1 to {_MOST_IN_BATCH} messages, not {len(batch)}"
            return _refusal(message)
        answers = [await self._answer_in_batch(request, payload) for payload in batch]
        body = b",".join(filter(None, answers))
        if not body:
            return Response(status_code=202)
        return Response(b"[" + body + b"]", media_type="application/json")

    async def _answer_in_batch(self, request: Request, payload: Any) -> bytes:
        fields = payload if isinstance(payload, dict) else {}
        if fields.get("method") == "initialize":
            code = JsonRpcErrorCode.INVALID_REQUEST
            return _failure(code, "`initialize` may not be part of a batch", fields.get("id"))
        try:
            body = encode_json_rpc(payload)
            answer = await _content_of(await self._answer(request, payload, body), request)
        except Exception as error:  # noqa: BLE001 - the other messages are answered all the same
            code = JsonRpcErrorCode.INTERNAL_ERROR
            answer = _failure(code, describe(error)["message"], fields.get("id"))
        is_notification = "method" in fields and "id" not in fields
        return b"" if is_notification else answer


def _is_response(payload: Any) -> bool:
    """Whether a message is a JSON-RPC response."""
    if not isinstance(payload, dict) or "method" in payload or "id" not in payload:
        return False
    return payload.get("jsonrpc") == "2.0" and ("result" in payload or "error" in payload)


def _has_null_id(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.get("id", "") is None


def _refusal(message: str, status_code: int = 200) -> Response:
    body = _failure(JsonRpcErrorCode.INVALID_REQUEST, message)
    return Response(body, status_code, media_type="application/json")


def _failure(code: JsonRpcErrorCode, message: str, request_id: Any = None) -> bytes:
    valid_id = request_id if isinstance(request_id, str | int) else None
    return encode_json_rpc(failure_response(code, message, request_id=valid_id))


def _json_response(response: dict[str, Any]) -> Response:
    return Response(encode_json_rpc(response), media_type="application/json")


async def _content_of(response: Response, request: Request) -> bytes:
    """The body of a response, which may be another application's."""
    parts: list[bytes] = []

    async def keep(message: Message) -> None:
        parts.append(message.get("body", b""))

    await response(request.scope, request.receive, keep)
    return b"".join(parts)
