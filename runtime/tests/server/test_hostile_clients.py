# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients beside well-behaved sessions, none of which loses a step."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import MSG_DONTWAIT
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

import attacks

_HERE = Path(__file__).parent
_SESSIONS = 200
_MOST_MB = 256  # what `docs/operating.md` gives the container
# With scenarios that pad replies, which clients then read in part.
_PADDED = ["unread_padding_that_almost_fits", "slow_padding"]
_PATIENCE_S = 60
_PROTOCOLS = {
    "fast": "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol",
    "uvicorn": "stepwire.server.uvicorn_host.websocket_limits:BoundedWebSocketProtocol",
}


async def _behave_well(session: ClientConnection, stop: asyncio.Event) -> int:
    steps = 0
    while not stop.is_set():
        text = f"step {steps}"
        await session.send(f'{{"type":"step","data":{{"message":"{text}"}}}}')
        reply = await asyncio.wait_for(session.recv(), _PATIENCE_S)
        assert f'"message":"{text}"' in str(reply)
        steps += 1
        await asyncio.sleep(0.5)
    return steps


async def _watch_health(port: int, stop: asyncio.Event) -> float:
    """Seconds of the slowest answer."""
    slowest = 0.0
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        began = loop.time()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), _PATIENCE_S)
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()
        slowest = max(slowest, loop.time() - began)
        await asyncio.sleep(0.1)
    return slowest


async def _run(port: int, names: list[str]) -> float:
    url = f"ws://127.0.0.1:{port}/ws"
    # The client's own pings would give up sooner than this test does.
    options: dict[str, Any] = {"open_timeout": _PATIENCE_S, "ping_interval": None}
    sessions = [await connect(url, **options) for _ in range(_SESSIONS)]
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_behave_well(session, stop)) for session in sessions]
    health = asyncio.create_task(_watch_health(port, stop))
    try:
        for name in names:
            command = (sys.executable, attacks.__file__, str(port), name)
            attack = await asyncio.create_subprocess_exec(*command)
            assert await attack.wait() == 0
    finally:
        stop.set()
        done = await asyncio.gather(*tasks)
    assert all(steps > 1 for steps in done)
    for session in sessions:
        await session.close()
    return await health


def _peak_mb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) // 1024


@pytest.mark.load
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("names", "most_mb"),
    [
        ([name for name in attacks.ATTACKS if name not in _PADDED], _MOST_MB),
        (_PADDED, 2 * _MOST_MB),  # `docs/operating.md` has the container without scenarios
    ],
    ids=["all", "padded"],
)
def test_hostile_clients_cost_well_behaved_sessions_no_step_and_little_memory(
    start_server: Callable[..., Any],
    record_property: Callable[[str, object], None],
    names: list[str],
    most_mb: int,
) -> None:
    server = start_server("--ws", _PROTOCOLS["fast"], application=_HERE / "served_echo.py")
    slowest = asyncio.run(_run(server.port, names))
    record_property("slowest_health_s", slowest)
    print(f"the slowest answer of /health took {slowest:.2f} s")
    assert _peak_mb(server.process.pid) <= most_mb
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_a_flood_of_frames_leaves_others_their_turns(
    protocol: str, start_server: Callable[..., Any]
) -> None:
    """A step of another session is answered while a megabyte of frames waits."""
    server = start_server("--ws", _PROTOCOLS[protocol], application=_HERE / "served_echo.py")
    flood = attacks.frame(b"", 10) * 100_000
    with server.connect() as hostile, server.connect() as other:
        for _ in range(5):
            with suppress(BlockingIOError):
                hostile.connection.socket.send(flood, MSG_DONTWAIT)
            reply = other.ask({"type": "step", "data": {"message": "x"}})
            assert reply["type"] == "observation"
