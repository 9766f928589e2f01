# SPDX-License-Identifier: BSD-3-Clause
"""`docs/client.md`: its blocks and its tables of options; errors are in `test_client_errors.py`."""

import ast
import asyncio
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from document import ADDRESS, Document
from echo_env import EchoEnv, EchoEnvPool
from stepwire.client.launch import DockerContainer
from stepwire.testing.servers import PATIENCE_S

page = Document("docs/client.md")
_RUNNING_LOOP = page.blocks["Asynchronous use, 2"]


@pytest.fixture(autouse=True)
def _servers_may_answer_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool passes over a server that does not tell its places in time, here a busy one."""
    monkeypatch.setattr("stepwire.client.servers._LOOK_TIMEOUT_S", PATIENCE_S)


def _documented_options(heading: str) -> dict[str, str]:
    return {option.strip("`"): default for option, default, _ in page.table(heading)}


def _require_defaults(documented: dict[str, str], defaults: dict[str, Any]) -> None:
    assert set(documented) == set(defaults)
    for name, default in defaults.items():
        is_number = isinstance(default, int | float)
        assert documented[name].startswith("`") == is_number, name
        assert not is_number or documented[name] == f"`{default:g}`"


def test_client_options_are_the_parameters_of_the_client() -> None:
    parameters = inspect.signature(EchoEnv.__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    for name in ("self", "base_url", "provider", "mode"):  # the last two are the framework's
        del defaults[name]
    _require_defaults(_documented_options("Connecting"), defaults)


def test_start_options_are_the_parameters_of_a_start() -> None:
    start = inspect.signature(DockerContainer.start_container).parameters
    defaults = {name: parameter.default for name, parameter in start.items()}
    del defaults["self"], defaults["image"]
    wait = inspect.signature(DockerContainer.wait_for_ready).parameters
    defaults["wait_timeout"] = wait["timeout_s"].default
    _require_defaults(_documented_options("Starting a server"), defaults)
    assert "`from_local` takes `port`, `env_vars` and `wait_timeout`" in page.text
    local = set(inspect.signature(EchoEnv.from_local).parameters)
    assert local == {"port", "env_vars", "wait_timeout", "client_options"}


@pytest.mark.engine
@page.tests("Starting a server, 2")
def test_an_episode_in_a_container(documented_image: str, run_python: Callable[..., str]) -> None:
    block = page.blocks["Starting a server, 2"]
    assert documented_image in block.code
    block.require_printed(run_python(block.code))


@pytest.mark.parametrize("start", [f'EchoEnv(base_url="{ADDRESS}")', "EchoEnv.from_local()"])
def test_the_same_episode_without_a_container(start: str, run_python: Callable[..., str]) -> None:
    block = page.blocks["Starting a server, 2"]
    container = 'EchoEnv.from_docker_image("echo-env:latest")'
    assert container in block.code
    block.require_printed(run_python(block.code.replace(container, start)))


@pytest.mark.engine(alone=True)
@page.tests("Starting a server, 3")
def test_the_container_of_a_killed_client_is_removed(
    documented_image: str, run_shell: Callable[..., str]
) -> None:
    code = f"""
import os, signal
from echo_env import EchoEnv, EchoEnvPool
env = EchoEnv.from_docker_image({documented_image!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = "docker ps -aq --filter label=openenv.client"
    assert run_shell(left)
    run_shell(page.code("Starting a server, 3"))
    assert not run_shell(left)


@page.tests("Asynchronous use, 2")
def test_a_running_loop_may_read_or_await(capsys: pytest.CaptureFixture[str]) -> None:
    cell = compile(_RUNNING_LOOP.code, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def execute() -> None:
        await eval(cell, {})

    asyncio.run(execute())
    _RUNNING_LOOP.require_printed(capsys.readouterr().out)


@pytest.mark.slow
def test_the_same_pasted_into_pythons_asyncio_prompt() -> None:
    assert "`uv run python -m asyncio`" in page.text
    done = subprocess.run(
        [sys.executable, "-m", "asyncio"],
        input=_RUNNING_LOOP.code,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"TERM": "dumb", "PYTHON_BASIC_REPL": "1"},
    )
    assert done.stdout.replace(">>> ", "").splitlines() == _RUNNING_LOOP.prints.splitlines()


@pytest.mark.notebook
def test_the_same_in_a_jupyter_kernel() -> None:
    from nbclient import execute
    from nbformat.v4 import new_code_cell, new_notebook

    # Output that comes in two pieces is one.
    cells = [new_code_cell(_RUNNING_LOOP.code)]
    limits = {"timeout": 240, "iopub_timeout": 240, "startup_timeout": 240}
    notebook = execute(new_notebook(cells=cells), coalesce_streams=True, **limits)
    (output,) = notebook.cells[0].outputs
    _RUNNING_LOOP.require_printed(output.text)


def test_sync_of_the_framework_works_too(run_python: Callable[..., str]) -> None:
    assert "`EchoEnv(base_url=…).sync()`" in page.text
    block = page.blocks["Connecting, 2"]
    code = block.code.replace(f'"{ADDRESS}")', f'"{ADDRESS}").sync()')
    assert ".sync() as env" in code
    block.require_printed(run_python(code))


def test_pool_options_are_the_parameters_of_a_pool() -> None:
    parameters = inspect.signature(EchoEnvPool.__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    for name in ("self", "base_url", "num_envs", "client_options"):
        del defaults[name]
    _require_defaults(_documented_options("Several servers"), defaults)


test_blocks = page.test_the_other_blocks(slow=["Several servers, 1"])
