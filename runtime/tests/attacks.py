# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients: `python attacks.py PORT [NAME…]` runs each attack once.

Each function of `ATTACKS` takes the port and returns after some seconds. It expects nothing of the
server, which may answer, wait or close.
"""

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

MOST_BYTES = 16 * 1024 * 1024
_HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_STATE = b'{"type":"state"}'
_MESSAGE = b'{"type":"step","data":{"message":"%b"}}'
ATTACKS: dict[str, Callable[[int], None]] = {}
_Attack = Callable[[int], None]


def _attack(function: _Attack) -> _Attack:
    ATTACKS[function.__name__] = function
    return function


def frame(payload: bytes, opcode: int = 1, fin: int = 0x80) -> bytes:
    """A client's frame, with a mask of zeros."""
    return header(len(payload), opcode, fin) + payload


def header(size: int, opcode: int = 1, fin: int = 0x80) -> bytes:
    """What a client's frame begins with."""
    if size < 126:
        return bytes((fin | opcode, 0x80 | size)) + bytes(4)
    if size < 65536:
        return struct.pack("!BBH", fin | opcode, 0xFE, size) + bytes(4)
    return struct.pack("!BBQ", fin | opcode, 0xFF, size) + bytes(4)


def connect(port: int, timeout: float = 5) -> socket.socket:
    """A TCP connection."""
    return socket.create_connection(("127.0.0.1", port), timeout)


def open_session(port: int, path: bytes = b"/ws") -> socket.socket:
    """A WebSocket."""
    connection = connect(port, 60)
    connection.sendall(_HANDSHAKE % path)
    response = b""
    while b"\r\n\r\n" not in response:
        response += connection.recv(1)
    connection.settimeout(5)
    return connection


@contextmanager
def _sessions(port: int, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_session(port)) for _ in range(number)]


def _send(connection: socket.socket, data: bytes) -> bool:
    """Whether the server took it within the connection's time."""
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def _drain(connection: socket.socket, seconds: float) -> None:
    until = time.monotonic() + seconds
    connection.settimeout(0.2)
    while time.monotonic() < until:
        try:
            if not connection.recv(1 << 20):
                return
        except TimeoutError:
            continue
        except OSError:
            return


def _step(fields: bytes) -> bytes:
    return b'{"type":"step","data":{"message":"x",' + fields + b"}}"


def _ask(port: int, message: bytes, seconds: float = 2) -> None:
    with open_session(port) as connection:
        _send(connection, frame(message))
        _drain(connection, seconds)


def _post(port: int, path: bytes, body: bytes, seconds: float = 2) -> None:
    with connect(port) as connection:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % path
        if _send(connection, head + b"Content-Length: %d\r\n\r\n" % len(body) + body):
            _drain(connection, seconds)


def _filled(begin: bytes, part: bytes, end: bytes, size: int = MOST_BYTES) -> bytes:
    number = (size - len(begin) - len(end) - 1) // (len(part) + 1)
    return begin + part + (b"," + part) * (number - 1) + end


# JSON


@_attack
def unknown_keys(port: int) -> None:
    """12.8 MB and 0.7 MB of keys that no model has, over each transport."""
    for number in (1_000_000, 60_000):
        keys = b",".join(b'"k%d":1' % key for key in range(number))
        _ask(port, _step(keys))
        _post(port, b"/step", b'{"action":{"message":"x",' + keys + b"}}")
        _post(port, b"/mcp", b'{"jsonrpc":"2.0","id":1,"method":"ping",' + keys + b"}")
        _post(port, b"/reset", b'{"scenario":{' + keys + b"}}")


@_attack
def many_values(port: int) -> None:
    """As many values as fit into a message, and into 0.7 MB, of each kind."""
    for part in (b'{"":0}', b"[]", b"1e9", b'""', b"0", b'{"a":{}}', b'"a":1', b'"\\u0000"'):
        for size in (MOST_BYTES, 730_000):
            opening, closing = (b"{", b"}") if b":1" in part else (b"[", b"]")
            begin, end = b'"metadata":{"a":' + opening, closing + b"}"
            _ask(port, _step(_filled(begin, part, end, size - 100)), 1)


@_attack
def odd_values(port: int) -> None:
    """Deep nesting, long numbers, and one key a million times."""
    for value in (
        b"[" * 8_000_000,
        b'{"a":' * 2_000_000,
        b"9" * 8_000_000,
        b"1" * 4300,
        b"0." + b"1" * 8_000_000,
        b'{"a":1' + b',"a":1' * 1_000_000 + b"}",
        b'"' + b"\\\\" * 8_000_000 + b'"',
        b'"' + b'\\"' * 8_000_000 + b'"',
    ):
        _ask(port, _step(b'"metadata":{"a":' + value + b"}"), 1)


@_attack
def wide_texts(port: int) -> None:
    """16 MB of which one character takes four bytes, so that all do, as echo and as arguments."""
    emoji = "\N{GRINNING FACE}"
    for end in (emoji.encode(), b"\\ud83d\\ude00"):
        text = b"x" * (MOST_BYTES - 200) + end
        _ask(port, b'{"type":"step","data":{"message":"' + text + b'"}}', 3)
        _ask(port, b'{"type":"reset","data":{"episode_id":"' + text + b'"}}', 2)
        _ask(port, b'{"type":"' + text + b'"}', 2)
        _post(port, b"/step", b'{"action":{"message":"' + text + b'"}}', 3)


@_attack
def held_texts(port: int) -> None:
    """Sessions that stay open after a large message that was refused or answered."""
    with ExitStack() as stack:
        for number in range(6):
            connection = stack.enter_context(open_session(port))
            field = b"episode_id" if number % 2 else b"other"
            text = b"y" * (MOST_BYTES - 200)
            _send(connection, frame(b'{"type":"reset","data":{"' + field + b'":"' + text + b'"}}'))
            _drain(connection, 1)
        time.sleep(1)


# Output that is not read


@_attack
def unread_echoes(port: int) -> None:
    """Echoes of 4 MB that no one reads."""
    with _sessions(port, 20) as connections:
        for connection in connections:
            connection.settimeout(0.5)
            _send(
                connection, frame(b'{"type":"step","data":{"message":"%b"}}' % (b"x" * 4_000_000))
            )
        time.sleep(4)


@_attack
def unread_padding(port: int) -> None:
    """5 KB in all: replies of megabytes, nine for each of some connections."""
    reset = b'{"type":"reset","data":{"scenario":{"observation_bytes":4194304}}}'
    with _sessions(port, 20) as connections:
        for connection in connections:
            step = frame(b'{"type":"step","data":{"message":"x"}}')
            _send(connection, frame(reset) + step * 9)
        time.sleep(6)


@_attack
def unread_padding_that_almost_fits(port: int) -> None:
    """Two replies each that the system takes almost whole: few bytes are unread, and all kept."""
    reset = b'{"type":"reset","data":{"scenario":{"observation_bytes":2060000}}}'
    with _sessions(port, 60) as connections:
        for connection in connections:
            _send(connection, frame(reset) + frame(b'{"type":"step","data":{"message":"x"}}') * 6)
        time.sleep(6)


@_attack
def slow_padding(port: int) -> None:
    """Replies of megabytes that the server sends late or slowly, as the client asks."""
    reset = (
        b'{"type":"reset","data":{"scenario":{"observation_bytes":4194304,'
        b'"fault":{"kind":"%b","delay_s":10}}}}'
    )
    with _sessions(port, 60) as connections:
        for number, connection in enumerate(connections):
            _send(connection, frame(reset % (b"slow_drip", b"late_reply")[number % 2]))
            _send(connection, frame(b'{"type":"step","data":{"message":"x"}}'))
        for connection in connections:
            _drain(connection, 0.1)
        time.sleep(4)


@_attack
def unread_http(port: int) -> None:
    """HTTP responses of megabytes that no one reads."""
    body = b'{"scenario":{"observation_bytes":4194304}}'
    head = b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(connect(port))
            _send(connection, (head + body) * 3)
        time.sleep(5)


@_attack
def unread_pongs(port: int) -> None:
    """Pings without end; nothing is read."""
    with _sessions(port, 5) as connections:
        pings = frame(b"p" * 125, 9) * 2000
        for connection in connections:
            connection.setblocking(False)
        _flood(connections, pings, 5)


# Frames


def _flood(connections: list[socket.socket], data: bytes, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for connection in connections:
            with contextlib.suppress(OSError):
                while time.monotonic() < until and connection.send(data):
                    pass
        time.sleep(0.01)


@_attack
def frames_without_content(port: int) -> None:
    """Pongs, empty fragments, fragments of a byte, and messages of two, without end."""
    for data in (
        frame(b"", 10) * 5000,
        frame(b"", 1, 0) + frame(b"", 0, 0) * 5000,
        frame(b'"', 1, 0) + frame(b"x", 0, 0) * 5000,
        frame(b"{}") * 5000,
        frame(_STATE) * 5000,
        frame(b"{}", 2) * 5000,
        frame(b"", 9) * 5000,
    ):
        with _sessions(port, 2) as connections:
            for connection in connections:
                connection.setblocking(False)
            _flood(connections, data, 3)


@_attack
def invalid_frames(port: int) -> None:
    """Reserved bits and opcodes, lengths beyond everything, and bytes that are no frame."""
    for data in (
        b"\xc1\x85\0\0\0\0Hello",
        b"\x83\x80\0\0\0\0",
        b"\x81\x05Hello",
        b"\x81\xff" + b"\x7f" + b"\xff" * 7 + bytes(4),
        b"\x81\xff" + b"\xff" * 8 + bytes(4),
        b"\x89\xfe\xff\xff\0\0\0\0",
        frame(b"\xff\xfe\xfd"),
        frame(b"x", 0),
        frame(b"x", 1, 0) + frame(b"x", 1),
        frame(b"x", 1, 0x40),
        b"GET / HTTP/1.1\r\n\r\n" * 100,
    ):
        for _ in range(5):
            with open_session(port) as connection:
                _send(connection, data)
                _drain(connection, 0.1)


@_attack
def messages_that_do_not_arrive(port: int) -> None:
    """Large messages begun on many connections, each with a trickle of bytes."""
    with _sessions(port, 40) as connections:
        for number, connection in enumerate(connections):
            connection.settimeout(0.2)
            if number % 2:
                begun = header(MOST_BYTES - 1) + b"x" * 400_000
            else:
                begun = b"".join(frame(b"x" * 60_000, number > 40, 0) for _ in range(8))
            _send(connection, begun)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for connection in connections:
                _send(connection, b"x")
            time.sleep(0.5)


@_attack
def bodies_that_do_not_arrive(port: int) -> None:
    """The same as HTTP bodies, with and without a length."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in range(40)]
        for number, connection in enumerate(connections):
            connection.settimeout(0.2)
            head = b"POST /step HTTP/1.1\r\nHost: localhost\r\n"
            if number % 2:
                _send(connection, head + b"Content-Length: 16000000\r\n\r\n" + b"x" * 400_000)
            else:
                chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
                _send(connection, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 4)
        time.sleep(5)


@_attack
def large_messages_at_once(port: int) -> None:
    """Many connections with messages of megabytes while a step of theirs is in progress."""
    reset = b'{"type":"reset","data":{"scenario":{"delay_s":2}}}'
    step = frame(b'{"type":"step","data":{"message":"%b"}}' % ("é" * 1_000_000).encode())
    with _sessions(port, 20) as connections:
        for connection in connections:
            connection.settimeout(0.5)
            _send(connection, frame(reset) + step)
        time.sleep(4)


@_attack
def middling_messages_at_once(port: int) -> None:
    """As many messages as a connection may have waiting, on many connections."""
    reset = b'{"type":"reset","data":{"scenario":{"delay_s":2}}}'
    text = b"x" * 16_000 + "\N{GRINNING FACE}".encode()
    step = frame(b'{"type":"step","data":{"message":"%b"}}' % text)
    with _sessions(port, 100) as connections:
        for connection in connections:
            connection.settimeout(0.5)
            _send(connection, frame(reset) + step * 12)
        time.sleep(4)


if __name__ == "__main__":
    for name in sys.argv[2:] or ATTACKS:
        print(name, flush=True)
        ATTACKS[name](int(sys.argv[1]))
