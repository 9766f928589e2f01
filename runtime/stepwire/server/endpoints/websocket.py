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
from stepwire.server.observing.metrics import CODES, counts
from stepwire.server.observing.traces import take_carrier_of_reset
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
        counts[CODES[error["code"]]] += 1
        return encode_frame("error", error)

    async def _answer(self, session: Session, event: Message, connection: SocketConnection) -> bool:
        try:
            message = self._decoder.decode_frame(content_of(event))
            if isinstance(message, StepMessage):
                observation = await self._act(session, message.data)
                if connection.reply_size or session.reply_size:
                    await REPLIES.room(max(connection.reply_size, session.reply_size))
                reply = encode_observation_frame(observation)
            else:
                reply = await self._reply_to(message, session, connection)
                if not reply:
                    return False
        except Exception as error:  # noqa: BLE001 - the session survives any failure
            reply = await self._reply_to_failure(error, session, connection)
            if not reply:
                return True
        await connection.send_text(reply)
        return True

    async def _reply_to(
        self, message: Any, session: Session, connection: SocketConnection
    ) -> bytes:
        """The reply to a message that is no step; none to a `close`."""
        if isinstance(message, ResetMessage):
            arguments = message.data.model_dump(exclude_unset=True)
            observation = await self._reset(session, arguments)
            await REPLIES.room(max(connection.reply_size, session.reply_size))
            return encode_observation_frame(observation)
        if isinstance(message, StateMessage):
            return encode_state_frame(await session.state())
        if isinstance(message, McpMessage):
            result = await self._json_rpc.answer(message.data, session)
            await REPLIES.room(connection.reply_size)
            return encode_frame("mcp", result)
        return b""

    async def _reply_to_failure(
        self, error: Exception, session: Session, connection: SocketConnection
    ) -> bytes:
        """The error frame; none where a scenario's fault has taken its place."""
        if isinstance(error, ConnectionFault):
            size = max(connection.reply_size, session.reply_size)
            if await perform_fault(error, connection, size):
                return b""
        return self._encode_error(describe(error))

    def _act(self, session: Session, action: Any) -> Awaitable[Observation]:
        if type(action) in TOOL_ACTIONS:
            return session.tools.act(session, action)
        return session.step(action)

    def _reset(self, session: Session, arguments: dict[str, Any]) -> Awaitable[Observation]:
        take_carrier_of_reset(arguments)  # a client sends its span also while TRACES=off
        return session.reset(arguments)
