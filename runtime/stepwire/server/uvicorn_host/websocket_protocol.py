# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's WebSocket protocol with a short cut for the frames that steps are made of.

A request and its reply are each one whole text message in one frame (RFC 6455, section 5.2). For
these the general parser of `websockets`, which takes any frame byte by byte, with uvicorn's queue
and its pause of the socket at every message, costs more than all else the server does for a step.
So plain frames are read and written here. Control frames go to uvicorn's own code, whole; from the
first frame of any other kind on (fragments, binary, compressed, too large, broken) it has the
incoming side of the connection to itself.
"""

import asyncio
import struct
from collections import deque
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from stepwire.server.endpoints.websocket import TRANSPORT

try:
    from websockets.speedups import apply_mask
except (
    ImportError
):  # pragma: no cover - where `websockets` has no compiled part, the same in Python
    from websockets.utils import apply_mask

_TEXT = 0x81  # the first byte of a text message that is whole
_CONTROL = frozenset({0x88, 0x89, 0x8A})  # close, ping, pong
_MASKED = 0x80  # in the second byte, as a client's frame has to be
# Reading stops when this many messages wait for the application, or one of more bytes than this.
_MOST_WAITING = 8
_LARGE = 64 * 1024


class NotPlainError(Exception):
    """What was received goes on with a frame of another kind."""


def plain_frame(
    received: bytes | bytearray, begin: int, max_size: int
) -> tuple[bool, int, int] | None:
    """Whether the frame at `begin` is text, where its payload begins and where it ends.

    `None` while it is not all there; the four bytes before the payload are its mask. Raises
    `NotPlainError` for a frame of another kind and for a payload above `max_size`.
    """
    available = len(received) - begin
    if available < 2:
        return None
    first, size = received[begin], received[begin + 1] - _MASKED
    is_text = first == _TEXT
    if size < 0 or not (is_text or (first in _CONTROL and size <= 125)):
        raise NotPlainError
    payload = begin + 6
    if size > 125:
        length_bytes = 2 if size == 126 else 8
        payload += length_bytes
        if available < 2 + length_bytes:
            return None
        size = int.from_bytes(received[begin + 2 : begin + 2 + length_bytes], "big")
    if size > max_size:
        raise NotPlainError
    end = payload + size
    return (is_text, payload, end) if end <= len(received) else None


class _Inbox(deque[Any]):
    """Events the application takes one at a time: what uvicorn needs of its queue, but small."""

    awaited: asyncio.Future[Any] | None = None

    def put_nowait(self, event: Any) -> None:
        if self.awaited is None or self.awaited.done():
            self.append(event)
        else:
            self.awaited.set_result(event)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """For uvicorn's option `ws`, by its import path."""

    queue: _Inbox  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = _Inbox()
        self._received = bytearray()  # what is no whole frame yet, or waits while reading is paused
        self._is_plain = False  # from the handshake on, until a frame is of another kind

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
                frame = plain_frame(received, begin, self.config.ws_max_size)
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
        if self.close_sent:  # uvicorn only waits for the client to close as well
            return
        queue = self.queue
        queue.put_nowait({"type": "websocket.receive", "text": text})
        if queue and (len(queue) >= _MOST_WAITING or len(message) > _LARGE):
            self.read_paused = True
            self.transport.pause_reading()

    def receive(self) -> asyncio.Future[Any]:  # type: ignore[override]
        """The next event, to be awaited (called by the application)."""
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

    async def send(self, message: Any) -> None:
        """Write a frame, or what else the application sends (called by it)."""
        text = message.get("text")
        is_open = self.handshake_complete and not self.close_sent
        if text is None or not is_open or not self.writable.is_set():
            await super().send(message)
            if self._received and self.close_sent:  # reading goes on, for the client's close frame
                self.data_received(b"")
            return
        if self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(_text_frame(text.encode()))


def _text_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", _TEXT, size)
    elif size < 65536:
        header = struct.pack("!BBH", _TEXT, 126, size)
    else:
        header = struct.pack("!BBQ", _TEXT, 127, size)
    return header + payload
