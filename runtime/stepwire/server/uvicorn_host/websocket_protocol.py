# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's WebSocket protocol with a fast path for the frames that steps are made of.

The general parser of `websockets`, uvicorn's queue, and its pause of the socket at every message
cost more than everything else the server does for a step. This protocol reads and writes plain
frames itself (`stepwire.protocol.frames`) and hands whole control frames to uvicorn. From the first
other frame on (fragments, binary, compressed, too large, invalid), uvicorn reads all that arrives.
"""

import asyncio
from collections import deque
from typing import Any

from stepwire.protocol.frames import NotPlainError, apply_mask, plain_frame, server_frame
from stepwire.server.endpoints.websocket_sessions import TRANSPORT
from stepwire.server.uvicorn_host.internals import (
    ClientDisconnected,
    Request,
    UvicornWebSocketProtocol,
)

# Reading pauses when this many messages wait for the application, or a single larger one.
_MOST_WAITING = 8
_LARGE = 64 * 1024


class EventQueue(deque[Any]):
    """The events for the application; has the part of `asyncio.Queue` that uvicorn calls."""

    awaited: asyncio.Future[Any] | None = None

    def put_nowait(self, event: Any) -> None:
        """Hand the event to the application if it waits for one."""
        if self.awaited is None or self.awaited.done():
            self.append(event)
        else:
            self.awaited.set_result(event)


class WebSocketProtocol(UvicornWebSocketProtocol):
    """Named by its import path in uvicorn's option `ws`."""

    queue: EventQueue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = EventQueue()
        self._received = (
            bytearray()
        )  # an incomplete frame, or all that waits while reading is paused
        self._is_plain = False  # True from the handshake to the first frame that is not plain

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake (called by uvicorn)."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self._is_plain = True
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[TRANSPORT] = {"transport": self.transport}

    def data_received(self, data: bytes) -> None:
        if not self._is_plain:
            super().data_received(data)
            return
        received: bytes | bytearray = data
        if self._received:
            received = self._received
            received += data
        begin = 0
        try:
            while begin < len(received) and not self.read_paused:
                frame = plain_frame(received, begin, self.config.ws_max_size, True)
                if frame is None:
                    break
                is_text, payload, end = frame
                if is_text:
                    self._deliver(
                        apply_mask(received[payload:end], received[payload - 4 : payload])
                    )
                else:
                    super().data_received(bytes(received[begin:end]))
                begin = end
        except (NotPlainError, UnicodeDecodeError):
            self._is_plain = False
            super().data_received(bytes(received[begin:]))
            begin = len(received)
        if received is self._received:
            del received[:begin]
        else:
            self._received += received[begin:]

    def _deliver(self, message: bytes) -> None:
        text = message.decode()
        if self.close_sent:  # the application is done; only the client's close frame is awaited
            return
        queue = self.queue
        queue.put_nowait({"type": "websocket.receive", "text": text})
        if queue and (len(queue) >= _MOST_WAITING or len(message) > _LARGE):
            self.read_paused = True
            self.transport.pause_reading()

    def receive(self) -> asyncio.Future[Any]:  # type: ignore[override]
        """Return a future of the next event (called by the application)."""
        event: asyncio.Future[Any] = self.loop.create_future()
        queue = self.queue
        if queue:
            event.set_result(queue.popleft())
        else:
            queue.awaited = event
        if self.read_paused and not queue:
            self.read_paused = False
            self.transport.resume_reading()
            self.data_received(b"")
        return event

    def send_receive_event_to_app(self) -> None:
        """Hand over a message, or refuse text that is not UTF-8 (called by uvicorn)."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn would log a traceback
                self.conn.fail(1007, "invalid UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        """Write a text frame, or leave the message to uvicorn (called by the application)."""
        text = message.get("text")
        is_open = self.handshake_complete and not self.close_sent
        if text is None or not is_open or not self.writable.is_set():
            await super().send(message)
            if self.initial_response is not None and self.close_sent:
                # Refused with a response of the application's: uvicorn would log an error.
                self.handshake_complete = True
            if self._received and self.close_sent:  # find the client's close frame in what waits
                self.data_received(b"")
            return
        if self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(server_frame(text.encode()))
