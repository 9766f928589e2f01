# SPDX-License-Identifier: BSD-3-Clause
"""A clone that is not installed, in a folder of any name, serves and imports all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_interpreter_of_these_tests_has_no_echo_env(
    python_without_echo_env: Path, run: Callable[..., Any]
) -> None:
    done = run("-c", "import echo_env", python=python_without_echo_env)
    assert "ModuleNotFoundError: No module named 'echo_env'" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "uvicorn", "server.app:app", "--port", "{port}"],
        ["server/app.py", "--port", "{port}"],
    ],
    ids=["uvicorn", "as a script"],
)
def test_a_clone_serves(
    checkout: Path,
    python_without_echo_env: Path,
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    command: list[str],
) -> None:
    server = start_server(command=[str(python_without_echo_env), *command], cwd=checkout)
    assert connect(server.ws_url).step(message="Hi")["data"]["reward"] == 0.2


@pytest.mark.parametrize("first", ["server", "server.app", "server.echo_env_environment"])
def test_importing_server_makes_the_whole_package_importable_once(
    checkout: Path, python_without_echo_env: Path, run: Callable[..., Any], first: str
) -> None:
    code = (
        f"import {first}, echo_env, echo_env.server.app, echo_env.models, sys, pathlib;"
        "assert sys.modules['echo_env'] is echo_env;"
        "assert echo_env.EchoAction is echo_env.models.EchoAction;"
        "assert pathlib.Path(echo_env.__file__).parent == pathlib.Path.cwd();"
        "print('fine')"
    )
    done = run("-c", code, python=python_without_echo_env, cwd=checkout)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_the_version_says_that_it_is_a_checkout(
    checkout: Path, python_without_echo_env: Path, run: Callable[..., Any]
) -> None:
    done = run("server/app.py", "--version", python=python_without_echo_env, cwd=checkout)
    assert done.stdout == "echo_env (checkout, not installed)\n"
