# SPDX-License-Identifier: BSD-3-Clause
"""Log lines: their form, the session they are about, and what needs no traceback."""

import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

_FAILING = """
import logging
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app

class Failing(NotesEnvironment):
    BLOCKING = True  # so that steps are taken in threads

    def step(self, action, **kwargs):
        logging.getLogger("stepwire.server").warning("about to fail")
        raise KeyError("a reason")

app = create_app(Failing, NoteAction, NoteObservation)
"""


@pytest.fixture(params=["server", "uvicorn"])
def start_failing(
    request: pytest.FixtureRequest, start_server: Callable[..., Any], tmp_path: Path
) -> Callable[..., Any]:
    """Serves an environment whose steps fail, with `serve` and with plain uvicorn."""
    application = tmp_path / "failing_app.py"
    application.write_text(_FAILING)
    code = "from stepwire.server import serve; serve('failing_app:app')"
    command = [sys.executable, "-c", code, "--port", "{port}", "--log-level", "info"]

    def start(**env: str) -> Any:
        if request.param == "uvicorn":
            return start_server(application=application, env=env)
        return start_server(command=command, cwd=tmp_path, env=env)

    return start


def _fail(server: Any, connect: Any) -> None:
    session = connect(server.ws_url)
    session.ask({"type": "reset", "data": {"episode_id": "mine"}})
    assert session.step(text="Hi")["data"]["code"] == "EXECUTION_ERROR"


def test_a_line_of_json_has_the_session_it_is_about(
    start_failing: Callable[..., Any], connect: Any
) -> None:
    server = start_failing(LOG_FORMAT="json")
    _fail(server, connect)
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (asked,) = [line for line in lines if line["logger"] == "uvicorn.access"][:1]
    assert (asked["method"], asked["path"], asked["status"]) == ("GET", "/health", 200)
    warned, failed = [line for line in lines if line.get("episode_id") == "mine"]
    assert (warned["level"], warned["message"]) == ("warning", "about to fail")
    assert (failed["level"], failed["logger"]) == ("error", "stepwire.server")
    assert failed["message"].startswith("Environment failed (id ")
    assert "KeyError: 'a reason'" in failed["exception"]
    assert warned["session_id"] == failed["session_id"]


def test_a_line_of_text_has_the_session_it_is_about(
    start_failing: Callable[..., Any], connect: Any
) -> None:
    server = start_failing()
    _fail(server, connect)
    named = r'^INFO: +A client has a session \{"session_id": "[^"]+"\}$'
    assert re.search(named, server.log, re.MULTILINE)
    assert "connection open" not in server.log
    (line,) = [line for line in server.log.splitlines() if "about to fail" in line]
    level, _, rest = line.partition(":")
    assert level == "WARNING"
    text, _, fields = rest.strip().partition(" {")
    assert text == "about to fail"
    assert set(json.loads("{" + fields)) == {"session_id", "episode_id"}
    assert "KeyError: 'a reason'" in server.log


def test_a_client_that_leaves_before_its_reply_is_logged_with_its_session(
    start_server: Callable[..., Any], connect: Any
) -> None:
    server = start_server("--log-level", "debug", env={"LOG_FORMAT": "json"})

    def leave_before(reply_s: float) -> None:
        """Wait for the log line; on a busy machine the reply may have come first."""
        session = connect(server.ws_url)
        scenario = {"delay_s": reply_s}
        session.ask({"type": "reset", "data": {"episode_id": "mine", "scenario": scenario}})
        ends = re.compile("before its reply|The client closed the connection")
        before = len(ends.findall(server.log))
        session.send({"type": "step", "data": {"text": "Hi"}})
        session.connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: len(ends.findall(server.log)) > before)

    for reply_s in (0.5, 5, 50):
        leave_before(reply_s)
        if "before its reply" in server.log:
            break
    lines = [json.loads(line) for line in server.log.splitlines()]
    (gone,) = [line for line in lines if "before its reply" in line["message"]]
    assert (gone["level"], gone["episode_id"]) == ("debug", "mine")


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("application", [None, "notes_env.app:app"])
def test_a_client_that_closes_first_is_logged_at_debug_level(
    start_server: Callable[..., Any], connect: Any, level: str, application: Any
) -> None:
    server = start_server("--log-level", level, application=application)
    connect(server.ws_url).connection.close()
    vanishing = connect(server.ws_url)
    for _ in range(20):
        vanishing.send({"type": "step", "data": {"text": "x" * 10_000}})
    vanishing.connection.socket.shutdown(socket.SHUT_RDWR)
    with socket.create_connection(("127.0.0.1", server.port), 60) as client:
        client.sendall(b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
    counts = f"{server.url}/sessions"
    wait_until(lambda: not requests.get(counts, timeout=60).json()["active_sessions"])
    closed = "The client closed the connection"
    assert (closed in server.log) == (level == "debug")
    server.process.terminate()
    server.process.wait(60)
    assert "Traceback" not in server.log
    assert "failed" not in server.log


def test_what_clients_do_wrong_is_no_error_in_the_log(
    start_server: Callable[..., Any], connect: Any
) -> None:
    server = start_server(env={"API_TOKEN": "correct-horse-battery"})
    own = {"Authorization": "Bearer correct-horse-battery"}
    for path, headers in (("/ws", {}), ("/nothing", own), ("/ws", {**own, "Host": "evil.example"})):
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers)
    session = connect(server.ws_url, additional_headers=own)
    for fin in (False, True):
        opcode = Opcode.CONT if fin else Opcode.TEXT
        session.connection.socket.sendall(Frame(opcode, b"\xff", fin=fin).serialize(mask=True))
    with pytest.raises(ConnectionClosed) as closed:
        session.connection.recv(timeout=60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007
    session = connect(server.ws_url, additional_headers=own)
    session.connection.socket.sendall(Frame(Opcode.TEXT, b"\xff").serialize(mask=True))
    with pytest.raises(ConnectionClosed):
        session.connection.recv(timeout=60)
    for sent in (b"garbage\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), 60) as client:
            client.sendall(sent)
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert (
        requests.post(f"{server.url}/step", data=b"\xff", headers=own, timeout=60).status_code
        == 422
    )
    for word in ("ERROR", "WARNING", "Traceback"):
        assert word not in server.log
