# SPDX-License-Identifier: BSD-3-Clause
"""One WebSocket connection: a request goes out, its reply comes back.

The protocol itself is the sans-I/O layer of `websockets`, with a short cut for the plain frames of
requests and replies (`frames`); here is the socket under it. The same connection serves blocking
callers and callers on an event loop, so a client need not know in advance who will call it, and
needs no thread and no loop of its own.
"""

import asyncio
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import State

from stepwire.client.errors import (
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
)
from stepwire.client.handshake import open_websocket
from stepwire.client.liveness import Liveness
from stepwire.client.readiness import Readiness
from stepwire.protocol.frames import NotPlainError, client_frame, plain_frame

_READ_SIZE = 65536
_CLOSE_TIMEOUT_S = 2.0
_SHORTEST_WAIT_S = 0.001  # a timeout of 0 would make the socket non-blocking
_DATA_OPCODES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
# Where the layout of a `struct timeval` is certain, the kernel itself ends a `recv` that waits too
# long; the error is then the one of a socket that does not block.
_KERNEL_TIMES_OUT = sys.platform in ("linux", "darwin") and struct.calcsize("l") == 8
_TIMED_OUT = (TimeoutError, BlockingIOError)
# What a non-blocking socket raises when there is nothing to read, or no room to write.
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# What to do about codes that close a session.
_CLOSED_BY_SERVER: dict[int | None, str] = {
    1001: "It is going away, or closes sessions that are idle for long: call it more often. ",
    1009: "A message was larger than it takes: send less at once, or raise the server's limit. ",
    1012: "It restarts and should be back soon. ",
}
_CLOSED_BY_CLIENT: dict[int | None, str] = {
    1009: "`max_message_size_mb` sets what the client takes. ",
}


class Connection:
    """An open session with a server. Not for calls at the same time: its client sees to that."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        timeout_s: float,
        max_size: int | None,
        liveness: Liveness,
    ) -> None:
        """Connect, blocking for up to `timeout_s` seconds. Raises `ConnectFailedError`."""
        self.url = url
        self.is_usable = False  # open, and this process's own
        self.is_of_this_process = True
        # Held during an exchange; what tends idle connections only ever tries to take it.
        self.in_use = threading.Lock()
        self._received: deque[bytes] = deque()
        self._is_plain = True  # whether only plain frames came so far: see `frames`
        self._partial = bytearray()  # of a plain frame that is not all there
        self._fragments: list[bytes] = []  # of a message the protocol parsed
        self._owes_bytes = False  # whether the protocol may have something to send
        self._has_ended = False  # whether the protocol has said goodbye, or was told to
        self._max_size = max_size
        self._liveness = liveness
        self._has_asked = False
        self._timeout_s: float | None = None  # the socket's, to set it only when it changes
        self._readiness: Readiness | None = None
        self._poll: Any = None
        self._sock: socket.socket | None = None
        opened = open_websocket(url, headers, timeout_s, max_size)
        self._sock, self._protocol = opened.sock, opened.protocol
        self._set_timeout(opened.sock, 0)  # what was left for opening it is no limit of anything
        if hasattr(select, "poll") and not isinstance(opened.sock, ssl.SSLSocket):
            self._poll = select.poll()
            self._poll.register(opened.sock, select.POLLIN)
        if opened.received:
            with suppress(SessionLostError):  # closed again: the first exchange says so
                self._take(opened.received)
        self.is_usable = True

    def exchange(self, request: bytes, timeout_s: float) -> bytes:
        """Send a request and block until its reply is there.

        Raises `ReplyTimeoutError`, `SessionLostError` or `ProtocolViolationError`; after any of
        them the connection is gone.
        """
        if (sock := self._sock) is None:
            raise self._lost()
        with self.in_use:
            try:
                if self._readiness is not None:
                    self._stop_watching()
                started = time.monotonic()
                wait_s = min(timeout_s, self._liveness.interval_s)
                if wait_s != self._timeout_s:  # not so for most of a client's life
                    self._set_timeout(sock, wait_s)
                self._write(sock, self._encode(sock, request))
                if not self._received:
                    try:  # noqa: SIM105 - `suppress` is not for free
                        self._take(sock.recv(_READ_SIZE))
                    except _TIMED_OUT:
                        pass
                    if not self._received:
                        self._wait_for_the_rest(sock, started, timeout_s)
                return self._received.popleft()
            except BaseException as error:
                self._drop_after(error, timeout_s)
                raise

    def _wait_for_the_rest(self, sock: socket.socket, started: float, timeout_s: float) -> None:
        """Wait on where one `recv` was not all: silence, a ping, a reply in several pieces."""
        deadline = started + timeout_s
        self._liveness.heard(started)
        while not self._received:
            self._ping_if_due(deadline)
            self._flush(sock)
            wait_s = self._liveness.wake_at(deadline) - time.monotonic()
            self._set_timeout(sock, max(wait_s, _SHORTEST_WAIT_S))
            with suppress(*_TIMED_OUT):
                self._take(sock.recv(_READ_SIZE))
                self._liveness.heard(time.monotonic())

    async def exchange_async(self, request: bytes, timeout_s: float) -> bytes:
        """`exchange` without blocking the event loop; when cancelled, the connection is dropped."""
        if (sock := self._sock) is None:
            raise self._lost()
        with self.in_use:
            try:
                readiness = self._readiness
                if readiness is None or readiness.loop is not asyncio.get_running_loop():
                    readiness = self._watch(sock)
                started = time.monotonic()
                data = self._encode(sock, request)
                try:
                    sent = sock.send(data)
                except (*_WOULD_BLOCK, BrokenPipeError, ConnectionResetError):
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
            await self._write_async(sock, self._outgoing(), deadline)
            with suppress(TimeoutError):
                await readiness.message(self._liveness.wake_at(deadline))

    def _watch(self, sock: socket.socket) -> Readiness:
        """Have the running loop read the socket from now on."""
        self._stop_watching()
        self._set_timeout(sock, 0)
        self._readiness = Readiness(sock, self)
        return self._readiness

    def _ping_if_due(self, deadline: float) -> None:
        """After silence: ask whether the server lives, or raise that it is too late for a reply."""
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError
        if self._liveness.is_ping_due(now):
            self._protocol.send_ping(b"alive?")

    def read_available(self) -> bool:
        """Take in what can be read, for `Readiness`; say whether a whole message is there."""
        if (sock := self._sock) is None:
            raise self._lost()
        try:
            while True:  # TLS may hold more than the socket shows
                self._take(sock.recv(_READ_SIZE))
                if self._received:
                    return True
                self._liveness.heard(time.monotonic())
                self._flush(sock)  # rare: a ping, or a reply in several pieces
        except _WOULD_BLOCK:
            return False

    def send(self, request: bytes, timeout_s: float) -> None:
        """The first half of an exchange, for whoever watches many connections at once.

        Until `receive` has returned the reply, or `drop` was called, nobody else may use this one.
        """
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
        """The second half: the reply, or `None` while it is not there, or not all of it."""
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
        """Raise `ReplyTimeoutError` for a reply that was waited for long enough."""
        self._drop_after(TimeoutError(), timeout_s)

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 when the connection is gone."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def is_open(self) -> bool:
        return self._sock is not None

    def disown(self) -> None:
        """This process is a fork of the one that connected, which goes on using the socket."""
        self.is_usable = self.is_of_this_process = False

    def answer_pings(self) -> None:
        """Answer what has arrived on an idle connection, without waiting for anything."""
        if self._sock is None or not self.in_use.acquire(blocking=False):
            return
        try:
            self._flush(self._sock)  # a pong to a ping that came together with a reply
            self._drain(self._sock)
        except Exception:  # noqa: BLE001 - the next call finds the connection lost and says so
            self._lost_while_idle()
        finally:
            self.in_use.release()

    def close(self, farewell: bytes, *, wait: bool) -> None:
        """Say goodbye and wait briefly for the server to hang up: then the session's slot is free.

        An exchange that is still under way is waited for, unless `wait` is false, and then cut off:
        it raises `SessionLostError`. Never raises itself: there is nobody left to do anything.
        """
        sock = self._sock
        if sock is None:
            return
        if self.in_use.acquire(timeout=_CLOSE_TIMEOUT_S if wait else 0):
            try:
                with suppress(Exception):
                    self._say_goodbye(sock, farewell)
                self.drop()
            finally:
                self.in_use.release()
        else:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the exchange, which then drops the socket

    def drop(self) -> None:
        """Close the socket without a word."""
        self.is_usable = False
        self._stop_watching()
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _stop_watching(self) -> None:
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.stop()

    def _set_timeout(self, sock: socket.socket, timeout_s: float) -> None:
        if timeout_s == self._timeout_s:
            return
        self._timeout_s = timeout_s
        if timeout_s and _KERNEL_TIMES_OUT and not isinstance(sock, ssl.SSLSocket):
            # Saves the system call with which Python waits before each `send` and `recv`.
            limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        else:
            sock.settimeout(timeout_s)

    def __del__(self) -> None:
        # A client that is dropped without `close()` frees its slot on the server all the same.
        self.drop()

    def _encode(self, sock: socket.socket, request: bytes) -> bytes:
        # Whatever is there before the request was sent cannot be its reply. Taken for one, it would
        # shift every later reply by one. Without `poll` it is not known without trying to read.
        if self._received or self._poll is None or self._poll.poll(0):
            self._drain(sock)
            if self._received:
                if _is_error(self._received[0]) and not self._has_asked:
                    return b""  # a server refuses a session (at capacity, say) before it is asked
                raise self._unasked(self._received[0])
        self._has_asked = True
        if self._has_ended:
            raise self._lost()
        frame = client_frame(request)
        return self._outgoing() + frame if self._owes_bytes else frame

    def _outgoing(self) -> bytes:
        """What the protocol has to say by itself: the answers to pings and to a close frame."""
        self._owes_bytes = False
        return b"".join(self._protocol.data_to_send())

    def _unasked(self, message: bytes) -> EnvClientError:
        text = message[:500].decode(errors="replace")
        if _is_error(message):  # the last words of a server that ends the session (idle, say)
            return self._lost(last_words=text)
        return ProtocolViolationError(
            f"{self.url} sent a reply that belongs to no request: {text[:200]}. The connection "
            "is dropped, so that it is not taken for another call's; `reset()` starts a new "
            "episode."
        )

    def _drain(self, sock: socket.socket) -> None:
        """Take in what has already arrived."""
        at_end = False
        with suppress(*_WOULD_BLOCK):
            while not at_end:  # of a closed connection there is always “more”: nothing
                data = self._receive_now(sock)
                at_end = not data
                self._take(data)
                self._flush(sock)

    def _receive_now(self, sock: socket.socket) -> bytes:
        if _KERNEL_TIMES_OUT and not isinstance(sock, ssl.SSLSocket):
            # Where Python knows of no timeout; where it does, it would wait for that long first.
            return sock.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        timeout_s = self._timeout_s or 0
        self._set_timeout(sock, 0)
        try:
            return sock.recv(_READ_SIZE)
        finally:
            self._set_timeout(sock, timeout_s)

    def _take(self, data: bytes) -> None:
        """Take in received bytes, none at the end; whole messages end up in `_received`.

        Raises `SessionLostError` when the connection ended and there is no message left.
        """
        if not self._is_plain or not data:
            self._take_any(data)
            return
        received: bytes | bytearray = data
        if self._partial:
            self._partial += data
            received = self._partial
        try:
            while received:
                frame = plain_frame(received, 0, self._max_size, False)
                if frame is None:
                    break
                is_text, begin, end = frame
                if is_text:
                    self._received.append(bytes(received[begin:end]))
                else:
                    self._take_any(bytes(received[:end]))
                received = received[end:]
        except NotPlainError:
            # The parser has all of it from here on: only it knows where the next frame begins.
            self._is_plain = False
            self._partial = bytearray()
            self._take_any(bytes(received))
            return
        if received is not self._partial and (received or self._partial):
            self._partial = bytearray(received)

    def _take_any(self, data: bytes) -> None:
        """`_take` by the general parser of `websockets`."""
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            if self._partial:
                protocol.receive_data(bytes(self._partial))
            protocol.receive_eof()
        self._owes_bytes = True
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode in _DATA_OPCODES:
                self._fragments.append(bytes(event.data))
                if event.fin:
                    message, self._fragments = b"".join(self._fragments), []
                    self._received.append(message)
        if protocol.state in (State.CLOSING, State.CLOSED):
            self._has_ended = True
            with suppress(OSError):
                self._flush(self._require_socket())  # the answer to the close frame
            if not self._received:
                raise self._lost()

    def _lost(self, last_words: str = "") -> SessionLostError:
        protocol = self._protocol
        code, reason, how = None, "", "it ended without a close frame"
        if (close := protocol.close_rcvd or protocol.close_sent) is not None:
            code, reason = close.code, close.reason
            who = "the server closed it" if protocol.close_rcvd else "closed by this client"
            how = f"{who} with code {code}" + (f" ({reason})" if reason else "")
        if last_words:
            how = f"the server ended it with {last_words}" + ("" if code is None else f"; {how}")
        advices = _CLOSED_BY_SERVER if protocol.close_rcvd else _CLOSED_BY_CLIENT
        advice = advices.get(code, "")
        return SessionLostError(
            f"The session with {self.url} is lost: {how}. {advice}The episode ended with it; call "
            "`reset()` to connect again and start a new one.",
            code,
            reason,
        )

    def _lost_while_idle(self) -> None:
        # Kept open but marked: the next exchange reads the end again and raises what it means.
        self._has_ended = True
        if self._protocol.state is State.OPEN:
            self._protocol.receive_eof()

    def _drop_after(self, error: BaseException, timeout_s: float) -> None:
        """A reply may still be under way, so drop the connection; raise what `error` means."""
        self.drop()
        if isinstance(error, _TIMED_OUT):
            raise ReplyTimeoutError(
                f"{self.url} sent no reply within {timeout_s:g} s. The connection is dropped, so "
                "that a late reply is not taken for another call's; `reset()` starts a new episode "
                "(`message_timeout_s` sets the limit)."
            ) from error
        if isinstance(error, OSError) and not isinstance(error, EnvClientError):
            raise SessionLostError(
                f"The session with {self.url} is lost: {error}. The episode ended with it; call "
                "`reset()` to connect again and start a new one."
            ) from error

    def _require_socket(self) -> socket.socket:
        if self._sock is None:
            raise self._lost()
        return self._sock

    def _flush(self, sock: socket.socket) -> None:
        data = self._outgoing()
        if data:
            self._write(sock, data)

    def _write(self, sock: socket.socket, data: bytes) -> None:
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # The server hung up; what it said before that (at capacity, say) may still be read.
            self._take_the_rest(sock)

    def _take_the_rest(self, sock: socket.socket) -> None:
        while not self._received:
            self._take(sock.recv(_READ_SIZE))

    async def _write_async(self, sock: socket.socket, data: bytes, deadline: float) -> None:
        while data:
            try:
                data = data[sock.send(data) :]
            except _WOULD_BLOCK:
                await _wait_until_writable(sock, deadline)
            except (BrokenPipeError, ConnectionResetError):
                self._take_the_rest(sock)
                return

    def _say_goodbye(self, sock: socket.socket, farewell: bytes) -> None:
        if self._protocol.state is not State.OPEN:
            return
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        self._stop_watching()
        self._set_timeout(sock, _CLOSE_TIMEOUT_S)
        self._protocol.send_text(farewell)
        self._flush(sock)
        while self._protocol.state is State.OPEN:
            self._received.clear()
            self._take(sock.recv(_READ_SIZE))
            self._set_timeout(sock, max(deadline - time.monotonic(), _SHORTEST_WAIT_S))


async def _wait_until_writable(sock: socket.socket, deadline: float) -> None:
    """Wait on the running loop for room in a full send buffer: rare, so set up anew each time."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not ready.done():
            ready.set_exception(error) if error else ready.set_result(None)

    loop.add_writer(sock, settle, None)
    timer = loop.call_later(deadline - time.monotonic(), settle, TimeoutError())
    try:
        await ready
    finally:
        timer.cancel()
        loop.remove_writer(sock)


def _is_error(message: bytes) -> bool:
    return b'"error"' in message[:20]
