# SPDX-License-Identifier: BSD-3-Clause
"""`/ws`: one connection is one session. Frames are answered one at a time, in order."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs

from openenv.core.env_server.exceptions import OpenEnvError
from openenv.core.env_server.types import Observation, WSErrorCode
from starlette.types import Message, Receive, Scope, Send

from stepwire.server import tools
from stepwire.server.endpoints.mcp import JsonRpc
from stepwire.server.errors import ConnectionFault, StoppingError, describe
from stepwire.server.logs import current_session
from stepwire.server.sessions import Session, Sessions
from stepwire.server.wire import (
    TOOL_ACTIONS,
    McpMessage,
    MessageDecoder,
    ResetMessage,
    StateMessage,
    StepMessage,
    encode_frame,
    encode_observation_frame,
    encode_state_frame,
)

logger = logging.getLogger("stepwire.server")

_FAREWELL_S = 5.0

# An ASGI extension of our own: `transport` is the `asyncio.Transport` under the WebSocket.
TRANSPORT = "openenv.transport"


class WebSocketEndpoint:
    """A bare ASGI application: between the server's protocol and the decoder nothing is wrapped."""

    def __init__(self, sessions: Sessions, decoder: MessageDecoder, json_rpc: JsonRpc) -> None:
        self._sessions = sessions
        self._decode = decoder.decode_frame
        self._json_rpc = json_rpc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # In a task of its own, a message wakes the conversation and not, with it, a dozen
        # coroutines of uvicorn, FastAPI and Starlette that it is served by.
        await asyncio.create_task(self._accept(scope, receive, send))

    async def _accept(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        attach_to = parse_qs(scope["query_string"].decode("latin-1")).get("session_id", [""])[-1]
        try:
            if attach_to:
                await self._attach(attach_to, scope, receive, send)
            else:
                await self._open(scope, receive, send)
        except OSError:
            logger.debug("The client was gone before its reply could be written")

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            session = await self._sessions.open()
        except OpenEnvError as error:
            logger.info("No session for a client: %s", error)
            await _refuse(send, describe(error), 1012 if self._sessions.draining else 1000)
            return
        try:
            await self._converse(session, scope, receive, send)
        finally:
            await self._sessions.close(session)

    async def _attach(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Continue a session that was created over MCP; it outlives the connection."""
        session = self._sessions.get(session_id)
        if session is None or session.attached:
            reason = "already has a WebSocket" if session else "is not known"
            message = f"Session {session_id[:64]} {reason}"
            await _refuse(send, {"message": message, "code": WSErrorCode.SESSION_ERROR})
            return
        session.attached = True
        try:
            await self._converse(session, scope, receive, send)
        finally:
            session.attached = False
            if session.closing:
                await self._sessions.close(session)

    async def _converse(self, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        current_session.set(session)
        session.connection = connection = _Connection(send)
        try:
            while not self._sessions.draining or connection.has_ended:
                event = await receive()
                if event["type"] == "websocket.disconnect":
                    if not connection.has_ended:
                        logger.debug(
                            "The client closed the connection (code %s)", event.get("code")
                        )
                    return
                if connection.has_ended:
                    continue  # to return before the close frame is out would cut the connection
                session.calls += 1
                try:
                    if not await self._serve(session, event, scope, send):
                        return
                except RuntimeError as error:  # only of `send`, where uvicorn closed meanwhile
                    raise ConnectionResetError from error
                finally:
                    session.calls -= 1
                    session.quiet_since = None
            await connection.end(1012, str(StoppingError()))
        except asyncio.CancelledError:
            if not connection.has_ended:
                raise
        finally:
            session.connection = None

    async def _serve(self, session: Session, event: Message, scope: Scope, send: Send) -> bool:
        """Answer one frame; whether the conversation goes on."""
        try:
            message = self._decode(event.get("text"))
            if isinstance(message, StepMessage):
                reply = encode_observation_frame(await self._act(session, message.data))
            elif isinstance(message, ResetMessage):
                arguments = message.data.model_dump(exclude_unset=True)
                reply = encode_observation_frame(await session.reset(arguments))
            elif isinstance(message, StateMessage):
                reply = encode_state_frame(session.state())
            elif isinstance(message, McpMessage):
                reply = encode_frame("mcp", await self._json_rpc.answer(message.data, session))
            else:
                # First: a client that sees the close may count on the slot being free.
                if not session.attached:
                    await self._sessions.close(session)
                await send({"type": "websocket.close", "code": 1000})
                return False
        except ConnectionFault as fault:
            transport = scope.get("extensions", {}).get(TRANSPORT, {}).get("transport")
            try:
                await fault.perform(send, transport)
                return True
            except ConnectionFault:
                reply = encode_frame("error", describe(fault))
        except Exception as error:  # noqa: BLE001 - whatever happens, the session goes on
            reply = encode_frame("error", describe(error))
        await send({"type": "websocket.send", "text": reply})
        return True

    def _act(self, session: Session, action: Any) -> Coroutine[Any, Any, Observation]:
        if type(action) in TOOL_ACTIONS:
            return tools.act(session, action)
        return session.step(action)


class _Connection:
    """A conversation, as it is ended from elsewhere: for being idle, or at a shutdown."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._task = asyncio.current_task()
        self.has_ended = False

    def end(
        self, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, None]:
        self.has_ended = True  # from now on, whenever the rest of it is done
        return self._close_or_abandon(code, reason, error)

    def abandon(self) -> None:
        self.has_ended = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _close_or_abandon(self, code: int, reason: str, error: dict[str, Any] | None) -> None:
        try:
            await asyncio.wait_for(self._close(code, reason, error), _FAREWELL_S)
        except (OSError, RuntimeError, asyncio.TimeoutError):
            self.abandon()  # the client has gone just now, or does not read

    async def _close(self, code: int, reason: str, error: dict[str, Any] | None) -> None:
        if error is not None:
            await self._send({"type": "websocket.send", "text": encode_frame("error", error)})
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


async def _refuse(send: Send, error: dict[str, Any], close_code: int = 1000) -> None:
    await send({"type": "websocket.send", "text": encode_frame("error", error)})
    await send({"type": "websocket.close", "code": close_code})
