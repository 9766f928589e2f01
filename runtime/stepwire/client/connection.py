# SPDX-License-Identifier: BSD-3-Clause
"""`Connection`: a request goes out on a WebSocket, its reply comes back.

This is the I/O around a `MessageStream`. One connection serves blocking callers and callers on an
event loop, so a client needs no thread and no loop of its own.
"""

import asyncio
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

from websockets.protocol import State

from stepwire.client.endings import (
    connection_ended,
    is_error,
    no_reply,
    session_lost,
    unrequested_message,
)
from stepwire.client.errors import EnvClientError, SessionLostError
from stepwire.client.handshake import open_websocket
from stepwire.client.liveness import Liveness
from stepwire.client.message_stream import MessageStream
from stepwire.client.readiness import Readiness
from stepwire.client.sockets import (
    READ_SIZE,
    TIMED_OUT,
    WOULD_BLOCK,
    receive_now,
    set_timeout,
    wait_until_writable,
)
from stepwire.protocol.frames import client_frame

_CLOSE_TIMEOUT_S = 2.0
_SHORTEST_WAIT_S = 0.001  # a timeout of 0 would make the socket non-blocking
_HUNG_UP = (BrokenPipeError, ConnectionResetError)


class Connection:
    """An open session with a server. Its client makes sure that calls do not overlap."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        timeout_s: float,
        max_size: int | None,
        liveness: Liveness,
    ) -> None:
        """Connect, blocking for up to `timeout_s` seconds. Raises `ConnectFailedError`.

        `max_size` is the largest message to accept, in bytes.
        """
        self.url = url
        self.is_usable = False  # open, and opened by this process
        self.is_of_this_process = True
        self.in_use = threading.Lock()  # held during an exchange
        self._liveness = liveness
        self._has_asked = False
        self._timeout_s: float | None = None  # the socket's, to set it only when it changes
        self._readiness: Readiness | None = None
        self._poll: Any = None
        self._sock: socket.socket | None = None
        opened = open_websocket(url, headers, timeout_s, max_size)
        self._sock = opened.sock
        self._stream = MessageStream(opened.protocol, max_size)
        self._received = self._stream.messages
        self._set_timeout(opened.sock, 0)  # instead of the connect timeout
        if hasattr(select, "poll") and not isinstance(opened.sock, ssl.SSLSocket):
            self._poll = select.poll()
            self._poll.register(opened.sock, select.POLLIN)
        if opened.received:
            with suppress(SessionLostError):  # the first exchange raises it again
                self._feed(opened.received)
        self.is_usable = True

    # One exchange.

    def exchange(self, request: bytes, timeout_s: float) -> bytes:
        """Send a request and block until its reply is there, for up to `timeout_s` seconds.

        Raises `ReplyTimeoutError`, `SessionLostError` or `ProtocolViolationError`, and drops the
        connection with each of them.
        """
        if (sock := self._sock) is None:
            raise self._ended()
        with self.in_use:
            try:
                if self._readiness is not None:
                    self._stop_watching()
                started = time.monotonic()
                wait_s = min(timeout_s, self._liveness.interval_s)
                if wait_s != self._timeout_s:  # rarely: most calls have the same timeout
                    self._set_timeout(sock, wait_s)
                self._write(sock, self._encode(sock, request))
                if not self._received:
                    try:
                        if self._stream.feed(sock.recv(READ_SIZE)):
                            self._end()
                    except TIMED_OUT:
                        pass
                    if not self._received:
                        self._wait_for_the_rest(sock, started, timeout_s)
                return self._received.popleft()
            except BaseException as error:
                self._drop_after(error, timeout_s)
                raise

    def _wait_for_the_rest(self, sock: socket.socket, started: float, timeout_s: float) -> None:
        """Go on waiting after one `recv`: for a slow reply, or one in several pieces."""
        deadline = started + timeout_s
        self._liveness.heard(started)
        while not self._received:
            self._ping_if_due(deadline)
            self._send_owed(sock)
            wait_s = self._liveness.wake_at(deadline) - time.monotonic()
            self._set_timeout(sock, max(wait_s, _SHORTEST_WAIT_S))
            with suppress(*TIMED_OUT):
                self._feed(sock.recv(READ_SIZE))
                self._liveness.heard(time.monotonic())

    async def exchange_async(self, request: bytes, timeout_s: float) -> bytes:
        """`exchange` without blocking the event loop. Cancelling it drops the connection."""
        if (sock := self._sock) is None:
            raise self._ended()
        with self.in_use:
            try:
                readiness = self._readiness
                if readiness is None or readiness.loop is not asyncio.get_running_loop():
                    readiness = self._watch(sock)
                started = time.monotonic()
                data = self._encode(sock, request)
                try:
                    sent = sock.send(data)
                except (*WOULD_BLOCK, *_HUNG_UP):
                    sent = 0
                if sent < len(data):
                    await self._write_async(sock, data[sent:], started + timeout_s)
                if not self._received:
                    try:
                        await readiness.message(started + min(timeout_s, self._liveness.interval_s))
                    except TimeoutError:
                        await self._wait_for_the_rest_async(readiness, sock, started, timeout_s)
                return self._received.popleft()
            except BaseException as error:
                self._drop_after(error, timeout_s)
                raise

    async def _wait_for_the_rest_async(
        self, readiness: Readiness, sock: socket.socket, started: float, timeout_s: float
    ) -> None:
        deadline = started + timeout_s
        self._liveness.heard(started)
        while not self._received:
            self._ping_if_due(deadline)
            await self._write_async(sock, self._stream.outgoing(), deadline)
            with suppress(TimeoutError):
                await readiness.message(self._liveness.wake_at(deadline))

    def read_available(self) -> bool:
        """Read what has arrived, for `Readiness`; returns whether a whole message is there."""
        sock = self._require_socket()
        try:
            while True:  # with TLS, more may have arrived than the socket shows
                self._feed(sock.recv(READ_SIZE))
                if self._received:
                    return True
                self._liveness.heard(time.monotonic())
                self._send_owed(sock)
        except WOULD_BLOCK:
            return False

    def _watch(self, sock: socket.socket) -> Readiness:
        """Have the running loop read the socket from now on."""
        self._stop_watching()
        self._set_timeout(sock, 0)
        self._readiness = Readiness(sock, self)
        return self._readiness

    def _stop_watching(self) -> None:
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stop()

    def _ping_if_due(self, deadline: float) -> None:
        """Ping after a silence. Raises `TimeoutError` when it is too late for a reply."""
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError
        if self._liveness.is_ping_due(now):
            self._stream.protocol.send_ping(b"alive?")

    # One exchange in two halves, for callers that watch many connections at once.

    def send(self, request: bytes, timeout_s: float) -> None:
        """Send a request. Nothing else may use the connection until `receive` returns the reply."""
        sock = self._require_socket()
        self.in_use.acquire()
        try:
            self._stop_watching()
            self._set_timeout(sock, timeout_s)
            self._write(sock, self._encode(sock, request))
        except BaseException as error:
            self._drop_after(error, timeout_s)
            raise

    def receive(self) -> bytes | None:
        """The reply to the request that was sent, `None` as long as it is not complete."""
        sock = self._require_socket()
        try:
            if not self._received:
                self._drain(sock)
        except BaseException as error:
            self._drop_after(error, 0)
            raise
        if not self._received:
            return None
        self.in_use.release()
        return self._received.popleft()

    def give_up(self, timeout_s: float) -> None:
        """Drop the connection and raise `ReplyTimeoutError`: the reply did not come in time."""
        self._drop_after(TimeoutError(), timeout_s)

    # Between exchanges.

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 when the connection is gone."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket; the server may have closed its end."""
        return self._sock is not None

    @property
    def has_ended(self) -> bool:
        """Whether the connection is known to be closed, by either side."""
        return self._sock is None or self._stream.has_ended

    def disown(self) -> None:
        """Leave the socket to the parent process: this process is a fork of it."""
        self.is_usable = self.is_of_this_process = False

    def answer_pings(self) -> None:
        """Answer what has arrived on an idle connection, without waiting."""
        if self._sock is None or not self.in_use.acquire(blocking=False):
            return
        try:
            self._send_owed(self._sock)  # the pong to a ping that came together with a reply
            self._drain(self._sock)
        except Exception:  # noqa: BLE001 - the next exchange raises what it means
            self._stream.end()
        finally:
            self.in_use.release()

    def close(self, close_request: bytes, *, wait: bool) -> None:
        """Send the close request and wait for the server to close, for up to 2 s; never raises.

        After that the server has room for another session. An exchange that is under way may
        finish in the same time if `wait` is true. Otherwise it is cut off and raises
        `SessionLostError`.
        """
        sock = self._sock
        if sock is None:
            return
        if self.in_use.acquire(timeout=_CLOSE_TIMEOUT_S if wait else 0):
            try:
                with suppress(Exception):
                    self._shake_hands(sock, close_request)
                self.drop()
            finally:
                self.in_use.release()
        else:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the exchange, which drops the socket

    def drop(self) -> None:
        """Close the socket without a word to the server."""
        self.is_usable = False
        self._stop_watching()
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def __del__(self) -> None:
        # A client that is dropped without `close()` gives its slot on the server back all the same.
        self.drop()

    def _shake_hands(self, sock: socket.socket, close_request: bytes) -> None:
        protocol = self._stream.protocol
        if protocol.state is not State.OPEN:
            return
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        self._stop_watching()
        self._set_timeout(sock, _CLOSE_TIMEOUT_S)
        protocol.send_text(close_request)
        self._send_owed(sock)
        while protocol.state is State.OPEN:
            self._received.clear()
            self._feed(sock.recv(READ_SIZE))
            self._set_timeout(sock, max(deadline - time.monotonic(), _SHORTEST_WAIT_S))

    # Bytes out and in.

    def _encode(self, sock: socket.socket, request: bytes) -> bytes:
        # A message that arrives before the request is sent cannot be its reply. Taken for one, it
        # would shift every later reply by one. Without `poll`, only reading shows what is there.
        if self._received or self._poll is None or self._poll.poll(0):
            self._drain(sock)
            if self._received:
                if is_error(self._received[0]) and not self._has_asked:
                    return b""  # a server refuses a session (at capacity, say) before any request
                raise unrequested_message(self.url, self._stream.protocol, self._received[0])
        self._has_asked = True
        if self._stream.has_ended:
            raise self._ended()
        frame = client_frame(request)
        return self._stream.outgoing() + frame if self._stream.owes_bytes else frame

    def _feed(self, data: bytes) -> None:
        """Parse received bytes, none at the end.

        Raises `SessionLostError` when the connection has ended and no message is left.
        """
        if self._stream.feed(data):
            self._end()

    def _end(self) -> None:
        with suppress(OSError):
            self._send_owed(self._require_socket())  # the answer to the close frame
        if not self._received:
            raise self._ended()

    def _drain(self, sock: socket.socket) -> None:
        """Read and answer what has arrived."""
        at_end = False
        with suppress(*WOULD_BLOCK):
            while not at_end:  # a closed socket would give nothing again and again
                data = receive_now(sock)
                at_end = not data
                self._feed(data)
                self._send_owed(sock)

    def _send_owed(self, sock: socket.socket) -> None:
        """Send what the protocol has to send by itself."""
        data = self._stream.outgoing()
        if data:
            self._write(sock, data)

    def _write(self, sock: socket.socket, data: bytes) -> None:
        try:
            sock.sendall(data)
        except _HUNG_UP:
            self._read_last_words(sock)

    async def _write_async(self, sock: socket.socket, data: bytes, deadline: float) -> None:
        while data:
            try:
                data = data[sock.send(data) :]
            except WOULD_BLOCK:
                await wait_until_writable(sock, deadline)
            except _HUNG_UP:
                self._read_last_words(sock)
                return

    def _read_last_words(self, sock: socket.socket) -> None:
        """Read what the server sent before it hung up: an error (at capacity, say)."""
        while not self._received:
            self._feed(sock.recv(READ_SIZE))

    def _set_timeout(self, sock: socket.socket, timeout_s: float) -> None:
        if timeout_s != self._timeout_s:
            self._timeout_s = timeout_s
            set_timeout(sock, timeout_s)

    # Failures.

    def _require_socket(self) -> socket.socket:
        if self._sock is None:
            raise self._ended()
        return self._sock

    def _ended(self) -> SessionLostError:
        return connection_ended(self.url, self._stream.protocol)

    def _drop_after(self, error: BaseException, timeout_s: float) -> None:
        """Drop the connection, as a reply may be under way; raise what `error` means, if known."""
        self.drop()
        if isinstance(error, TIMED_OUT):
            raise no_reply(self.url, timeout_s) from error
        if isinstance(error, OSError) and not isinstance(error, EnvClientError):
            raise session_lost(self.url, f"{error}.") from error
