# SPDX-License-Identifier: BSD-3-Clause
"""`/ws`: the frames of a session."""

from collections.abc import Awaitable
from typing import Any

from openenv.core.env_server.types import Observation
from starlette.types import Message

from stepwire.server.encoding import (
    encode_frame,
    encode_observation_frame,
    encode_state_frame,
)
from stepwire.server.endpoints.websocket_faults import perform_fault
from stepwire.server.endpoints.websocket_sessions import (
    SessionEndpoint,
    SocketConnection,
    content_of,
)
from stepwire.server.errors import describe
from stepwire.server.memory import REPLIES
from stepwire.server.scenarios import ConnectionFault
from stepwire.server.session import Session
from stepwire.server.wire import (
    TOOL_ACTIONS,
    McpMessage,
    ResetMessage,
    StateMessage,
    StepMessage,
)


class WebSocketEndpoint(SessionEndpoint):
    """Resets, steps, states and MCP, each as a frame of its own type."""

    def _encode_error(self, error: dict[str, Any]) -> bytes:
        return encode_frame("error", error)

    async def _answer(self, session: Session, event: Message, connection: SocketConnection) -> bool:
        try:
            message = self._decoder.decode_frame(content_of(event))
            if isinstance(message, StepMessage):
                observation = await self._act(session, message.data)
                if connection.reply_size or session.reply_size:
                    await REPLIES.room(max(connection.reply_size, session.reply_size))
                reply = encode_observation_frame(observation)
            elif isinstance(message, ResetMessage):
                arguments = message.data.model_dump(exclude_unset=True)
                observation = await session.reset(arguments)
                await REPLIES.room(max(connection.reply_size, session.reply_size))
                reply = encode_observation_frame(observation)
            elif isinstance(message, StateMessage):
                reply = encode_state_frame(await session.state())
            elif isinstance(message, McpMessage):
                result = await self._json_rpc.answer(message.data, session)
                await REPLIES.room(connection.reply_size)
                reply = encode_frame("mcp", result)
            else:
                return False
        except ConnectionFault as fault:
            size = max(connection.reply_size, session.reply_size)
            if await perform_fault(fault, connection, size):
                return True
            reply = encode_frame("error", describe(fault))
        except Exception as error:  # noqa: BLE001 - the session survives any failure
            reply = encode_frame("error", describe(error))
        await connection.send_text(reply)
        return True

    def _act(self, session: Session, action: Any) -> Awaitable[Observation]:
        if type(action) in TOOL_ACTIONS:
            return session.tools.act(session, action)
        return session.step(action)
