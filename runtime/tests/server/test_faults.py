# SPDX-License-Identifier: BSD-3-Clause
"""Clients that break off, vanish or never read: each affects its own session only.

Marked `load`, at the sizes of `.ci/run`: many sessions, many steps, many disconnects.
"""

import json
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until

_HANDSHAKE = b"""GET /ws HTTP/1.1\r
Host: 127.0.0.1\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r
Sec-WebSocket-Version: 13\r
\r
"""
_OURS = ("--ws", "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol")
_CAPACITY = {"MAX_CONCURRENT_ENVS": "1"}
_SOON_S = 60.0


def _frame(text: str) -> bytes:
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload
    return bytes((0x81, 0xFF)) + len(payload).to_bytes(8, "big") + bytes(4) + payload


_STEP = _frame('{"type":"step","data":{"text":"Hi"}}')


def _open(port: int, receive_buffer: int = 0) -> socket.socket:
    """A session, as a bare socket."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(_SOON_S)
    connection.connect(("127.0.0.1", port))
    connection.sendall(_HANDSHAKE)
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += connection.recv(1)
    assert b" 101 " in received
    return connection


def _reset(connection: socket.socket) -> None:
    """Disconnect with a TCP reset instead of a close frame."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _takes_a_session(port: int) -> bool:
    with _open(port) as connection:
        try:
            connection.sendall(_STEP)
            return b'"observation"' in connection.recv(4096)
        except ConnectionError:  # refused before it could ask
            return False


def _wait_for_the_slot(port: int) -> None:
    deadline = time.monotonic() + _SOON_S
    while not _takes_a_session(port):
        assert time.monotonic() < deadline, "the slot did not become free"
        time.sleep(0.02)


@pytest.fixture(scope="module", params=["ours", "uvicorn's"])
def with_one_slot(request: pytest.FixtureRequest, start_shared_server: Callable[..., Any]) -> Any:
    """Room for one session, and pings twice a second; with our protocol and with uvicorn's own."""
    pings = ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "0.5")
    options = (*_OURS, *pings) if request.param == "ours" else pings
    return start_shared_server(*options, application="notes_env.app:app", env=_CAPACITY)


@pytest.mark.parametrize(
    "sent",
    [b"", _STEP[:1], _STEP[:4], _STEP[:-1], _STEP, _STEP * 100, b"\x01" + _STEP[1:], b"\x89\x80"],
    ids=["nothing", "a byte", "a head", "most", "a step", "many steps", "a fragment", "a ping"],
)
@pytest.mark.parametrize("leave", [socket.socket.close, _reset], ids=["closing", "resetting"])
def test_breaking_off_anywhere_frees_the_slot(
    with_one_slot: Any, leave: Callable[[socket.socket], None], sent: bytes
) -> None:
    _wait_for_the_slot(with_one_slot.port)
    connection = _open(with_one_slot.port)
    connection.sendall(sent)
    leave(connection)
    _wait_for_the_slot(with_one_slot.port)
    assert "Traceback" not in with_one_slot.log


def test_a_peer_that_answers_no_ping_loses_its_slot(with_one_slot: Any) -> None:
    _wait_for_the_slot(with_one_slot.port)
    half_open = _open(with_one_slot.port)
    half_open.sendall(_STEP)  # from here on it answers nothing
    _wait_for_the_slot(with_one_slot.port)
    half_open.close()


def test_a_client_that_never_reads_delays_no_other_session(
    start_server: Callable[..., Any],
) -> None:
    server = start_server(*_OURS, application="notes_env.app:app")
    deaf = _open(server.port, receive_buffer=4096)
    deaf.settimeout(0.2)
    large = _frame(json.dumps({"type": "step", "data": {"text": "x" * 500_000}}))
    with pytest.raises(TimeoutError):  # the server stops reading what it cannot answer
        deaf.sendall(large * 200)
    assert _takes_a_session(server.port)
    assert _resident_kb(server) < 400_000
    _reset(deaf)
    assert _takes_a_session(server.port)


@pytest.mark.slow
def test_the_largest_frames_take_little_memory_for_any_content(
    start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    server = start_server()
    conversation = connect(server.ws_url)
    size = 16_777_000
    for message in ("x" * size, "[" * size, "\\[" * (size // 3), '"[' * (size // 3)):
        assert conversation.step(text=message)["data"]["observation"]["text"] == message
    assert _resident_kb(server, "VmHWM") < 400_000  # the most there ever was


def _resident_kb(server: Any, which: str = "VmRSS") -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition(f"{which}:")[2].split()[0])


def _descriptors(server: Any) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def loaded(start_shared_server: Callable[..., Any]) -> Any:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    return start_shared_server(env={"MAX_CONCURRENT_ENVS": "2000", "LOG_LEVEL": "warning"})


@pytest.fixture
def drive(root: Path, loaded: Any) -> Iterator[Callable[..., Any]]:
    """Runs the load generator of `benchmarks/` to its end; returns its figures."""

    def run(sessions: int, steps: int) -> Any:
        counts = f"{loaded.url}/sessions"  # those of clients that have left may still be ending
        wait_until(lambda: not requests.get(counts, timeout=60).json()["active_sessions"])
        command = [sys.executable, root / "benchmarks" / "load.py", "--port", loaded.port]
        command += ["--pid", loaded.process.pid, "--sessions", sessions, "--steps", steps]
        command += ["--action", '{"text":"Hello, World!"}']
        return json.loads(subprocess.check_output([*map(str, command)], timeout=300))

    return run


@pytest.mark.load
def test_two_thousand_sessions_lose_no_step(drive: Callable[..., Any]) -> None:
    figures = drive(sessions=2000, steps=10_000)
    assert (figures["sessions"], figures["refused"], figures["lost"]) == (2000, 0, 0)
    assert figures["threads"] == 0
    assert figures["rss_kb"] <= 32


@pytest.mark.load
def test_a_soak_of_a_hundred_thousand_steps_leaves_memory_flat(drive: Callable[..., Any]) -> None:
    drive(sessions=32, steps=10_000)
    figures = drive(sessions=32, steps=100_000)
    assert (figures["refused"], figures["lost"]) == (0, 0)
    assert figures["rss_growth_kb"] <= 2048


@pytest.mark.load
def test_capacity_is_exact_at_the_edge(drive: Callable[..., Any]) -> None:
    figures = drive(sessions=2100, steps=4000)
    assert (figures["sessions"], figures["refused"], figures["lost"]) == (2000, 100, 0)
    assert drive(sessions=2000, steps=2000)["refused"] == 0


@pytest.mark.load
def test_two_thousand_abrupt_disconnects_leave_nothing_behind(
    drive: Callable[..., Any], loaded: Any
) -> None:
    def disconnect(times: int) -> None:
        for number in range(times):
            connection = _open(loaded.port)
            connection.sendall(_STEP[: number % len(_STEP)] if number % 3 else _STEP * 3)
            _reset(connection)

    disconnect(200)
    drive(sessions=2000, steps=2000)
    resident, descriptors = _resident_kb(loaded), _descriptors(loaded)
    disconnect(2000)
    assert drive(sessions=2000, steps=2000)["refused"] == 0
    assert _resident_kb(loaded) - resident <= 8 * 1024
    deadline = time.monotonic() + _SOON_S
    while _descriptors(loaded) > descriptors and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _descriptors(loaded) <= descriptors
    assert "Traceback" not in loaded.log
