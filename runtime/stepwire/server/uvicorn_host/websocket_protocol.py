# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's WebSocket protocol with a fast path for valid frames.

The general parser of `websockets`, uvicorn's queue, and its pause of the socket at every message
cost more than everything else the server does for a step. This protocol reads and writes messages
itself (`stepwire.protocol.frames`) and hands whole control frames to uvicorn. From the first other
frame on (too large, invalid, or compressed), uvicorn reads all that arrives.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from time import perf_counter_ns as now
from typing import Any

from stepwire.protocol.frames import (
    ALL,
    NotPlainError,
    apply_mask,
    plain_frame,
    request_size,
    server_header,
)
from stepwire.server.endpoints.websocket_sessions import WIRE
from stepwire.server.memory import LARGE, RECEIVED, REPLIES, is_slow
from stepwire.server.observing.metrics import ENABLED
from stepwire.server.uvicorn_host.internals import ClientDisconnected, Request
from stepwire.server.uvicorn_host.websocket_limits import BoundedWebSocketProtocol

# Reading pauses while this many messages, or one large message, wait for the application.
_MOST_WAITING = 8
# Control frames and fragments that are read before other connections have their turn.
_MOST_AT_ONCE = 64
_SLOW_PIECES = 20


class EventQueue(deque[Any]):
    """The events for the application; has the part of `asyncio.Queue` that uvicorn calls."""

    awaited: asyncio.Future[Any] | None = None

    def put_nowait(self, event: Any) -> None:
        """Hand the event to the application if it waits for one."""
        if self.awaited is None or self.awaited.done():
            self.append(event)
        else:
            self.awaited.set_result(event)


class _TimedQueue(EventQueue):
    """Notes when an event arrived; for metrics."""

    def put_nowait(self, event: Any) -> None:
        event["arrived"] = now()
        if self.awaited is None or self.awaited.done():
            self.append(event)
        else:
            self.awaited.set_result(event)


_QUEUE = _TimedQueue if ENABLED else EventQueue


class _Fragments(bytearray):
    """The fragments of a message so far."""

    is_text = True


class _Arrival:
    """The memory share of a connection's large message, from its first bytes on."""

    __slots__ = ("_began", "_received", "_task", "is_delivered", "share")

    def __init__(self) -> None:
        self.share = 0
        self.is_delivered = False  # the application has the message
        self._received = 0
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._task is not None

    @property
    def is_slow(self) -> bool:
        return self.share > 0 and not self.is_delivered and is_slow(self._began, self._received)

    def take(self, size: int, received: int) -> bool:
        """Take a share, or a larger one, if there is room for it."""
        self._received = received
        if self.is_delivered or self.is_waiting:
            return False
        if size > self.share:
            if RECEIVED.is_contended or not RECEIVED.take(size - self.share):
                return False
            self._note(size)
        return True

    def wait(self, size: int, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        """Take a share once there is room for it and the current message is answered."""

        async def wait() -> None:
            await RECEIVED.wait(size - self.share)
            self._task = None
            self._note(size)
            then()

        if not (self.is_delivered or self.is_waiting):
            self._task = loop.create_task(wait())

    def end(self) -> None:
        """Release the share."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        RECEIVED.give_back(self.share)
        self.share = 0
        self.is_delivered = False

    def _note(self, size: int) -> None:
        if not self.share:
            self._began = monotonic()
        self.share = size


class WebSocketProtocol(BoundedWebSocketProtocol):
    """Named by its import path in uvicorn's option `ws`."""

    queue: EventQueue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = _QUEUE()
        # An incomplete frame, or everything received while reading is paused.
        self._received = bytearray()
        self._is_plain = False  # True from the handshake to the first frame that is not plain
        self._fragments: _Fragments | None = None  # the beginning of a message
        self._arrival = _Arrival()
        self._waiting_bytes = 0  # of the messages in the queue
        self.takes_utf8 = False
        """Whether the application takes large messages with their text in `utf8`, as `bytes`."""
        self.large_reply = 0
        """Bytes of the latest large reply, which is kept until all of it has been sent."""

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake (called by uvicorn)."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self._is_plain = not self.conn.extensions
            self.scope["extensions"][WIRE] = self

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._received.clear()
        self._fragments = None
        if not self._arrival.is_delivered:
            self._arrival.end()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Note that the application has returned (called by uvicorn)."""
        super().on_task_complete(task)
        self._arrival.end()

    def data_received(self, data: bytes) -> None:
        if not self._is_plain:
            super().data_received(data)
            return
        received: bytes | bytearray = data
        if self._received:
            received = self._received
            received += data
        begin = others = 0
        try:
            while begin < len(received) and self._is_plain and not self.read_paused:
                frame = plain_frame(received, begin, self.config.ws_max_size, True, ALL)
                if frame is None:
                    break
                is_text, payload, end = frame
                if end - payload > LARGE and not self._has_memory(end - payload):
                    break
                if is_text and self._fragments is None:
                    self._deliver(_unmasked(received, payload, end), True)
                else:
                    others += 1
                    self._receive_other(received, begin, payload, end)
                    if others == _MOST_AT_ONCE or self.rest_s():
                        self._pause()
                        self.loop.call_later(self.rest_s(), self._go_on)
                begin = end
        except NotPlainError:
            self._is_plain = False
            super().data_received(bytes(received[begin:]))
        if not self._is_plain:
            begin = len(received)
        if received is self._received:
            del received[:begin]
        elif begin < len(received):
            self._received += memoryview(received)[begin:]
        if len(self._received) > LARGE and self._is_plain and not self.read_paused:
            self._has_memory(request_size(self._received, 0))

    def _receive_other(
        self, received: bytes | bytearray, begin: int, payload: int, end: int
    ) -> None:
        """Receive a control frame, a binary message or a fragment."""
        first = received[begin]
        if first & 8:
            super().data_received(bytes(received[begin:end]))
            self._is_plain = self._is_plain and self.conn.close_rcvd is None
            return
        fragments, opcode = self._fragments, first & 0x0F
        if (opcode == 0) != (fragments is not None):
            if fragments is None:
                raise NotPlainError
            self._end(1002, "expected a continuation frame")
            return
        data = _unmasked(received, payload, end)
        if fragments is None:
            fragments = self._fragments = _Fragments()
            fragments.is_text = opcode == 1
        limit = self.config.ws_max_size
        if len(fragments) + len(data) > limit:
            self._end(1009, f"a message of more than {limit} bytes, in fragments")
            return
        fragments += data
        if len(fragments) > LARGE:
            self._has_memory(0)
        if first & 0x80:
            self._fragments = None
            self._deliver(fragments, fragments.is_text)
        elif not data:
            self.count_empty_frame()

    def _end(self, code: int, reason: str) -> None:
        self._is_plain = False
        self._fragments = None
        self.fail(code, reason)

    def _deliver(self, message: bytes | bytearray, is_text: bool) -> None:
        if self.close_sent:  # the application is done; only the client's close frame is awaited
            return
        queue = self.queue
        if len(message) > LARGE:
            self._arrival.is_delivered = True
        if is_text:
            is_utf8 = self.takes_utf8 and len(message) > LARGE
            try:
                text = "" if is_utf8 and message.isascii() else message.decode()
            except UnicodeDecodeError as error:
                self._end(1007, f"{error.reason} at position {error.start}")
                return
            if is_utf8:  # a `str` can take four times the memory
                queue.put_nowait({"type": "websocket.receive", "utf8": bytes(message)})
            else:
                queue.put_nowait({"type": "websocket.receive", "text": text})
        else:
            queue.put_nowait({"type": "websocket.receive", "bytes": bytes(message)})
        if queue:
            self._waiting_bytes += len(message)
            if self._is_full:
                self._pause()

    # Pauses

    def _pause(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
            self._note_pause()

    @property
    def _is_full(self) -> bool:
        return len(self.queue) >= _MOST_WAITING or self._waiting_bytes > LARGE

    def _go_on(self) -> None:
        """Resume reading, unless it must stay paused."""
        has_to_wait = self._is_full or self._arrival.is_waiting or self.rest_s()
        is_free = self.close_sent or not has_to_wait
        if self.read_paused and is_free and not self.transport.is_closing():
            self.read_paused = False
            self._note_resume()
            self.transport.resume_reading()
            self.data_received(b"")

    def _has_memory(self, size: int) -> bool:
        """Whether there is room for a large message; otherwise reading pauses until there is.

        `size` is that of its next frame.
        """
        size += len(self._fragments or b"")
        if self._arrival.take(size, len(self._received)):
            return True
        self._pause()
        self._arrival.wait(size, self.loop, self._go_on)
        return False

    def end_slow_message(self) -> None:
        """Close the connection if others wait for the memory of a message that does not arrive."""
        if self._arrival.is_slow and (self._arrival.is_waiting or not self.read_paused):
            self._end(1008, "The message took too long to arrive")
            self.transport.abort()

    # Called by the application

    def receive(self) -> asyncio.Future[Any]:  # type: ignore[override]
        """Return a future of the next event."""
        event: asyncio.Future[Any] = self.loop.create_future()
        queue = self.queue
        if queue:
            event.set_result(queue.popleft())
        else:
            queue.awaited = event
            self._waiting_bytes = 0
            if self._arrival.is_delivered:
                self._arrival.end()
        if self.read_paused and not queue:
            # Later: others have their turn between the messages of a client that sends many.
            self.loop.call_soon(self._go_on)
        return event

    async def send(self, message: Any) -> None:
        """Write a text frame, or leave the message to uvicorn.

        The text is a `str` in `text`, or `bytes` in `utf8`.
        """
        utf8 = message.get("utf8")
        if utf8 is None:
            text = message.get("text")
            if text is None or not self.handshake_complete:
                await self._leave_to_uvicorn(message)
                return
            utf8 = text.encode()
        if not self.writable.is_set():
            await self.writable.wait()
        if self.close_sent:
            await self._leave_to_uvicorn({"type": "websocket.send", "text": ""})
            return
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        if len(utf8) > LARGE:  # a copy would cost more than a second write
            self._note_large_reply(len(utf8))
            self.transport.write(server_header(len(utf8)))
            self.transport.write(utf8)
        else:
            self.transport.write(server_header(len(utf8)) + utf8)

    async def write_slowly(self, text: bytes, seconds: float) -> None:
        """Write a text frame in pieces over that many seconds, and nothing between them.

        The rest of it is written at once when others wait for the memory that it takes.
        """
        size = -(-len(text) // _SLOW_PIECES)
        if len(text) > LARGE:
            self._note_large_reply(len(text))
        self.hold_writing()
        try:
            self.transport.write(server_header(len(text)))
            for start in range(0, len(text), size):
                if start and not REPLIES.is_contended:
                    await asyncio.sleep(seconds / _SLOW_PIECES)
                self.transport.write(text[start : start + size])
        finally:
            self.release_writing()

    def _note_large_reply(self, size: int) -> None:
        if not self.large_reply:
            # From now on `writable` says that all has been sent: a reply is kept whole until then.
            # Not before: it doubles what the event loop does for a small reply.
            self.transport.set_write_buffer_limits(0)
        self.large_reply = size

    async def _leave_to_uvicorn(self, message: Any) -> None:
        await super().send(message)
        if self._received and self.close_sent:  # find the client's close frame in what waits
            self.data_received(b"")


def _unmasked(received: bytes | bytearray, payload: int, end: int) -> bytes:
    mask = received[payload - 4 : payload]
    if end - payload > LARGE:  # a slice would copy once more
        return apply_mask(memoryview(received)[payload:end], mask)
    return apply_mask(received[payload:end], mask)
