# SPDX-License-Identifier: BSD-3-Clause
"""Echo's `server` command, and plain uvicorn in the repository's root: options and variables."""

import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

_UVICORN = [sys.executable, "-m", "uvicorn", "server.app:app"]


def _script() -> str:
    path = Path(sys.executable).parent / "server"
    assert path.exists(), f"`server` is not installed beside {sys.executable}"
    return str(path)


@pytest.mark.parametrize("start", ["server", "uvicorn"])
def test_options_and_variables_are_honoured(
    start_server: Callable[..., Any], connect: Callable[..., Any], root: Path, start: str
) -> None:
    options = ["--host", "0.0.0.0", "--port", "{port}", "--log-level", "debug"]
    variables = {"MAX_CONCURRENT_ENVS": "2", "ENABLE_WEB_INTERFACE": "false"}
    command = _UVICORN
    if start == "server":
        command = [_script()]
        variables |= {"HOST": "127.0.0.2", "PORT": "1", "LOG_LEVEL": "critical"}  # the options win
    server = start_server(command=[*command, *options], env=variables, cwd=root)
    assert f"Uvicorn running on http://0.0.0.0:{server.port}" in server.log
    sessions = [connect(server.ws_url) for _ in range(2)]
    assert [session.step(message="Hi")["type"] for session in sessions] == ["observation"] * 2
    assert connect(server.ws_url).receive()["data"]["max_sessions"] == 2
    assert requests.get(server.url + "/web", timeout=60).status_code == 404


def test_a_bad_variable_ends_plain_uvicorn_with_one_line(
    run: Callable[..., Any], root: Path
) -> None:
    done = run(*_UVICORN[1:], cwd=root, env={"STEPWIRE_WORKERS": "0"})
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"server: error: STEPWIRE_WORKERS [^\n]+\n", done.stderr)


def test_the_command_knows_its_distribution(run: Callable[..., Any]) -> None:
    done = run("-m", "echo_env.server.app", "--version")
    assert done.stdout == f"openenv-echo-env {metadata.version('openenv-echo-env')}\n"
