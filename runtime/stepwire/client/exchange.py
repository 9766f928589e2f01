# SPDX-License-Identifier: BSD-3-Clause
"""`Exchange`: one connection with a server as a state machine, without any I/O and without a clock.

It opens the WebSocket, sends requests, takes their replies, answers pings and sends them, keeps
deadlines, and closes. Its drivers only carry bytes and times: `Connection` for blocking callers and
for `SessionPool`, `LoopDriver` for event loops. All times are seconds of the drivers' clock.

A driver begins something (`open`, `ask`, `close`), and then, as long as `is_pending` or there is
`out`, sends that, passes what arrives to `receive` and calls `tick` at `wake_at`. Each of these
methods may raise the error that ends the connection. `take` returns the reply.

Whatever a server sends, and however fast: nothing stays pending beyond its deadline, and the memory
it takes has a bound. That is one message of `max_size`, and 64 KiB that are not sent yet.
"""

import math
import ssl
from collections import deque
from typing import Literal, NoReturn

from websockets.client import ClientProtocol
from websockets.frames import CloseCode
from websockets.uri import parse_uri

from stepwire.client.addresses import without_secrets
from stepwire.client.endings import (
    connect_failed,
    connection_ended,
    is_error,
    no_pong,
    no_reply,
    session_lost,
    unrequested_message,
)
from stepwire.client.errors import SessionLostError
from stepwire.client.message_stream import MessageStream
from stepwire.client.opening import Opening, Route, TlsStack, route_to
from stepwire.protocol.frames import client_frame

# The most that a server may send between two calls, where only pings and a close frame are due.
MOST_UNREQUESTED = 65536
_MOST_UNREAD_ANSWERS = 500  # to pings, of up to 131 bytes each
_LARGE_READ = 65536
_SMALL_READ = 4096  # its frames take too little time to delay an event loop


class Exchange:
    """The state of one connection. Its driver makes sure that calls do not overlap."""

    def __init__(self, url: str, max_size: int, ping: tuple[float | None, float | None]) -> None:
        """`max_size` is the largest message to accept, in bytes.

        While a reply is pending, the server gets a ping after `ping[0]` seconds of silence, and has
        to answer within `ping[1]` more. `None` means no pings, or no need to answer.
        """
        self.url = without_secrets(url)  # for texts
        self.is_pending = False
        self.out = b""  # bytes to send; the driver removes those that it has sent
        self.wake_at = math.inf  # when to call `tick`, unless something arrives before
        self.read_size = _SMALL_READ  # bytes to read at once
        self._stream = MessageStream(ClientProtocol(parse_uri(url), max_size=max_size), max_size)
        self.take = self._stream.messages.popleft  # the reply, once nothing is pending any more
        self._opening: Opening | None = None
        self._tls: TlsStack | None = None
        self._phase: Literal["new", "asked", "closing"] = "new"
        self._timeout_s = 0.0
        self._deadline = math.inf
        self._ping = ping[0] or math.inf, ping[1]
        self._awaits_pong = False

    # What a driver begins.

    def open(self, headers: dict[str, str], now: float, timeout_s: float) -> Route:
        """Begin to open the WebSocket; returns where to connect to before `start`."""
        protocol = self._stream.protocol
        route = route_to(protocol.uri)
        self._opening = Opening(self.url, protocol, headers, route)
        self._begin(now, timeout_s)
        return route

    def start(self) -> None:
        """Go on with `open` on a TCP connection. Pending until the WebSocket is open."""
        assert self._opening is not None
        self._opening.start()
        self._tls = self._opening.tls
        self._send(self._opening.outgoing())

    def ask(self, request: bytes, now: float, timeout_s: float) -> None:
        """Begin to send a request. Pending until `take` has its reply.

        A message that arrived before the request raises an error: taken for the reply, it would
        shift every later reply by one. So pass everything that has arrived to `receive` first.
        """
        stream = self._stream
        if stream.messages:
            first = stream.messages[0]
            if self._phase == "new" and is_error(first):
                return  # a server refuses a session (at capacity, say) before any request
            raise unrequested_message(self.url, stream.protocol, first)
        if stream.has_ended:
            raise self.ended()
        if stream.is_in_message and self._phase != "new":
            raise unrequested_message(self.url, stream.protocol, b"the beginning of a message")
        self._phase = "asked"
        # As `_begin`, but here: a call less is 1 % of a step.
        self.is_pending, self._awaits_pong = True, False
        self._timeout_s, self._deadline = timeout_s, now + timeout_s
        self.wake_at = min(now + self._ping[0], self._deadline)
        frame = client_frame(request)
        self.out += frame if self._tls is None else self._tls.send(frame)

    def close(self, request: bytes, now: float, timeout_s: float) -> None:
        """Begin to close with a last request. Pending until the server closes, too.

        A server that does not close in time raises no error. Repeating it changes nothing.
        """
        if self._opening is None and not self._stream.has_ended and self._phase != "closing":
            self._phase = "closing"
            self._stream.messages = deque(maxlen=0)  # drops what arrives now
            self._begin(now, timeout_s)
            self._send(client_frame(request))

    # What happens while something is pending, and what arrives in between.

    def tick(self, now: float) -> None:
        """Let time pass: raises what is overdue, or sends the ping that is due."""
        if now >= self._deadline:
            self._end_in_time()
        elif now >= self.wake_at:
            timeout_s = self._ping[1]
            if self._awaits_pong:
                raise no_pong(self.url, timeout_s)
            self._stream.protocol.send_ping(b"alive?")
            self._send(self._stream.outgoing())
            self._awaits_pong = timeout_s is not None
            next_at = now + (timeout_s or self._ping[0])
            self.wake_at = min(next_at, self._deadline)

    def receive(self, data: bytes, now: float) -> None:
        """Take received bytes; `data` is empty at the end of the connection.

        Raises what is overdue, too: a server that never stops sending gains no time.
        """
        at_end = not data
        if self._tls is not None:
            data, at_end = self._decrypt(data)
        if self._opening is not None:
            data = self._go_on_opening(self._opening, data, at_end=at_end)
        stream = self._stream
        if data:
            stream.feed(data)
        if at_end:
            stream.feed(b"")
        if stream.owes_bytes:
            stream.unread_answers = stream.unread_answers + 1 if self.out else 0
            if stream.unread_answers > _MOST_UNREAD_ANSWERS:
                raise session_lost(self.url, "it sends pings, and does not read their answers.")
            self._send(stream.outgoing())
        if stream.messages:
            self.is_pending = False
        elif self.is_pending:
            if stream.has_ended:
                self._end_early()
            elif now >= self._deadline:
                self._end_in_time()
            else:
                self.read_size = _LARGE_READ if stream.is_in_frame else _SMALL_READ
                self._awaits_pong = False
                self._wake_after(now)

    def receive_unrequested(self, data: bytes, now: float) -> bool:
        """`receive` between two calls; returns whether to go on reading.

        No message may arrive there. So the rest of one that has begun is not read.
        """
        self.receive(data, now)
        stream = self._stream
        is_spoilt = len(stream.messages) > 1 or stream.is_in_message
        if len(data) >= MOST_UNREQUESTED and not is_spoilt:
            stream.fail(CloseCode.POLICY_VIOLATION, "too many pings")
            self._send(stream.outgoing())
        return bool(data) and not (stream.has_ended or is_spoilt)

    def fail(self, error: OSError) -> NoReturn:
        """Raise the client's error for an error of the socket."""
        if self._opening is not None:
            late = f"no answer within {self._timeout_s:g} s"
            reason = late if isinstance(error, TimeoutError) else error
            raise connect_failed(self._opening.goal, reason) from error
        raise session_lost(self.url, f"{error}.") from error

    @property
    def has_ended(self) -> bool:
        """Whether the connection is known to be closed, by either side."""
        return self._stream.has_ended

    def end(self) -> None:
        """Treat the connection as ended, whatever else arrives."""
        self._stream.end()

    def ended(self) -> SessionLostError:
        """The error of a connection that has ended."""
        return connection_ended(self.url, self._stream.protocol)

    def _begin(self, now: float, timeout_s: float) -> None:
        self.is_pending = True
        self._timeout_s = timeout_s
        self._deadline = now + timeout_s
        self._awaits_pong = False
        self._wake_after(now)

    def _wake_after(self, now: float) -> None:
        # No pings until the WebSocket is open.
        interval_s = self._ping[0] if self._opening is None else math.inf
        self.wake_at = min(now + interval_s, self._deadline)

    def _end_early(self) -> None:
        if self._phase != "closing":
            raise self.ended()
        self.is_pending = False

    def _end_in_time(self) -> None:
        if self._opening is not None:
            self.fail(TimeoutError())
        if self._phase != "closing":
            raise no_reply(self.url, self._timeout_s)
        self.is_pending = False
        self.out = b""
        self._stream.end()

    def _go_on_opening(self, opening: Opening, data: bytes, *, at_end: bool) -> bytes:
        """Go on opening; returns the bytes of frames that arrived with the last of the answer."""
        opening.receive(data, at_end=at_end)
        self._send(opening.outgoing())
        if not opening.is_done:
            return b""
        self._opening = None
        self.is_pending = False
        self._deadline = self.wake_at = math.inf
        return opening.received

    def _decrypt(self, data: bytes) -> tuple[bytes, bool]:
        assert self._tls is not None
        try:
            return self._tls.receive(data)
        except ssl.SSLError as error:
            self.fail(error)
        finally:
            self._send(b"")  # TLS's own messages, such as an alert

    def _send(self, data: bytes) -> None:
        self.out += data if self._tls is None else self._tls.send(data)
