# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's WebSocket protocol with limits on the work and memory that a client causes.

uvicorn answers pings of a client that reads nothing, takes any number of frames without content,
and closes the connection of a live client whose pongs wait behind messages that it does not read.
"""

from time import monotonic
from typing import Any

from stepwire.server.uvicorn_host.internals import UvicornWebSocketProtocol, has_begun

# Limits on frames without content, which are control frames and empty fragments.
_MOST_EMPTY = 1000
_EMPTY_PER_S = 100
_REST_S = 0.5  # how long nothing is read after too many of them
# Bytes that uvicorn's parser gets before other connections have their turn.
_PIECE = 4096


class BoundedWebSocketProtocol(UvicornWebSocketProtocol):
    """Named by its import path in uvicorn's option `ws`."""

    queue: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._empty = 0.0  # frames without content, minus those that time has allowed
        self._empty_at = 0.0
        self.unread_since = 0.0
        """When the client last stopped reading."""
        self._unsent_pong = b""
        self._is_held = False  # writing, by a reply in pieces
        self._paused_at = 0.0  # when reading was paused, if it is
        self._paused_s = 0.0  # for which it has been paused since the last ping
        self._waiting = bytearray()  # received, and not yet parsed
        self._is_scheduled = False  # parsing it

    def data_received(self, data: bytes) -> None:
        """Parse a piece now and the rest later."""
        if self.transport.is_closing():
            return
        if not has_begun(self):  # the handshake, which comes whole from the HTTP protocol
            super().data_received(data)
            return
        if not self._waiting and not self.rest_s():
            super().data_received(data[:_PIECE])
            data = data[_PIECE:]
        if data and not self.transport.is_closing():
            self._waiting += data
            self.transport.pause_reading()
            self._note_pause()
            self._parse_later()

    def _parse_later(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_later(self.rest_s(), self._parse_waiting)

    def _parse_waiting(self) -> None:
        self._is_scheduled = False
        if self.transport.is_closing():
            self._waiting.clear()
        elif self._waiting and not self.read_paused:
            piece = bytes(self._waiting[:_PIECE])
            del self._waiting[:_PIECE]
            super().data_received(piece)
            self._parse_later()
            if not (self._waiting or self.read_paused or self.transport.is_closing()):
                self.transport.resume_reading()
                self._note_resume()

    async def receive(self) -> Any:
        event = await super().receive()
        if not (self.read_paused or self._waiting):
            self._note_resume()
        self._parse_later()
        return event

    async def send(self, message: Any) -> None:
        if self.transport.is_closing() and not self.handshake_complete:
            return  # `shutdown` has answered the handshake
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # The application refused it with its own response, which uvicorn would log as an error.
            self.handshake_complete = True
        self._parse_later()  # the client's close frame may be in what waits

    def fail(self, code: int, reason: str) -> None:
        """Close the connection because of what the client sent."""
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    # Called by uvicorn

    def shutdown(self) -> None:
        """Answer an open handshake like later ones, with 503; uvicorn answers 500."""
        if not (self.handshake_complete or self.initial_response):
            self.conn.send_response(self.conn.reject(503, "The server is stopping"))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()

    def handle_cont(self, event: Any) -> None:
        self._count_fragment(event)
        super().handle_cont(event)

    def handle_text(self, event: Any) -> None:
        self._count_fragment(event)
        super().handle_text(event)

    def handle_bytes(self, event: Any) -> None:
        self._count_fragment(event)
        super().handle_bytes(event)

    def _count_fragment(self, event: Any) -> None:
        if not event.fin and not event.data:
            self.count_empty_frame()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError as error:  # uvicorn would log a traceback
                self.frames = []
                self.fail(1007, f"{error.reason} at position {error.start}")
                return
        super().send_receive_event_to_app()
        self._note_pause()

    def handle_ping(self) -> None:
        self.count_empty_frame()
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)
        elif pong and not self.close_sent:
            self._unsent_pong = pong  # only the latest ping needs an answer

    def handle_pong(self, event: Any) -> None:
        self.count_empty_frame()
        super().handle_pong(event)

    def count_empty_frame(self) -> None:
        """Note a frame without content."""
        now = self.loop.time()
        self._empty = max(0.0, self._empty - (now - self._empty_at) * _EMPTY_PER_S) + 1
        self._empty_at = now

    def rest_s(self) -> float:
        """Seconds for which nothing is read, because of too many frames without content."""
        if self._empty <= _MOST_EMPTY:
            return 0.0
        return max(0.0, self._empty_at + _REST_S - self.loop.time())

    def hold_writing(self) -> None:
        """Have the application, pongs and pings wait until `release_writing`."""
        self._is_held = True
        self.writable.clear()

    def release_writing(self) -> None:
        self._is_held = False
        self.resume_writing()

    def send_keepalive_ping(self) -> None:
        if self._is_held:
            self.schedule_ping()
        else:
            self._note_resume()
            self._paused_s = 0.0
            if self.read_paused:
                self._note_pause()
            super().send_keepalive_ping()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_since = monotonic()

    def resume_writing(self) -> None:
        if self._is_held:
            return
        super().resume_writing()
        if self._unsent_pong:
            if not (self.close_sent or self.transport.is_closing()):
                self.transport.write(self._unsent_pong)
            self._unsent_pong = b""

    def keepalive_timeout(self) -> None:
        """Close the connection, unless the pong may wait behind messages that are not read yet.

        The time for which reading was paused does not count. A client that does not read its
        replies is not spared.
        """
        self._note_resume()
        if self.read_paused:
            self._note_pause()
        if self._paused_s and self.writable.is_set():
            self.pong_timer = self.loop.call_later(self._paused_s, self.keepalive_timeout)
            self._paused_s = 0.0
        else:
            super().keepalive_timeout()

    def _note_pause(self) -> None:
        self._paused_at = self._paused_at or self.loop.time()

    def _note_resume(self) -> None:
        if self._paused_at:
            self._paused_s += self.loop.time() - self._paused_at
            self._paused_at = 0.0
