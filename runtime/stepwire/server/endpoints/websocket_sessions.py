# SPDX-License-Identifier: BSD-3-Clause
"""WebSockets that are sessions: one connection, one session. Frames are answered in order."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import parse_qs

from openenv.core.env_server.exceptions import OpenEnvError
from openenv.core.env_server.types import WSErrorCode
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from stepwire.server.endpoints.access import require_access_control
from stepwire.server.endpoints.mcp import JsonRpc
from stepwire.server.errors import StoppingError, describe
from stepwire.server.json_limits import size_of_values
from stepwire.server.logs import current_session
from stepwire.server.memory import DECODED, LARGE, size_in_memory
from stepwire.server.observing.metrics import note_refusal
from stepwire.server.session import Session
from stepwire.server.sessions import Sessions
from stepwire.server.wire import MessageDecoder

logger = logging.getLogger("stepwire.server")

_CLOSE_TIMEOUT_S = 5.0

# An ASGI extension of our own: what our WebSocket protocol does beyond ASGI, a `Wire`.
WIRE = "stepwire.wire"


class Wire(Protocol):
    """Our WebSocket protocol; its `send` also takes messages whose text is `bytes`, in `utf8`."""

    takes_utf8: bool
    transport: asyncio.Transport
    writable: asyncio.Event

    async def write_slowly(self, text: bytes, seconds: float) -> None:
        """Write a text frame in pieces over that many seconds."""


class SessionEndpoint(ABC):
    """A bare ASGI application: nothing stands between uvicorn's protocol and the decoder."""

    def __init__(self, sessions: Sessions, decoder: MessageDecoder, json_rpc: JsonRpc) -> None:
        self._sessions = sessions
        self._decoder = decoder
        self._json_rpc = json_rpc

    @abstractmethod
    async def _answer(
        self, session: Session, event: Message, connection: "SocketConnection"
    ) -> bool:
        """Answer one frame; `False` ends the connection, and the session if it ends with it."""

    @abstractmethod
    def _encode_error(self, error: dict[str, Any]) -> bytes:
        """The frame for an error that answers no request: `message`, `code` and maybe more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        require_access_control(scope)
        # A task of its own: otherwise every frame resumes a dozen nested coroutines of uvicorn,
        # FastAPI and Starlette before it reaches this one.
        await asyncio.create_task(self._accept(scope, receive, send))

    async def _accept(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if self._sessions.draining and "websocket.http.response" in scope.get("extensions", {}):
            # A proxy can try another server, which it cannot once the handshake is accepted.
            stopping = StoppingError()
            note_refusal(stopping)
            await JSONResponse({"detail": str(stopping)}, 503)(scope, receive, send)
            return
        await send({"type": "websocket.accept"})
        wire = scope.get("extensions", {}).get(WIRE)
        connection = SocketConnection(send, wire, self._encode_error)
        requested = parse_qs(scope["query_string"].decode("latin-1")).get("session_id", [""])[-1]
        try:
            if requested:
                session = await self._find(requested, connection)
            else:
                session = await self._open(connection)
            if session is not None:
                await self._use(session, connection, receive)
        except OSError:
            logger.debug("The client disconnected before its reply was written")

    async def _open(self, connection: "SocketConnection") -> Session | None:
        """A new session; `None` when the client has been refused."""
        try:
            return await self._sessions.open()
        except StoppingError as error:  # since the handshake
            await connection.end(1012, str(error))
        except OpenEnvError as error:
            logger.info("No session for a client: %s", error)
            await connection.refuse(describe(error))
        return None

    async def _find(self, session_id: str, connection: "SocketConnection") -> Session | None:
        """A session that was created over MCP; `None` when the client has been refused."""
        session = self._sessions.find_shared(session_id)
        if session is not None and session.connection is None:
            return session
        reason = "already has a WebSocket" if session else "is not known"
        message = f"Session {session_id[:64]} {reason}"
        await connection.refuse({"message": message, "code": WSErrorCode.SESSION_ERROR})
        return None

    async def _use(
        self, session: Session, connection: "SocketConnection", receive: Receive
    ) -> None:
        """Serve the session's frames until the connection is over."""
        current_session.set(session)
        logger.info("A client has a session")
        session.attach(connection)
        if connection.wire is not None:
            connection.wire.takes_utf8 = True
        try:
            try:
                await self._answer_frames(session, connection, receive)
            finally:
                session.detach()
                if session.ends_with_connection:
                    await self._sessions.close(session)
        except asyncio.CancelledError:
            if not connection.has_ended:
                raise

    async def _answer_frames(
        self, session: Session, connection: "SocketConnection", receive: Receive
    ) -> None:
        writable = None if connection.wire is None else connection.wire.writable
        while not self._sessions.draining or connection.has_ended:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                if not connection.has_ended:
                    logger.debug("The client closed the connection (code %s)", event.get("code"))
                return
            if connection.has_ended:
                continue  # returning before the close frame is written would cut the connection
            if writable is not None and not writable.is_set():
                await writable.wait()  # the client has not read its replies
            if not session.begin_call_now():
                await session.begin_call()
            try:
                if "text" not in event or len(event["text"] or b"") > LARGE:
                    goes_on = await self._answer_large(session, event, connection)
                else:
                    goes_on = await self._answer(session, event, connection)
            except RuntimeError as error:  # raised only by `send`, after uvicorn has closed
                raise ConnectionResetError from error
            finally:
                session.end_call()
            if not goes_on:
                # Before the close frame: a client that has seen it may use the slot at once.
                if session.ends_with_connection:
                    await self._sessions.close(session)
                await connection.end(1000, "")
                return
        await connection.end(1012, str(StoppingError()))

    async def _answer_large(
        self, session: Session, event: Message, connection: "SocketConnection"
    ) -> bool:
        """Answer a frame once there is memory for it."""
        content: str | bytes = event.get("utf8") or event.get("text") or event.get("bytes") or ""
        decoded, connection.reply_size = size_in_memory(content)
        decoded += size_of_values(content)
        del content  # the memory of the text is free once it is decoded
        async with DECODED.share(min(decoded, DECODED.limit)):
            return await self._answer(session, event, connection)


def content_of(event: Message) -> str | bytes | None:
    """Remove the text from an event, so that its memory is freed once it is decoded."""
    utf8: bytes | None = event.pop("utf8", None)
    return event.pop("text", None) if utf8 is None else utf8


class SocketConnection:
    """The connection of a session, which the idle timeout and a shutdown end from outside."""

    def __init__(
        self,
        send: Send,
        wire: Wire | None,
        encode_error: Callable[[dict[str, Any]], bytes],
    ) -> None:
        self._encode_error = encode_error
        self.send = send
        self.wire = wire
        self.has_ended = False
        self.reply_size = 0
        """Bytes that the next reply is expected to take; 0 unless it is large."""
        self._task = asyncio.current_task()

    def send_text(self, text: bytes) -> Awaitable[None]:
        """Send a text frame."""
        self.reply_size = 2 * len(text) if len(text) > LARGE else 0
        if self.wire is None:
            return self.send({"type": "websocket.send", "text": text.decode()})
        return self.send({"type": "websocket.send", "utf8": text})

    async def refuse(self, error: dict[str, Any], close_code: int = 1000) -> None:
        """Answer the handshake with an error, and close."""
        await self.send_text(self._encode_error(error))
        await self.send({"type": "websocket.close", "code": close_code})

    def end(
        self, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Answer no further frame from now on; what is returned closes the connection."""
        self.has_ended = True
        return self._close_or_abandon(code, reason, error)

    def abandon(self) -> None:
        self.has_ended = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _close_or_abandon(self, code: int, reason: str, error: dict[str, Any] | None) -> None:
        try:
            await asyncio.wait_for(self._close(code, reason, error), _CLOSE_TIMEOUT_S)
        except (OSError, RuntimeError, asyncio.TimeoutError):
            self.abandon()  # the client has just disconnected, or does not read

    async def _close(self, code: int, reason: str, error: dict[str, Any] | None) -> None:
        if error is not None:
            await self.send_text(self._encode_error(error))
        await self.send({"type": "websocket.close", "code": code, "reason": reason})
