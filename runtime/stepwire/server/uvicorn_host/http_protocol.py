# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's HTTP protocol with limits, and with one request at a time.

Bytes that follow a request are parsed only once it has been answered, and only if its end is
certain: by its Content-Length, or by its last chunk. Otherwise the connection ends with the answer.
The bugs of uvicorn and httptools that this class works around are in `docs/upstream.md`.
"""

import asyncio
import json
import logging
from collections import deque
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url

from stepwire.server.uvicorn_host.internals import HttpToolsProtocol, has_begun, mark_as_ended
from stepwire.server.workers import RETRY_S, WEBSOCKET, joined

logger = logging.getLogger("stepwire.server")

MAX_HEAD_BYTES = 32 * 1024
"""Of a request line and all header fields; also of the framing between two pieces of a body."""

_PIECE = 16 * 1024  # bytes that are parsed before they are counted
_HEAD_END = b"\r\n\r\n"
# What the `websockets` library accepts in a handshake: bytes in a line, and fields.
_HANDSHAKE_LINE = 8192
_HANDSHAKE_FIELDS = 128
# For how long, and how many bytes, a refused client may go on sending and still read the answer.
_LINGER_S = 1
_LINGER_BYTES = 256 * 1024


# Of each event loop: connections whose next request has arrived before it was their turn.
_pipelines: WeakKeyDictionary[asyncio.AbstractEventLoop, deque["HttpProtocol"]]
_pipelines = WeakKeyDictionary()


def _parse_next_of(pipelines: deque["HttpProtocol"], loop: asyncio.AbstractEventLoop) -> None:
    """Parse the request of one connection; the others follow in later turns of the loop.

    uvloop accepts one connection in a turn, so turns have to be short.
    """
    connection = pipelines.popleft()
    if pipelines:
        loop.call_soon(_parse_next_of, pipelines, loop)
    if not connection.transport.is_closing():
        connection.data_received(b"")


class _Refusal(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class HttpProtocol(HttpToolsProtocol):
    """Replaces uvicorn's httptools protocol when the application starts."""

    received_elsewhere = b""
    """The handshake of a connection that another worker has handed over, if it had sent one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self.headers = []
        self._unclaimed = 0  # bytes since the parser last completed a head or a piece of a body
        self._body_left = 0  # bytes, where the request has a Content-Length
        self._in_chunks = False
        self._waiting = b""  # received after a request that is not answered yet
        self._has_ended = False  # no further byte is parsed
        self._ignores_upgrade = False
        self._body: list[bytes] = []  # parsed, and not yet the application's
        self._undelivered = 0  # bytes of the body that arrived after the answer

    @property
    def _is_answering(self) -> bool:
        """Whether a complete request waits for the end of its answer."""
        cycle = self.cycle
        return cycle is not None and not (cycle.response_complete or cycle.more_body)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.received_elsewhere:
            self.data_received(self.received_elsewhere)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._has_ended:
            self._unclaimed += len(data)
            if self._unclaimed > _LINGER_BYTES:
                self.transport.abort()
            return
        has_waited = bool(self._waiting)
        if has_waited:
            data = self._waiting + data
            self._waiting = b""
        begin = 0
        while begin < len(data) and not self._has_ended:
            if self._is_answering:
                self._waiting = data[begin:]
                # Not by `flow`, which the application resumes whenever it receives.
                self.transport.pause_reading()
                return
            if self._body_left:
                end = begin + self._body_left
            else:
                end = begin + _PIECE
                if not self._in_chunks:
                    head_end = data.find(_HEAD_END, begin, end)
                    if head_end >= 0:
                        end = head_end + len(_HEAD_END)
            begin += self._parse(data[begin:end], end < len(data))
        if has_waited and not self.flow.read_paused:
            self.transport.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._waiting and not self.transport.is_closing():
            pipelines = _pipelines.setdefault(self.loop, deque())
            pipelines.append(self)
            if len(pipelines) == 1:
                self.loop.call_soon(_parse_next_of, pipelines, self.loop)

    def shutdown(self) -> None:
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            self._refuse(_Refusal(503, "The server is stopping"))
            self.transport.close()
        elif self.url or self._unclaimed or not self._leave_to_another_worker():
            super().shutdown()

    def _parse(self, piece: bytes, is_followed: bool) -> int:
        """Parse the piece; returns the number of bytes that were parsed."""
        self._unclaimed += len(piece)
        try:
            self.parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            parsed: int = upgrade.args[0]
            if self._ignores_upgrade:
                self._parse_without_upgrade()
            elif is_followed or parsed < len(piece):
                self._refuse(_Refusal(400, "A WebSocket handshake is followed by nothing"))
            else:
                self._begin_websocket()
            return parsed
        except HttpParserError as error:
            cause = error.__context__
            malformed = _Refusal(400, "The request is malformed")
            self._refuse(cause if isinstance(cause, _Refusal) else malformed)
        else:
            if self._unclaimed > MAX_HEAD_BYTES:
                self._refuse(self._too_large())
        self._deliver_body()
        return len(piece)

    def _too_large(self) -> _Refusal:
        if self._in_chunks:
            return _Refusal(400, f"More than {MAX_HEAD_BYTES} bytes between pieces of the body")
        if len(self.url) > MAX_HEAD_BYTES / 2 or not self.headers:
            return _Refusal(414, f"The request line has more than {MAX_HEAD_BYTES} bytes")
        return _Refusal(431, f"The header fields have more than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        if self._is_answering:
            # After a chunked body, the parser reads on before it can be stopped.
            raise _Refusal(400, "The connection ends with the answer before this request")
        if self._unclaimed > MAX_HEAD_BYTES:
            raise self._too_large()
        if not self.url.isascii():
            raise _Refusal(400, "The request's target has characters that are not ASCII")
        fields = dict(self.headers)  # the parser refuses a second Content-Length
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise _Refusal(501, "The only transfer coding is `chunked`")
        length = int(fields.get(b"content-length", 0))
        if self.parser.should_upgrade():
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise _Refusal(501, "This server is no proxy")
            is_handshake = method == b"GET" and self.parser.get_http_version() == "1.1"
            if not (is_handshake and self._should_upgrade()):
                self._ignores_upgrade = True
                return
            if length or coding:
                raise _Refusal(400, "A WebSocket handshake has no body")
        else:
            self._unclaimed = self._undelivered = 0
            self._body_left = length
            self._in_chunks = coding is not None
            if not self.url.startswith(b"/"):
                self._split_absolute_target()
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.headers = []  # drop trailers: the application must not get them

    def on_body(self, body: bytes) -> None:
        self._unclaimed = 0
        if self._body_left:
            self._body_left -= len(body)
        self._body.append(body)

    def _deliver_body(self) -> None:
        """Hand on what has been parsed of a body: at once, as it may consist of tiny chunks."""
        if not self._body:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        if self.cycle.response_complete:
            self._undelivered += len(body)
            if self._undelivered > self.config.ws_max_size:  # `MAX_MESSAGE_BYTES`
                self._has_ended = True
                self.transport.close()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._deliver_body()
            self._unclaimed = 0
            self._in_chunks = False
            super().on_message_complete()

    def _split_absolute_target(self) -> None:
        """Take the host from the target `http://host/path`, which overrides `Host`."""
        target = parse_url(self.url)
        if target.host is None:
            raise _Refusal(400, "The request's target is no path")
        authority = target.host if target.port is None else b"%s:%d" % (target.host, target.port)
        others = [field for field in self.headers if field[0] != b"host"]
        self.headers[:] = [(b"host", authority), *others]
        query = b"" if target.query is None else b"?" + target.query
        self.url = (target.path or b"/") + query

    def _parse_without_upgrade(self) -> None:
        """Parse the head again without `Upgrade`, so that the body is read as a body."""
        self._ignores_upgrade = False
        head = self._head(*(field for field in self.headers if field[0] != b"upgrade"))
        self.parser = HttpRequestParser(self)
        self._unclaimed = 0
        self._parse(head, is_followed=False)

    def _head(self, *fields: tuple[bytes, bytes]) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        return b"\r\n".join([*lines, *(b"%s: %s" % field for field in fields), b"", b""])

    def _begin_websocket(self) -> None:
        """Hand the connection over, unless the library refuses the handshake without an answer."""
        self._has_ended = True
        if self._leave_to_another_worker():
            return
        self.handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if has_begun(protocol):
            return
        mark_as_ended(protocol)
        if len(self.url) > _HANDSHAKE_LINE - 20:  # the method and the version
            refusal = _Refusal(414, "The target of a handshake may have 8 kB")
        elif len(self.headers) > _HANDSHAKE_FIELDS or self._unclaimed > _HANDSHAKE_LINE:
            refusal = _Refusal(431, "A handshake may have 128 header fields of 8 kB")
        else:
            refusal = _Refusal(400, "The handshake is malformed")
        self._refuse(refusal)

    def _leave_to_another_worker(self) -> bool:
        """Hand the connection to the worker that has its session, or to the least loaded one.

        It has sent a handshake, or nothing yet. A worker keeps what it was chosen for, unless it
        has been told to stop since.
        """
        workers = joined()
        if workers is None or self.transport.get_write_buffer_size():
            return False
        if self.received_elsewhere and workers.accepts:
            return False
        query = parse_qs(self.url.partition(b"?")[2].decode("latin-1"))
        session_ids = query.get("session_id")
        worker = workers.holder(session_ids[-1]) if session_ids else workers.least_loaded()
        if worker is None:
            return False
        self.transport.pause_reading()  # from now on, what the client sends is for the other
        descriptor = self.transport.get_extra_info("socket").fileno()
        head = self._head(*self.headers) if self.url else b""
        if workers.send(worker, WEBSOCKET, head, descriptor):
            self.transport.abort()
            return True
        if session_ids or (self.url and not workers.accepts):
            self.loop.call_later(RETRY_S, self._begin_websocket_again)
            return True
        self.transport.resume_reading()
        return False

    def _begin_websocket_again(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._begin_websocket()

    def _refuse(self, refusal: _Refusal) -> None:
        """Stop parsing, answer what can be answered, and close the connection."""
        self._has_ended = True
        logger.debug("Refused a request: %s", refusal)
        cycle = self.cycle
        if self._is_answering:
            cycle.keep_alive = False
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()  # the application no longer waits for the body
            if cycle.response_started:
                self.transport.close()
                return
        body = json.dumps({"detail": str(refusal)}).encode()
        status = HTTPStatus(refusal.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
