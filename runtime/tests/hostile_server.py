# SPDX-License-Identifier: BSD-3-Clause
"""A server that does what no server should: `python hostile_server.py` prints its port.

Each function is one misbehaviour, at the path of its name. It gets the connection after the head of
the client's request, and it does its worst until the client hangs up.
"""

import base64
import hashlib
import itertools
import re
import socket
import socketserver
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

OBSERVATION = (
    b'{"type":"observation","data":{"observation":{"text":"hi","length":2},"reward":%s,"done":%s}}'
)
REPLY = OBSERVATION % (b"0.5", b"false")
COLOURS = "\x1b[31mred\x1b[0m \x9b2J\r\x07\u202eback"
MISBEHAVIOURS: dict[str, Callable[["Peer"], None]] = {}


def frame(payload: bytes = b"", opcode: int = 1, *, fin: bool = True) -> bytes:
    first, size = opcode | fin << 7, len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


PING, PONG, TEXT = frame(b"", 9), frame(b"", 10), frame(b"unasked")


class Peer:
    """The client's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""
        while b"\r\n\r\n" not in self.head and self.head[:1] != b"\x16":
            self.head += self.read()

    def accept(self) -> None:
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", self.head)
        assert key is not None
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )

    def read(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_without_end(self, data: bytes) -> None:
        block = data * (65536 // len(data))
        while True:
            self.send(block)

    def drip(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.send(piece)
            time.sleep(0.01)

    def reply(self, payload: bytes = REPLY) -> None:
        """Accept the WebSocket, and answer the first request, whatever it is."""
        self.accept()
        self.read()
        self.send(frame(payload))

    def listen(self) -> None:
        while True:
            self.read()


def misbehaviour(function: Callable[[Peer], None]) -> Callable[[Peer], None]:
    MISBEHAVIOURS[function.__name__] = function
    return function


# Before the WebSocket is open.


@misbehaviour
def silence(peer: Peer) -> None:
    peer.listen()


@misbehaviour
def dripped_handshake(peer: Peer) -> None:
    peer.drip(itertools.chain([b"HTTP/1.1 101 Switching Protocols\r\nX: "], itertools.repeat(b"x")))


@misbehaviour
def header_without_end(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
    peer.send_without_end(b"x")


@misbehaviour
def headers_without_end(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
    peer.send_without_end(b"X: x\r\n")


@misbehaviour
def interim_answers_without_end(peer: Peer) -> None:
    peer.send_without_end(b"HTTP/1.1 100 Continue\r\n\r\n")


@misbehaviour
def body_without_end(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 503 No\r\nRetry-After: 99999999999\r\nContent-Length: 99999999999\r\n\r\n")
    peer.send_without_end(b"x")


@misbehaviour
def chunks_without_end(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.send_without_end(b"4\r\nbody\r\n")


@misbehaviour
def dripped_body(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 503 No\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(itertools.repeat(b"x"))


@misbehaviour
def coloured_refusal(peer: Peer) -> None:
    body = b'{"detail":"%s"}' % (COLOURS.encode("unicode_escape").replace(b"\\x", b"\\u00") * 999)
    peer.send(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    peer.listen()


@misbehaviour
def coloured_header(peer: Peer) -> None:
    value = COLOURS.replace("\r", "").encode()
    peer.send(b"HTTP/1.1 101 \x1b[31mOK\r\nUpgrade: " + value + b"\r\nConnection: Upgrade\r\n\r\n")
    peer.listen()


@misbehaviour
def redirect_to_itself(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 307 Go\r\nLocation: ws\r\nContent-Length: 0\r\n\r\n")
    peer.listen()


def _redirect(location: bytes) -> Callable[[Peer], None]:
    def redirect(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 307 Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location)
        peer.listen()

    return redirect


for _name, _location in {
    "half_an_address": b"http://[",
    "no_port": b"http://127.0.0.1:99999/ws",
    "a_file": b"file:///etc/passwd",
    "no_host": b"http:///ws",
    "bytes": b"/silence/\xff\xfe",
    "control_characters": b"ftp://there/\x1b[31m\xc2\x9b2J",
    "a_secret": b"ftp://user:s3cret@there/",
}.items():
    MISBEHAVIOURS[f"redirect_to_{_name}"] = _redirect(_location)


# In place of a reply.


@misbehaviour
def texts_before_any_request(peer: Peer) -> None:
    peer.accept()
    peer.send_without_end(TEXT)


@misbehaviour
def pings_before_any_request(peer: Peer) -> None:
    peer.accept()
    peer.send_without_end(PING)


def _instead(data: bytes, *, first: bytes = b"") -> Callable[[Peer], None]:
    def instead(peer: Peer) -> None:
        peer.accept()
        peer.read()
        peer.send(first)
        peer.send_without_end(data)

    return instead


for _name, _first, _data in [
    ("pings", b"", PING),
    ("long_pings", b"", frame(b"x" * 125, 9)),
    ("pongs", b"", PONG),
    ("empty_fragments", frame(b"", fin=False), frame(b"", 0, fin=False)),
    ("small_fragments", frame(b"", fin=False), frame(b"x", 0, fin=False)),
    ("fragments_and_pings", frame(b"", fin=False), frame(b"", 0, fin=False) + PING),
    ("half_a_frame", struct.pack("!BBQ", 0x81, 127, 2**20) + b"x" * (2**20 - 9), b""),
    ("a_frame_of_exabytes", struct.pack("!BBQ", 0x81, 127, 2**62), b"x"),
]:
    MISBEHAVIOURS[f"{_name}_instead"] = (
        _instead(_data, first=_first) if _data else _instead(PONG, first=_first)
    )


@misbehaviour
def dripped_frame(peer: Peer) -> None:
    peer.accept()
    peer.read()
    peer.drip([frame(b"x" * 100_000)[i : i + 1] for i in range(100_000)])


@misbehaviour
def dripped_pings(peer: Peer) -> None:
    peer.accept()
    peer.drip(itertools.repeat(PING))


@misbehaviour
def reads_nothing(peer: Peer) -> None:
    peer.accept()
    time.sleep(60)


@misbehaviour
def replies_and_reads_nothing(peer: Peer) -> None:
    peer.accept()
    peer.send(frame(REPLY))
    time.sleep(60)


@misbehaviour
def reads_slowly(peer: Peer) -> None:
    peer.accept()
    while peer.sock.recv(4096):
        peer.send(PING)
        time.sleep(0.005)


# After a reply.


@misbehaviour
def close_without_answer(peer: Peer) -> None:
    peer.reply()
    peer.listen()


@misbehaviour
def texts_after_the_reply(peer: Peer) -> None:
    peer.reply()
    peer.send_without_end(TEXT)


@misbehaviour
def pings_after_the_reply(peer: Peer) -> None:
    peer.reply()
    peer.send_without_end(PING)


@misbehaviour
def texts_on_close(peer: Peer) -> None:
    peer.reply()
    peer.read()
    peer.send_without_end(TEXT)


@misbehaviour
def reply_to_an_earlier_request(peer: Peer) -> None:
    peer.accept()
    peer.read()
    peer.send(frame(REPLY) * 2)
    peer.listen()


# Replies that are not what they should be.

ERROR = '{"type":"error","data":{%s}}'
REPLIES: dict[str, bytes] = {
    "no_json": b"\x00\x1b[31m" + b"x" * 100_000,
    "deep_lists": b"[" * 500_000,
    "deep_objects": b'{"type":"observation","data":' + b'{"a":' * 100_000 + b"}" * 100_001,
    "many_lists": b'{"type":"observation","data":[' + b"[]," * 30_000 + b"[]]}",
    "enormous_int": OBSERVATION % (b"1" + b"0" * 200_000, b"false"),
    "lone_surrogate": OBSERVATION.replace(b'"hi"', rb'"\ud800"') % (b"1", b"false"),
    "reward_of_text": OBSERVATION % (rb'"\u001b[31m"', b"false"),
    "reward_of_lists": OBSERVATION % (b"[[]]", b"false"),
    "done_is_a_number": OBSERVATION % (b"1", b"17"),
    "data_is_a_list": b'{"type":"observation","data":[1]}',
    "observation_is_null": OBSERVATION.replace(b'{"text":"hi","length":2}', b"null") % (b"1", b"0"),
    "type_is_an_object": b'{"type":{},"data":{}}',
    "type_is_coloured": rb'{"type":"\u001b[31mred","data":{}}',
    "coloured_error": (ERROR % r'"message":"\u001b[31mred","code":"\u001b[2J"').encode(),
    "coloured_errors": (
        ERROR % r'"errors":[{"loc":["\u001b[31m"],"msg":"\u009b2J"},{"loc":7,"msg":[]}]'
    ).encode(),
    "endless_error": (ERROR % f'"message":"{"x" * 500_000}","code":"{"y" * 500_000}"').encode(),
    "error_of_other_types": (
        ERROR % '"message":[1],"code":{},"errors":{"a":1},"active_sessions":"many"'
    ).encode(),
    "capacity_of_other_types": (
        ERROR % '"code":"CAPACITY_REACHED","active_sessions":[],"max_sessions":"x"'
    ).encode(),
}


def _replies(payload: bytes) -> Callable[[Peer], None]:
    def reply(peer: Peer) -> None:
        peer.reply(payload)
        peer.read()

    return reply


MISBEHAVIOURS.update({name: _replies(payload) for name, payload in REPLIES.items()})
MISBEHAVIOURS["nan_reward"] = _replies(OBSERVATION % (b"NaN", b"false"))


@misbehaviour
def coloured_close(peer: Peer) -> None:
    peer.accept()
    peer.read()
    peer.send(frame(struct.pack("!H", 4000) + COLOURS.encode(), 8))
    peer.listen()


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            peer = Peer(self.request)
            name = peer.head.split(b"/")[1].decode() if peer.head[:1] == b"G" else "silence"
            MISBEHAVIOURS[name](peer)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Connection) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
