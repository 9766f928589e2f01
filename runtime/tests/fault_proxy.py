# SPDX-License-Identifier: BSD-3-Clause
"""`FaultProxy`: between a client and a notes server, it breaks one reply in a given way."""

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stepwire.client.errors import (
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
)

TIMEOUT_S = 0.4
LIMIT_MB = 0.01

Fault = Callable[[socket.socket, bytes], Any]


def text_frame(text: str) -> bytes:
    return struct.pack("!BB", 0x81, len(text)) + text.encode()


def silence(client: socket.socket, reply: bytes) -> None:
    """The reply is lost, or the other end is half-open."""


def late(client: socket.socket, reply: bytes) -> None:
    time.sleep(TIMEOUT_S * 1.5)
    with suppress(OSError):
        client.recv(1, socket.MSG_PEEK)  # until it has given up, however slow it is
        client.sendall(reply)


def slow_drip(client: socket.socket, reply: bytes) -> None:
    with suppress(OSError):
        for byte in reply:
            client.sendall(bytes([byte]))
            time.sleep(TIMEOUT_S / 20)


def cut(client: socket.socket, reply: bytes) -> None:
    client.shutdown(socket.SHUT_RDWR)


def cut_in_mid_frame(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply[: len(reply) // 2])
    client.shutdown(socket.SHUT_RDWR)


def abort(client: socket.socket, reply: bytes) -> None:
    client.shutdown(socket.SHUT_RD)  # or the relay's own `recv` would keep the connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def close_with_reason(client: socket.socket, reply: bytes) -> None:
    client.sendall(struct.pack("!BBH", 0x88, 2 + len("restarting"), 1012) + b"restarting")


def broken_json(client: socket.socket, reply: bytes) -> None:
    client.sendall(text_frame('{"type":"observation","data":{'))


def not_utf8(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\x81\x02\xff\xff")


def wrong_type(client: socket.socket, reply: bytes) -> None:
    client.sendall(text_frame('{"type":"state","data":{"step_count":1}}'))


def no_object(client: socket.socket, reply: bytes) -> None:
    client.sendall(text_frame("[]"))


def error_without_data(client: socket.socket, reply: bytes) -> None:
    client.sendall(text_frame('{"type":"error","data":"boom"}'))


def missing_field(client: socket.socket, reply: bytes) -> None:
    client.sendall(text_frame('{"type":"observation","data":{"observation":{}}}'))


def no_websocket_frame(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\xff\xff\xff\xff")


def oversized(client: socket.socket, reply: bytes) -> None:
    client.sendall(struct.pack("!BBQ", 0x81, 127, int(LIMIT_MB * 2**21)))


def twice(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply * 2)


def after_a_ping(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\x89\x04ping" + reply)


def in_two_pieces(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply[:7])
    time.sleep(TIMEOUT_S / 10)
    client.sendall(reply[7:])


class FaultProxy(socketserver.ThreadingTCPServer):
    """Relays to a server; breaks the reply to a frame that contains the word "fault"."""

    def __init__(self, target: int, fault: Fault) -> None:
        self.target = target
        self.fault = fault
        self.pongs = 0
        super().__init__(("127.0.0.1", 0), _Relay)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Relay(socketserver.BaseRequestHandler):
    server: FaultProxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            replies = threading.Thread(target=self._relay_replies, args=(upstream,))
            replies.start()
            with suppress(OSError):
                while data := self.request.recv(65536):
                    self.server.pongs += data[:1] == b"\x8a"
                    upstream.sendall(data)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            replies.join()

    def _relay_replies(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while reply := upstream.recv(65536):  # small replies: one each
                if b'"text":"fault"' in reply:
                    self.server.fault(self.request, reply)
                else:
                    self.request.sendall(reply)
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)


# fault, the error it raises, and what the error says
FAULTS: list[tuple[Fault, type[EnvClientError], str]] = [
    (silence, ReplyTimeoutError, "no reply within 0.4 s"),
    (late, ReplyTimeoutError, "no reply within 0.4 s"),
    (slow_drip, ReplyTimeoutError, "no reply within 0.4 s"),
    (cut, SessionLostError, "without a close frame"),
    (cut_in_mid_frame, SessionLostError, "without a close frame"),
    (abort, SessionLostError, "is lost"),
    (close_with_reason, SessionLostError, r"code 1012 \(restarting\)"),
    (oversized, SessionLostError, "code 1009 .*`max_message_size_mb` sets"),
    (no_websocket_frame, SessionLostError, "code 1002"),
    (broken_json, ProtocolViolationError, "did not send the expected observation frame"),
    (not_utf8, ProtocolViolationError, "did not send the expected observation frame"),
    (wrong_type, ProtocolViolationError, "did not send the expected observation frame"),
    (no_object, ProtocolViolationError, "did not send the expected observation frame"),
    (error_without_data, ProtocolViolationError, "did not send the expected observation frame"),
    (missing_field, ProtocolViolationError, "sent an invalid observation frame"),
]
