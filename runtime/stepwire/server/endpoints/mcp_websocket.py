# SPDX-License-Identifier: BSD-3-Clause
"""`/mcp` as a WebSocket: JSON-RPC, each request and each response a frame, in one session."""

from typing import Any

from openenv.core.env_server.mcp_types import JsonRpcErrorCode
from starlette.types import Message

from stepwire.server.encoding import encode_json_rpc
from stepwire.server.endpoints.mcp import failure_response, unreadable_response
from stepwire.server.endpoints.websocket_sessions import (
    SessionEndpoint,
    SocketConnection,
    content_of,
)
from stepwire.server.errors import MessageError, describe
from stepwire.server.memory import REPLIES
from stepwire.server.session import Session


class McpWebSocketEndpoint(SessionEndpoint):
    """Answers what `POST /mcp` answers to bare JSON-RPC, with an environment that stays."""

    def _encode_error(self, error: dict[str, Any]) -> bytes:
        details = {name: error[name] for name in error if name not in ("message", "code")}
        code = JsonRpcErrorCode.SERVER_ERROR
        return encode_json_rpc(failure_response(code, error["message"], details or None))

    async def _answer(self, session: Session, event: Message, connection: SocketConnection) -> bool:
        try:
            payload = self._decoder.decode_json(content_of(event) or event.pop("bytes", ""))
            response = await self._json_rpc.answer(payload, session)
            await REPLIES.room(connection.reply_size)
            reply = encode_json_rpc(response)
        except MessageError as error:
            reply = encode_json_rpc(unreadable_response(error))
        except Exception as error:  # noqa: BLE001 - the session survives any failure
            message = describe(error)["message"]
            reply = encode_json_rpc(failure_response(JsonRpcErrorCode.INTERNAL_ERROR, message))
        await connection.send_text(reply)
        return True
