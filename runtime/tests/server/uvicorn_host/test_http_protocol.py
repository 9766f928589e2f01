# SPDX-License-Identifier: BSD-3-Clause
"""Bytes of HTTP as no client library sends them: how many answers, which, and what is kept."""

import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from stepwire.server.uvicorn_host.http_protocol import MAX_HEAD_BYTES

_HOST = b"Host: localhost\r\n"
_HEALTH = b"GET /health HTTP/1.1\r\n" + _HOST + b"\r\n"
_SMUGGLED = b"GET /sessions HTTP/1.1\r\n" + _HOST + b"\r\n"
_ACTION = b'{"action":{"text":"Hi"}}'
_LENGTH = b"Content-Length: %d\r\n" % len(_ACTION)
_STEP = b"POST /step HTTP/1.1\r\n" + _HOST
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(_ACTION), _ACTION)
_H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
_WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
_HANDSHAKE = b"GET /ws HTTP/1.1\r\n" + _HOST + _WEBSOCKET
_BYE = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def _receive(client: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received


def _exchange(server: Any, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
        return _receive(client)


def _statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.mark.parametrize(
    "request_with_upgrade",
    [
        _STEP + _H2C + _LENGTH + b"\r\n" + _ACTION,
        _STEP + _H2C + _CHUNKED + b"\r\n",
        _STEP + _WEBSOCKET + _LENGTH + b"\r\n" + _ACTION,
        _STEP + b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n" + _LENGTH + b"\r\n" + _ACTION,
    ],
    ids=["h2c", "h2c in chunks", "WebSocket", "TLS"],
)
def test_an_upgrade_that_is_not_taken_is_an_ordinary_request(
    server: Any, request_with_upgrade: bytes
) -> None:
    received = _exchange(server, request_with_upgrade, _BYE)
    if b"chunked" in request_with_upgrade:  # sent together, the second one may go unanswered
        assert _statuses(received) in ([200], [200, 200])
    else:
        assert _statuses(received) == [200, 200]
    assert b'"text":"Hi"' in received


def test_a_body_is_never_a_request(server: Any) -> None:
    head = b"POST /reset HTTP/1.1\r\n" + _HOST + _H2C
    received = _exchange(
        server, head + b"Content-Length: %d\r\n\r\n" % len(_SMUGGLED), _SMUGGLED, _BYE
    )
    assert _statuses(received) == [422, 200]
    assert b"active_sessions" not in received


@pytest.mark.parametrize(
    "framing",
    [
        _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _LENGTH + b"Content-Length: 3\r\n\r\n",
        b"Content-Length: 5, 5\r\n\r\n",
        b"Content-Length: +5\r\n\r\n",
        b"Content-Length : 5\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1 \nx\r\n0\r\n\r\n",
        b"X: folded\r\n Content-Length: 0\r\n\r\n",
        b"\nContent-Length: 0\n\n",
    ],
)
def test_a_request_whose_end_is_not_certain_ends_the_connection(
    server: Any, framing: bytes
) -> None:
    received = _exchange(server, _STEP + framing + _SMUGGLED)
    assert _statuses(received) in ([400], [501])
    assert b"Connection: close" in received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + _HOST + b"\r\n" + _SMUGGLED, 501),
        (b"get /health HTTP/1.1\r\n" + _HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        ("GET /hé HTTP/1.1\r\n".encode() + _HOST + b"\r\n", 400),
        ("GET /health?é HTTP/1.1\r\n".encode() + _HOST + b"\r\n", 400),
        (b"GET http://other.example/health HTTP/1.1\r\n" + _HOST + b"\r\n" + _BYE, 403),
        (b"GET http://localhost/health HTTP/1.1\r\nHost: other.example\r\n\r\n" + _BYE, 200),
        (b"GET /health HTTP/1.0\r\n\r\n" + _SMUGGLED, 200),
        (_BYE.replace(_HOST, b""), 400),
        (_BYE.replace(_HOST, 2 * _HOST), 400),
        (_HANDSHAKE.replace(_HOST, b"") + b"\r\n", 400),
        (_HANDSHAKE.replace(_HOST, 2 * _HOST) + b"\r\n", 400),
        (_HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400),
        (_HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (_HANDSHAKE + b"\r\nhello", 400),
        (_HANDSHAKE + b"X: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (_HANDSHAKE + b"X: x\r\n" * 200 + b"\r\n", 431),
        (_HANDSHAKE.replace(b"/ws", b"/ws?" + b"x" * 9000) + b"\r\n", 414),
        (b"GET /health?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n" + _HOST + b"\r\n", 414),
        (b"GET /health HTTP/1.1\r\n" + _HOST + b"X: x\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n", 431),
        (b"\r\n" * MAX_HEAD_BYTES, 414),
    ],
)
def test_what_is_refused_is_answered_and_closed(server: Any, sent: bytes, status: int) -> None:
    assert _statuses(_exchange(server, sent))[0] == status
    assert "Traceback" not in server.log


def test_the_head_of_the_limit_passes_and_one_more_byte_is_refused(server: Any) -> None:
    head = _BYE.removesuffix(b"\r\n") + b"X: "
    fill = MAX_HEAD_BYTES - len(head) - len(b"\r\n\r\n")
    for more, status in ((0, 200), (1, 431)):
        sent = head + b"x" * (fill + more) + b"\r\n\r\n"
        assert _statuses(_exchange(server, sent)) == [status]


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /health HTTP/1.1\r\n" + _HOST,
        b"GET /",
        _STEP + _CHUNKED,
        _STEP + b"Transfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["fields", "target", "trailers", "chunk extension"],
)
def test_what_never_ends_is_refused_before_it_is_kept(server: Any, begin: bytes) -> None:
    line = b"X: " + b"x" * 60_000 + b"\r\n" if begin.endswith(b"\r\n") else b"x" * 60_000
    before = _resident_bytes(server)
    taken = 0
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        with suppress(ConnectionError):
            client.sendall(begin)
            for _ in range(1000):
                client.sendall(line)
                taken += len(line)
        # A client that is still sending may lose the answer, but not the end of the connection.
        assert _statuses(_receive(client)) in ([], [400], [414], [431])
    assert taken < 10_000_000  # what the system takes is added
    assert _resident_bytes(server) - before < 8_000_000


@pytest.mark.parametrize("length", [b"Content-Length: 99999999999", b"Transfer-Encoding: chunked"])
def test_a_body_that_nobody_waits_for_is_not_read_without_end(server: Any, length: bytes) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    taken = 0
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(b"POST /unknown HTTP/1.1\r\nHost: other.example\r\n" + length + b"\r\n\r\n")
        assert _statuses(client.recv(65536)) == [403]  # before the body
        with suppress(ConnectionError):
            while taken < 100_000_000:
                client.sendall(piece)
                taken += len(piece)
    assert taken < 40_000_000  # `MAX_MESSAGE_BYTES`, and what the system takes


def test_requests_that_wait_behind_others_leave_new_clients_their_turn(
    start_server: Callable[..., Any],
) -> None:
    server = start_server()
    with ExitStack() as clients:
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(40):
            client = socket.create_connection(("127.0.0.1", server.port), 60)
            clients.enter_context(client).sendall(_HEALTH * 40)
        server.process.send_signal(signal.SIGCONT)
        assert _statuses(_exchange(server, _BYE.replace(b"/health", b"/ready"))) == [200]
        before, _, _ = server.log.partition("/ready")
    # Once each client has been accepted, its requests take turns with those of all others.
    assert before.count("/health") < 400


def _resident_bytes(server: Any) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (resident,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(resident) * 1024


def test_an_answer_that_is_not_read_ends_its_connection(start_server: Callable[..., Any]) -> None:
    server = start_server("--log-level", "debug", env={"REQUEST_TIMEOUT_S": "1"})
    request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + _HOST + b"\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(request * 50)
        wait_until(lambda: "A client read nothing of its replies" in server.log)
        received = _receive(client)
    assert 0 < len(_statuses(received)) < 50


def test_trailers_are_no_header_fields(server: Any) -> None:
    trailers = b"Host: other.example\r\nOrigin: https://other.example\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(_STEP + _CHUNKED + trailers)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.sendall(_BYE)
        assert _statuses(_receive(client)) == [200]


def test_a_refusal_comes_after_the_answers_before_it(server: Any) -> None:
    step = _STEP + _LENGTH + b"\r\n" + _ACTION
    received = _exchange(server, step + step + b"garbage\r\n\r\n" + step)
    assert _statuses(received) == [200, 200, 400]
    assert received.rindex(b'"text":"Hi"') < received.index(b"malformed")


def test_a_handshake_waits_for_the_answer_before_it(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(_STEP + _LENGTH + b"\r\n" + _ACTION + _HANDSHAKE + b"\r\n")
        received = b""
        while b"HTTP/1.1 101 " not in received:
            piece = client.recv(65536)
            assert piece
            received += piece
    assert _statuses(received) == [200, 101]


_REQUESTS = st.sampled_from(
    [
        (_HEALTH, b"healthy"),
        (_SMUGGLED, b"max_sessions"),
        (_STEP + _LENGTH + b"\r\n" + _ACTION, b'"text":"Hi"'),
        (_STEP + _H2C + _LENGTH + b"\r\n" + _ACTION, b'"text":"Hi"'),
        (_STEP + b"Content-Length: %d\r\n\r\n" % len(_SMUGGLED) + _SMUGGLED, b"json_invalid"),
    ]
)


@given(asked=st.lists(_REQUESTS, min_size=1, max_size=6), cuts=st.lists(st.integers(1, 900)))
def test_requests_in_any_pieces_get_their_own_answers_in_order(
    server: Any, asked: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    sent = b"".join(request for request, _ in asked) + _BYE
    pieces, begin = [], 0
    for cut in cuts:
        pieces.append(sent[begin : begin + cut])
        begin += cut
    received = _exchange(server, *filter(None, pieces), sent[begin:])
    answers = received.split(b"HTTP/1.1 ")[1:]
    expected = [answer for _, answer in asked]
    # Cut inside the end of a head, the next request may be behind it in the same piece: then the
    # connection ends with the answer.
    assert len(answers) <= len(asked) + 1
    assert len(answers) == len(asked) + 1 or b"connection: close" in answers[-1]
    for answer, content in zip(answers, [*expected, b"healthy"], strict=False):
        assert content in answer


@given(
    request=_REQUESTS,
    place=st.floats(0, 1),
    noise=st.binary(max_size=6)
    | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n", b"0\r\n\r\n", b":"]),
)
def test_noise_in_a_request_never_makes_more_answers_than_requests(
    server: Any, request: tuple[bytes, bytes], place: float, noise: bytes
) -> None:
    head, separator, body = request[0].partition(b"\r\n\r\n")
    cut = int(place * len(head))
    received = _exchange(server, head[:cut] + noise + head[cut:] + separator + body + _BYE)
    assert len(_statuses(received)) <= 3  # one more where the noise ends the head
    assert "Traceback" not in server.log


def test_plain_uvicorn_has_the_same_protocol(start_server: Callable[..., Any]) -> None:
    server = start_server(application="notes_env.app:app")
    assert _statuses(_exchange(server, _STEP + _H2C + _LENGTH + b"\r\n" + _ACTION + _BYE)) == [
        200,
        200,
    ]
    assert _statuses(_exchange(server, _HANDSHAKE + b"Content-Length: 5\r\n\r\nhello")) == [400]


_UNFINISHED = [
    b"",
    b"GET /ws HTTP/1.1\r\n",
    _HANDSHAKE,
    _HANDSHAKE + b"Content-Length: 5\r\n\r\n",
    _STEP + _H2C + _LENGTH + b"\r\n",
    _STEP + b"Transfer-Encoding: chunked\r\n\r\n1;",
    _HEALTH + b"GET ",
]


def test_a_stop_closes_unfinished_requests(start_server: Callable[..., Any]) -> None:
    server = start_server()
    with ExitStack() as clients:
        for sent in _UNFINISHED:
            client = socket.create_connection(("127.0.0.1", server.port), 60)
            clients.enter_context(client).sendall(sent)
        assert requests.get(f"{server.url}/health", timeout=60).ok  # all of it has arrived
        server.process.terminate()
        assert server.process.wait(60) == 0
    assert "Application shutdown complete" in server.log
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_connections_without_a_request_free_their_descriptors_in_time(
    start_server: Callable[..., Any],
) -> None:
    limited = f"ulimit -n 128; exec {sys.executable} -m notes_env.app --port {{port}}"
    server = start_server(command=["bash", "-c", limited], env={"REQUEST_TIMEOUT_S": "1"})
    with ExitStack() as clients:
        for number in range(200):
            client = socket.create_connection(("127.0.0.1", server.port), 60)
            clients.enter_context(client)
            with suppress(ConnectionError):
                client.sendall(_UNFINISHED[number % len(_UNFINISHED)])
        wait_until(lambda: _is_healthy(server))


def _is_healthy(server: Any) -> bool:
    try:
        return requests.get(f"{server.url}/health", timeout=10).ok
    except requests.RequestException:
        return False
