# SPDX-License-Identifier: BSD-3-Clause
"""The `server` command: its options and variables, and the values it refuses."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest
import requests
from waiting import wait_until

from stepwire.server import serve
from stepwire.server.settings import PREFIX, Settings

_MODULE = ["-m", "notes_env.app"]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ):
        if name.removeprefix(PREFIX).lower() in Settings.model_fields:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _unchanged_signal_handlers() -> Iterator[None]:
    """`serve` takes over the signals of its process, also where it then refuses a value."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The single line on stderr with which the command ends."""
    with pytest.raises(SystemExit) as stopped:
        serve("not.imported:app", arguments)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert re.fullmatch(r"server: error: [^\n]+\n", err)
    return err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "many"], ["--port", "'many'"]),
        (["--port", "65536"], ["PORT (--port)", "65535", "not 65536"]),
        (["--port", "-1"], ["PORT (--port)", "not -1"]),
        (["--workers", "0"], ["WORKERS (--workers)", "not 0"]),
        (["--workers", "few"], ["--workers", "'few'"]),
        (["--host", ""], ["HOST (--host)"]),
        (["--host", "no.such.host.invalid"], ["no.such.host.invalid", "--host"]),
        (["--log-level", "loud"], ["--log-level", "'loud'", "warning"]),
        (["--reload", "--workers", "2"], ["--reload", "--workers"]),
        (["--volume", "11"], ["--volume"]),
        (["--port"], ["--port"]),
        (["extra"], ["extra"]),
    ],
    ids=" ".join,
)
def test_a_bad_option_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    line = _refused(capsys, *arguments)
    assert all(part in line for part in named)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("PORT", "many", "PORT (--port)"),
        ("STEPWIRE_PORT", "many", "STEPWIRE_PORT (--port)"),
        ("WORKERS", "0", "WORKERS (--workers)"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL (--log-level)"),
        ("MAX_CONCURRENT_ENVS", "0", "MAX_CONCURRENT_ENVS: "),
        ("MAX_JSON_DEPTH", "7", "MAX_JSON_DEPTH: "),
    ],
)
def test_a_bad_variable_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    named: str,
) -> None:
    monkeypatch.setenv(name, value)
    line = _refused(capsys)
    assert named in line
    assert f"not '{value}'" in line


def test_a_secret_is_not_shown_where_it_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "too short")
    line = _refused(capsys)
    assert "SECRET_KEY: Value should have at least 16 characters" in line
    assert "too short" not in line


def test_several_bad_values_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_ENVS", "0")
    line = _refused(capsys, "--port", "70000")
    assert "PORT (--port)" in line
    assert "MAX_CONCURRENT_ENVS" in line


def test_a_port_in_use_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], taken_port: int
) -> None:
    line = _refused(capsys, "--port", str(taken_port))
    assert f"cannot listen on 127.0.0.1 port {taken_port}: " in line
    assert "choose another with --host or --port" in line


def _told(capsys: pytest.CaptureFixture[str], option: str, application: str) -> str:
    """What an option prints that ends the command."""
    with pytest.raises(SystemExit) as stopped:
        serve(application, [option])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "60", "100", "200"])
def test_the_help_describes_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = _told(capsys, "--help", "notes_env.app:app")
    text = " ".join(lines.split())
    for name, field in Settings.model_fields.items():
        assert name.upper() in text
        assert str(field.description) in text
    assert "Port to listen on; 0 picks a free one [PORT; 8000]" in text
    assert "MAX_JSON_DEPTH Levels of nesting in one JSON message [100]" in text
    assert "ALLOWED_HOSTS Other host names to answer to; comma-separated, such as" in text
    assert "--reload" in text
    variables = lines[lines.index("environment variables:") :].splitlines()
    assert max(map(len, variables)) <= max(int(columns), 60)


def test_the_version_is_that_of_the_applications_distribution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = metadata.version("openenv-echo-env")
    assert _told(capsys, "--version", "echo_env.server.app:app") == f"openenv-echo-env {version}\n"


def test_a_checkout_has_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    said = _told(capsys, "--version", "notes_env.app:app")
    assert said == "notes_env (checkout, not installed)\n"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        pytest.param([*_MODULE, "--port", "{taken}"], {}, id="port in use"),
        pytest.param(_MODULE, {"PORT": "many"}, id="bad variable"),
        pytest.param(
            ["-m", "uvicorn", "notes_env.app:app"], {"STEPWIRE_WORKERS": "0"}, id="under uvicorn"
        ),
    ],
)
def test_the_process_ends_with_one_line_and_exit_code_2(
    run: Callable[..., Any], taken_port: int, arguments: list[str], env: dict[str, str]
) -> None:
    done = run(*(part.format(taken=taken_port) for part in arguments), env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"server: error: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("start", ["module", "uvicorn"])
def test_options_and_variables_are_honoured_however_the_server_is_started(
    start_server: Callable[..., Any], connect: Callable[..., Any], start: str
) -> None:
    command = {
        "module": [sys.executable, *_MODULE],
        "uvicorn": [sys.executable, "-m", "uvicorn", "notes_env.app:app"],
    }[start]
    options = ["--host", "0.0.0.0", "--port", "{port}", "--log-level", "debug"]
    variables = {"MAX_CONCURRENT_ENVS": "2", "ENABLE_WEB_INTERFACE": "false"}
    if start != "uvicorn":  # which reads the application's variables only
        variables |= {"HOST": "127.0.0.2", "PORT": "1", "LOG_LEVEL": "critical"}  # the options win
    server = start_server(command=[*command, *options], env=variables)
    assert f"Uvicorn running on http://0.0.0.0:{server.port}" in server.log
    assert f"Pages: http://127.0.0.1:{server.port}/docs (documentation)\n" in server.log
    sessions = [connect(server.ws_url) for _ in range(2)]
    assert [session.step(text="Hi")["type"] for session in sessions] == ["observation"] * 2
    assert connect(server.ws_url).receive()["data"]["max_sessions"] == 2
    assert requests.get(server.url + "/web", timeout=60).status_code == 404


def test_a_bad_value_of_a_short_name_is_a_warning_under_plain_uvicorn(
    start_server: Callable[..., Any],
) -> None:
    server = start_server(
        application="notes_env.app:app", env={"WORKERS": "auto", "API_TOKEN": "short"}
    )
    for named in ("WORKERS (--workers)", "API_TOKEN: "):
        assert len(re.findall(rf"WARNING: +{re.escape(named)}", server.log)) == 1
    # It may have been meant for us, so the server is not open.
    for token in ("short", "", "x"):
        answer = requests.get(
            f"{server.url}/state", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        assert answer.status_code == 401


def test_variables_are_enough(start_server: Callable[..., Any]) -> None:
    server = start_server(
        command=["env", "PORT={port}", sys.executable, *_MODULE],
        env={"HOST": "0.0.0.0", "LOG_LEVEL": "info"},
    )
    assert f"Uvicorn running on http://0.0.0.0:{server.port}" in server.log


def test_several_workers_share_the_port(
    start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    server = start_server("--workers", "2", "--log-level", "info")
    pages = f"Pages: {server.url}/web (web interface) {server.url}/docs (documentation)\n"
    assert server.log.count(pages) == 1
    assert connect(server.ws_url).step(text="Hi")["data"]["metadata"]["step"] == 1
    assert f"Started parent process [{server.process.pid}]" in server.log


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_dies_during_a_health_check_does_not_delay_the_stop(
    start_server: Callable[..., Any],
) -> None:
    server = start_server("--workers", "2")

    def started() -> list[int]:
        return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log)]

    wait_until(lambda: len(started()) == 2)
    for worker in started():
        os.kill(worker, signal.SIGSTOP)
    time.sleep(1.5)  # uvicorn asks twice a second, and now waits for an answer
    for worker in started():
        os.kill(worker, signal.SIGKILL)
    server.process.terminate()
    assert server.process.wait(50) == 0  # not only after `timeout_worker_healthcheck`


def test_uvicorns_own_websocket_protocol_can_be_chosen(
    start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    conversation = connect(start_server(env={"WEBSOCKET_PROTOCOL": "uvicorn"}).ws_url)
    conversation.ask({"type": "reset", "data": {"scenario": {"fault": {"kind": "abort"}}}})
    # This fault needs the transport, which only our own protocol hands on.
    assert conversation.step(text="Hi")["data"]["errors"][0]["type"] == "connection_fault"
    assert conversation.step(text="Hi")["data"]["observation"]["text"] == "Hi"
