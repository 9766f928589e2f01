# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM and SIGINT: sessions end after their current step, and no step is lost."""

import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode

from stepwire.conformance.conversation import Conversation

pytestmark = pytest.mark.slow

# What each way of serving is started with, and its exit code after SIGTERM and after SIGINT.
_WAYS = {
    "server": ((), None, 0, 0),
    "workers": (("--workers", "2"), None, 0, 0),
    "uvicorn": ((), "notes_env.app:app", -signal.SIGTERM, 0),
}
_SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


def _start(start_server: Callable[..., Any], way: str, **env: str) -> Any:
    options, application, *_ = _WAYS[way]
    return start_server("--log-level", "debug", *options, env=env, application=application)


def _ready(server: Any) -> Any:
    return requests.get(f"{server.url}/ready", timeout=60)


def _wait_until_draining(server: Any) -> None:
    wait_until(lambda: _ready(server).status_code != 200)


def _slow_session(connect: Any, server: Any, delay_s: float) -> Any:
    """A session in the middle of a step."""
    session = connect(server.ws_url)
    session.ask({"type": "reset", "data": {"scenario": {"delay_s": delay_s}}})
    session.send({"type": "step", "data": {"text": "in flight"}})
    return session


@pytest.mark.parametrize("sent", _SIGNALS)
@pytest.mark.parametrize("way", _WAYS)
def test_sessions_end_after_their_current_step(
    start_server: Callable[..., Any], connect: Any, way: str, sent: str
) -> None:
    server = _start(start_server, way, SHUTDOWN_GRACE_S="60")
    idle = connect(server.ws_url)
    idle.step(text="Hi")
    assert (_ready(server).status_code, _ready(server).json()) == (200, {"status": "ready"})
    stepping = _slow_session(connect, server, 5)
    server.process.send_signal(_SIGNALS[sent])
    _expect_end(idle)
    if way != "workers":  # another worker, which has already stopped, could answer
        _wait_until_draining(server)
        assert _ready(server).json() == {"status": "draining"}
        assert requests.get(f"{server.url}/health", timeout=60).status_code == 200
        with pytest.raises(InvalidStatus) as refused:
            connect(server.ws_url)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body) == {"detail": "The server is stopping"}
    assert stepping.receive()["data"]["observation"]["text"] == "in flight"
    _expect_end(stepping)
    exit_code = _WAYS[way][2 if sent == "SIGTERM" else 3]
    assert server.process.wait(60) == exit_code
    assert "Traceback" not in server.log


def _expect_end(session: Any) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        session.connection.recv(timeout=60)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "The server is stopping")


@pytest.mark.parametrize("way", _WAYS)
def test_a_step_longer_than_the_grace_period_is_abandoned(
    start_server: Callable[..., Any], connect: Any, way: str
) -> None:
    server = _start(start_server, way, SHUTDOWN_GRACE_S="1")
    session = _slow_session(connect, server, 60)
    server.process.terminate()
    _expect_end(session)
    assert server.process.wait(60) == _WAYS[way][2]
    assert "Giving up 1 sessions and requests" in server.log
    assert "Traceback" not in server.log


_NEVER_RETURNING = """
import threading
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State

class Stuck(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, **kwargs):
        return NoteObservation()

    def step(self, action, **kwargs):
        if action.text == "stuck":
            print("stuck", flush=True)
            threading.Event().wait()
        return NoteObservation(text=action.text)

    @property
    def state(self):
        return State()

    def close(self):
        print("closed", flush=True)

app = create_app(Stuck, NoteAction, NoteObservation)
"""


@pytest.mark.parametrize("sent", _SIGNALS)
def test_a_thread_that_never_returns_does_not_keep_the_process_alive(
    start_server: Callable[..., Any], connect: Any, tmp_path: Path, sent: str
) -> None:
    application = tmp_path / "stuck_app.py"
    application.write_text(_NEVER_RETURNING)
    server = start_server(application=application, env={"SHUTDOWN_GRACE_S": "1"})
    fine, stuck = connect(server.ws_url), connect(server.ws_url)
    fine.step(text="fine")
    stuck.send({"type": "step", "data": {"text": "stuck"}})
    answers: list[requests.Response] = []
    request = threading.Thread(
        target=lambda: answers.append(
            requests.post(f"{server.url}/step", json={"action": {"text": "stuck"}}, timeout=60)
        )
    )
    request.start()
    wait_until(lambda: server.log.count("stuck\n") == 2)
    server.process.send_signal(_SIGNALS[sent])
    _expect_end(fine)
    _expect_end(stuck)
    request.join()
    assert [answer.status_code for answer in answers] == [503]
    assert answers[0].json() == {"detail": "The server is stopping", "code": "SESSION_ERROR"}
    assert server.process.wait(60) == (-signal.SIGTERM if sent == "SIGTERM" else 0)
    assert server.log.count("closed\n") == 1  # the others may still be in their step
    assert "Traceback" not in server.log


_NEVER_RETURNING_ELSEWHERE = """
import asyncio
import threading
import anyio.to_thread
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app, serve

class Stuck(NotesEnvironment):
    async def step_async(self, action, **kwargs):
        print("stuck", flush=True)
        await WAIT(threading.Event().wait)

app = create_app(Stuck, NoteAction, NoteObservation)
if __name__ == "__main__":
    serve("stuck_app:app")
"""


@pytest.mark.parametrize("wait", ["asyncio.to_thread", "anyio.to_thread.run_sync"])
def test_a_thread_of_the_environment_does_not_keep_the_process(
    start_server: Callable[..., Any], connect: Any, tmp_path: Path, wait: str
) -> None:
    application = tmp_path / "stuck_app.py"
    application.write_text(_NEVER_RETURNING_ELSEWHERE.replace("WAIT", wait))
    # Plain uvicorn ends its process with the signal itself.
    command = [sys.executable, str(application), "--port", "{port}"]
    server = start_server(command=command, cwd=tmp_path, env={"SHUTDOWN_GRACE_S": "1"})
    stuck = connect(server.ws_url)
    stuck.send({"type": "step", "data": {"text": "stuck"}})
    wait_until(lambda: "stuck\n" in server.log)
    server.process.terminate()
    _expect_end(stuck)
    assert server.process.wait(60) == 0
    assert "still running: the process ends without it" in server.log


def test_a_request_whose_constructor_never_returns_is_answered(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    application = tmp_path / "stuck_app.py"
    application.write_text(
        _NEVER_RETURNING.replace(
            "    def reset(",
            '    def __init__(self):\n        print("stuck", flush=True)\n'
            "        threading.Event().wait()\n\n    def reset(",
        )
    )
    server = start_server(application=application, env={"SHUTDOWN_GRACE_S": "1"})
    answers: list[int] = []
    client = threading.Thread(
        target=lambda: answers.append(requests.post(f"{server.url}/reset", timeout=60).status_code)
    )
    client.start()
    wait_until(lambda: "stuck\n" in server.log)
    server.process.send_signal(signal.SIGINT)
    client.join()
    assert answers == [503]
    server.process.wait(60)
    assert "Traceback" not in server.log


_SLOW_HANDSHAKES = """
import asyncio
from pathlib import Path
from notes_env.app import app

class Slow:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            print("handshake", flush=True)
            while not Path({go_on!r}).exists():
                await asyncio.sleep(0.05)
        await self.app(scope, receive, send)

app.add_middleware(Slow)
"""


@pytest.mark.parametrize(
    "protocol",
    ["websocket_protocol:WebSocketProtocol", "websocket_limits:BoundedWebSocketProtocol"],
)
def test_a_handshake_that_is_open_at_the_end_is_answered_like_later_ones(
    start_server: Callable[..., Any], tmp_path: Path, protocol: str
) -> None:
    application, go_on = tmp_path / "slow_handshakes.py", tmp_path / "go on"
    application.write_text(_SLOW_HANDSHAKES.format(go_on=str(go_on)))
    options = ["--ws", f"stepwire.server.uvicorn_host.{protocol}"]
    server = start_server(*options, "--timeout-graceful-shutdown", "60", application=application)
    statuses: list[int] = []

    def connect() -> None:
        with pytest.raises(InvalidStatus) as refused, server.connect():
            pass
        statuses.append(refused.value.response.status_code)

    client = threading.Thread(target=connect)
    client.start()
    wait_until(lambda: "handshake\n" in server.log)
    server.process.send_signal(signal.SIGINT)
    client.join()
    assert statuses == [503], server.log
    go_on.touch()
    server.process.wait(60)
    assert "Traceback" not in server.log


_RESTING = """
import asyncio
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app

async def rest() -> str:
    print("resting", flush=True)
    await asyncio.sleep(1)
    return "rested"

class Resting(NotesEnvironment):
    TOOLS = (rest,)

app = create_app(Resting, NoteAction, NoteObservation)
"""


def test_a_session_without_a_connection_ends_after_its_current_call(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    application = tmp_path / "resting_app.py"
    application.write_text(_RESTING)
    server = start_server(application=application, env={"SHUTDOWN_GRACE_S": "600"})

    def ask(method: str, **parameters: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        return requests.post(f"{server.url}/mcp", json=request, timeout=60).json()["result"]

    session = ask("openenv/session/create")
    answers: list[Any] = []
    call = threading.Thread(
        target=lambda: answers.append(ask("tools/call", name="rest", **session))
    )
    call.start()
    wait_until(lambda: "resting\n" in server.log)
    server.process.terminate()
    call.join()
    assert answers[0]["data"] == "rested"
    assert server.process.wait(60) == -signal.SIGTERM
    assert "Giving up" not in server.log


def test_slow_replies_to_clients_that_have_gone_end_without_a_traceback(
    start_server: Callable[..., Any],
) -> None:
    server = _start(start_server, "server", SHUTDOWN_GRACE_S="1")
    fault = {"kind": "slow_drip", "delay_s": 60}
    scenario = {"observation_bytes": 4_000_000, "fault": fault}
    with ExitStack() as clients:
        for _ in range(8):
            session = clients.enter_context(Conversation.open(server.ws_url))
            session.ask({"type": "reset", "data": {"scenario": scenario}})
            session.send({"type": "step", "data": {"text": "slow"}})
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log


def test_a_second_signal_ends_the_grace_period(
    start_server: Callable[..., Any], connect: Any
) -> None:
    server = _start(start_server, "server", SHUTDOWN_GRACE_S="3600")
    session = _slow_session(connect, server, 60)
    server.process.send_signal(signal.SIGINT)
    _wait_until_draining(server)
    server.process.send_signal(signal.SIGINT)
    assert session.close_code() == 1012
    assert server.process.wait(60) == 0


_STEP = Frame(Opcode.TEXT, b'{"type": "step", "data": {"text": "Hi"}}').serialize(mask=True)
_FAREWELL = Frame(Opcode.CLOSE, Close(1012, "The server is stopping").serialize())


def _told_to_stop(server: Any, client: socket.socket) -> socket.socket:
    """A client that has read why its session ended, and has not closed yet."""
    client.sendall(_STEP)
    assert b'"observation"' in client.recv(4096)
    server.process.terminate()
    expected = _FAREWELL.serialize(mask=False)
    assert client.recv(len(expected), socket.MSG_WAITALL) == expected
    return client


@pytest.mark.parametrize("way", _WAYS)
def test_a_connection_stays_until_its_client_has_closed_it(
    start_server: Callable[..., Any], deaf_websocket: Callable[[int], socket.socket], way: str
) -> None:
    """Otherwise a client that is sending is reset and may lose answers it has not read yet."""
    server = _start(start_server, way, SHUTDOWN_GRACE_S="60")
    client = _told_to_stop(server, deaf_websocket(server.port))
    client.settimeout(1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(60)
    client.sendall(_STEP + _FAREWELL.serialize(mask=True))
    assert client.recv(1) == b""
    assert server.process.wait(60) == _WAYS[way][2]


@pytest.mark.parametrize("way", _WAYS)
def test_a_client_that_does_not_close_is_cut_off_after_the_grace_period(
    start_server: Callable[..., Any], deaf_websocket: Callable[[int], socket.socket], way: str
) -> None:
    server = _start(start_server, way, SHUTDOWN_GRACE_S="1")
    client = _told_to_stop(server, deaf_websocket(server.port))
    assert server.process.wait(60) == _WAYS[way][2]
    assert client.recv(1) == b""
    assert "Traceback" not in server.log


_INTERRUPTED = """
import signal, sys
from notes_env.app import app
from stepwire.server.uvicorn_host.lifecycle import Lifecycle

handle, lines = Lifecycle._on_signal, iter(range(100))

def trace(frame, event, argument):
    if event == "line" and frame.f_code is handle.__code__ and next(lines) == {line}:
        signal.raise_signal(signal.SIGTERM)
    return trace

def handle_traced(lifecycle, number, frame):
    sys.settrace(trace)
    handle(lifecycle, number, frame)
    sys.settrace(None)

Lifecycle._on_signal = handle_traced
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("line", range(3))
def test_a_second_signal_may_interrupt_the_handler_of_the_first_anywhere(
    start_server: Callable[..., Any], tmp_path: Path, line: int
) -> None:
    application = tmp_path / "interrupted_app.py"
    application.write_text(_INTERRUPTED.format(line=line))
    server = start_server(application=application)
    server.process.terminate()
    server.process.wait(60)
    assert server.log.count("Stopping: ") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("way", _WAYS)
def test_no_step_is_lost_under_load(
    start_server: Callable[..., Any], connect: Any, tmp_path: Path, way: str
) -> None:
    """Clients get an answer to exactly those steps that the server took."""
    application = tmp_path / "counting_app.py"
    application.write_text(
        """
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app
from notes_env.environment import NotesEnvironment

class Counting(NotesEnvironment):
    def close(self):
        state = self.state
        # In one write, also with PYTHONUNBUFFERED: both workers write into the same file.
        print(f"closed {state.episode_id} after {state.step_count} steps\\n", end="", flush=True)

app = create_app(Counting, NoteAction, NoteObservation)
"""
    )
    if way == "uvicorn":
        server = start_server(application=application)
    else:
        code = "from stepwire.server import serve; serve('counting_app:app')"
        count = "2" if way == "workers" else "1"
        server = start_server(
            command=[sys.executable, "-c", code, "--port", "{port}", "--workers", count],
            cwd=tmp_path,
        )
    answered = dict.fromkeys((f"episode-{number}" for number in range(16)), 0)
    close_codes: list[int | None] = []
    under_way = threading.Barrier(len(answered) + 1)

    def step_until_closed(session: Any, episode_id: str) -> None:
        session.ask({"type": "reset", "data": {"episode_id": episode_id}})
        for _ in range(4):  # so that some wait to be served at any time
            session.send({"type": "step", "data": {"text": "Hi"}})
        with suppress(ConnectionClosed):
            while True:
                assert session.receive()["type"] == "observation"
                answered[episode_id] += 1
                if answered[episode_id] == 20:
                    under_way.wait(60)
                session.send({"type": "step", "data": {"text": "Hi"}})
        # What was answered before the connection was closed, but not yet read.
        try:
            while True:
                session.receive()
                answered[episode_id] += 1
        except ConnectionClosed as closed:
            close_codes.append(closed.rcvd and closed.rcvd.code)

    clients = [
        threading.Thread(target=step_until_closed, args=(connect(server.ws_url), episode_id))
        for episode_id in answered
    ]
    for client in clients:
        client.start()
    under_way.wait(60)
    server.process.terminate()
    for client in clients:
        client.join()
    server.process.wait(60)
    taken = re.findall(r"^closed (\S+) after (\d+) steps$", server.log, re.MULTILINE)
    assert {episode_id: int(steps) for episode_id, steps in taken} == answered
    assert close_codes == [1012] * len(answered)
    assert "Traceback" not in server.log
