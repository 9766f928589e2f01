# SPDX-License-Identifier: BSD-3-Clause
"""`docs/upstream.md`: each fault is still there. Where a test fails, its workaround can go."""

import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from waiting import wait_until
from websockets.frames import Frame, Opcode

pytestmark = pytest.mark.slow

# Answers each request with its Host, once its body is complete, but the path /slow a bit later.
_APPLICATION = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/refused":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b""})
        else:
            await send({"type": "websocket.accept"})
            await receive()
        return
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    hosts = b" ".join(value for name, value in scope["headers"] if name == b"host")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hosts: " + hosts})
"""
_HOST = b"Host: localhost\r\n"
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
_INNER = b"GET /inner HTTP/1.1\r\n" + _HOST + b"\r\n"


@pytest.fixture
def uvicorn_server(start_server: Callable[..., Any], tmp_path: Path) -> Any:
    (tmp_path / "bare.py").write_text(_APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "bare:app", "--http", "httptools"]
    return start_server(command=[*command, "--port", "{port}"], cwd=tmp_path)


def _connect(server: Any, sent: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), 60)
    client.sendall(sent)
    return client


def _statuses(client: socket.socket, count: int) -> list[int]:
    received = b""
    while len(statuses := re.findall(rb"HTTP/1\.1 (\d{3}) ", received)) < count:
        piece = client.recv(65536)
        assert piece, f"only {received!r}: the fault may be gone"
        received += piece
    return [int(status) for status in statuses]


def test_httptools_reads_no_body_after_an_upgrade(uvicorn_server: Any) -> None:
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + _HOST
    length = b"Content-Length: %d\r\n\r\n" % len(_INNER)
    with _connect(uvicorn_server, head + length) as client:
        assert _statuses(client, 1) == [200]  # before its body was sent
        client.sendall(_INNER)
        assert _statuses(client, 1) == [200]


def test_uvicorn_keeps_a_head_of_any_size(uvicorn_server: Any) -> None:
    with _connect(uvicorn_server, b"GET / HTTP/1.1\r\n" + _HOST) as client:
        client.sendall((b"X: " + b"x" * 1000 + b"\r\n") * 2000 + b"\r\n")
        assert _statuses(client, 1) == [200]


def test_uvicorn_adds_trailers_to_the_header_fields(uvicorn_server: Any) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + _HOST
    with _connect(uvicorn_server, head + b"\r\n0\r\nHost: other.example\r\n\r\n") as client:
        assert b"hosts: localhost other.example" in _receive_body(client)


def _receive_body(client: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        received += client.recv(65536)
    return received


def test_uvicorn_answers_the_second_request_first(uvicorn_server: Any) -> None:
    sent = b"GET /slow HTTP/1.1\r\n" + _HOST + b"\r\n" + b"garbage\r\n\r\n"
    with _connect(uvicorn_server, sent) as client:
        assert _statuses(client, 1) == [400]


@pytest.mark.parametrize(
    "field", [b"Content-Length: 5\r\n", b"X: " + b"x" * 9000 + b"\r\n"], ids=["body", "size"]
)
def test_uvicorn_leaves_a_refused_handshake_open(uvicorn_server: Any, field: bytes) -> None:
    with _connect(uvicorn_server, _HANDSHAKE + _HOST + field + b"\r\n") as client:
        client.settimeout(2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        uvicorn_server.process.terminate()
        uvicorn_server.process.wait(60)
    assert "AssertionError" in uvicorn_server.log


def test_uvicorn_logs_a_refusal_as_an_error(uvicorn_server: Any) -> None:
    refused = _HANDSHAKE.replace(b"GET /", b"GET /refused") + _HOST + b"\r\n"
    with _connect(uvicorn_server, refused) as client:
        assert _statuses(client, 1) == [401]
        wait_until(lambda: "returned without completing handshake" in uvicorn_server.log)


def test_uvicorn_logs_a_traceback_for_text_that_is_not_utf_8(uvicorn_server: Any) -> None:
    with _connect(uvicorn_server, _HANDSHAKE + _HOST + b"\r\n") as client:
        assert _statuses(client, 1) == [101]
        client.sendall(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
        wait_until(lambda: "Traceback" in uvicorn_server.log)


def test_starlette_redirects_to_an_absolute_address() -> None:
    async def answer(request: Request) -> Response:
        return Response()

    client = TestClient(Starlette(routes=[Route("/mcp", answer)]), follow_redirects=False)
    assert client.get("/mcp/").headers["location"] == "http://testserver/mcp"
