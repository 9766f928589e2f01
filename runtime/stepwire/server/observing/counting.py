# SPDX-License-Identifier: BSD-3-Clause
"""What serves in place of the plain parts where steps and bytes are counted.

It is chosen once, when the application is made: what does not count pays nothing.
"""

from time import perf_counter_ns as now

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.encoding import encode_observation_frame
from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.endpoints.websocket_sessions import SocketConnection, content_of
from stepwire.server.memory import REPLIES
from stepwire.server.observing.metrics import (
    RECEIVED,
    SENT,
    SUM,
    counts,
    encoding_times,
    environment_times,
    waiting_times,
)
from stepwire.server.session import Session
from stepwire.server.wire import StepMessage


class CountingWebSocketEndpoint(WebSocketEndpoint):
    """`/ws`, with the bytes of its messages and the times of its steps."""

    async def _answer(self, session: Session, event: Message, connection: SocketConnection) -> bool:
        content = content_of(event)
        try:
            if content is not None:
                counts[RECEIVED] += len(content if content.isascii() else _bytes_of(content))
            message = self._decoder.decode_frame(content)
            content = None  # its memory is free from now on
            if isinstance(message, StepMessage):
                began = now()
                observation = await self._act(session, message.data)
                ended = now()
                if connection.reply_size or session.reply_size:
                    await REPLIES.room(max(connection.reply_size, session.reply_size))
                reply = encode_observation_frame(observation)
                # `note_step`, without a call.
                encoding = now() - ended
                arrived = event.get("arrived", began)  # an author's middleware may make events
                span = session.caller.step_span
                if span is None or span[0] < began:  # that of an earlier step
                    environment = ended - began
                    waiting = began - arrived
                else:
                    environment = span[1] - span[0]
                    waiting = ended - arrived - environment
                waiting_times[waiting.bit_length()] += 1
                waiting_times[SUM] += waiting
                environment_times[environment.bit_length()] += 1
                environment_times[SUM] += environment
                encoding_times[encoding.bit_length()] += 1
                encoding_times[SUM] += encoding
            else:
                reply = await self._reply_to(message, session, connection)
                if not reply:
                    return False
        except Exception as error:  # noqa: BLE001 - the session survives any failure
            content = None
            reply = await self._reply_to_failure(error, session, connection)
            if not reply:
                return True
        counts[SENT] += len(reply)
        await connection.send_text(reply)
        return True


class CountingBodies:
    """ASGI middleware: counts the bytes of HTTP bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_count() -> Message:
            message = await receive()
            counts[RECEIVED] += len(message.get("body", b""))
            return message

        async def send_and_count(message: Message) -> None:
            counts[SENT] += len(message.get("body", b""))
            await send(message)

        if scope["type"] == "http":
            await self._app(scope, receive_and_count, send_and_count)
        else:
            await self._app(scope, receive, send)


def _bytes_of(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
