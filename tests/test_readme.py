# SPDX-License-Identifier: BSD-3-Clause
"""The README, executed: every code block runs as printed, every table and list is compared.

`localhost:8000` is where a reader's server runs; here it is replaced by the address of the tests'.
Blocks that need a container engine carry the marker `engine`. The one stand-in is the Hugging Face
Hub, which records what `openenv push` uploads.
"""

import ast
import asyncio
import builtins
import codeop
import importlib.util
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest
import requests
import yaml

from echo_env import EchoAction, EchoEnv, errors
from stepwire.client.launch import DockerContainer
from stepwire.server.scenarios import Fault, Scenario
from stepwire.server.settings import Settings

_ROOT = Path(__file__).resolve().parent.parent
_TEXT = (_ROOT / "README.md").read_text()
_ADDRESS = "http://localhost:8000"
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Block:
    """A fenced code block, named by the heading above it and its place there."""

    name: str
    language: str
    code: str


def _blocks(text: str) -> Iterator[Block]:
    heading, place = "", 0
    for match in re.finditer(
        r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        if match[1]:
            heading, place = match[1], 0
        else:
            place += 1
            yield Block(f"{heading}, {place}", match[2], match[3])


_BLOCKS = {block.name: block for block in _blocks(_TEXT)}
_run_by_a_test: set[str] = set()


def runs(*names: str) -> Callable[[Any], Any]:
    """Says which blocks a test executes or compares; `test_every_block_has_a_runner` reads it."""
    _run_by_a_test.update(names)
    return lambda test: test


def _code(name: str) -> str:
    return _BLOCKS[name].code


def _table(heading: str) -> list[list[str]]:
    """The body of the first table after `heading`, as cells without their backticks."""
    after = _TEXT.split(f"# {heading}\n", 1)[1]
    rows = re.search(r"^\|.*?(?=\n\n)", after, re.MULTILINE | re.DOTALL)
    assert rows is not None
    lines = [line.strip("|").split("|") for line in rows[0].splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@pytest.fixture
def run_python(server: Any, run: Any) -> Callable[..., str]:
    """Runs a Python block against a server and returns what it printed; it must print no errors."""

    def run_block(code: str, url: str = server.url) -> str:
        done = run("-W", "error", "-c", code.replace(_ADDRESS, url))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return str(done.stdout)

    return run_block


@pytest.fixture(scope="session")
def clone(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to run shell blocks in, which may write to it."""
    return Path(shutil.copytree(checkout, tmp_path_factory.mktemp("shell") / "echo"))


@pytest.fixture(scope="session")
def shell_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a shell in which the environment that runs the tests is activated.

    `uv run` uses that environment as it is, instead of making another for the copy.
    """
    programs = tmp_path_factory.mktemp("bin")
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "these tests need uv: pip install uv"
    (programs / "uv").symlink_to(uv)
    if shutil.which("curl") is None:
        _write_program(programs / "curl", _CURL)
    own = {name.upper() for name in Settings.model_fields}
    variables = {name: value for name, value in os.environ.items() if name not in own}
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs), variables["PATH"]])
    return variables | {
        "PATH": path,
        "VIRTUAL_ENV": sys.prefix,
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
    }


# For machines without it: the little of curl that the README uses.
_CURL = """
import argparse, http.cookiejar, os, urllib.request
parser = argparse.ArgumentParser()
for option in ("-H", "-d", "-b", "-c"):
    parser.add_argument(option)
parser.add_argument("-s", action="store_true")
parser.add_argument("url")
arguments = parser.parse_args()
name, value = arguments.H.split(": ")
jar = http.cookiejar.MozillaCookieJar()
if arguments.b and os.path.exists(arguments.b):
    jar.load(arguments.b, ignore_discard=True)
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
request = urllib.request.Request(arguments.url, arguments.d.encode(), {name: value})
print(opener.open(request).read().decode(), end="")
if arguments.c:
    jar.save(arguments.c, ignore_discard=True)
"""


def _write_program(path: Path, code: str) -> None:
    # Read by the shell, then by Python: a `#!` line cannot name an interpreter in "my folder/".
    path.write_text(f"""#!/bin/sh\n'''exec' "{sys.executable}" "$0" "$@"\n' '''\n{code}""")
    path.chmod(0o755)


@pytest.fixture
def run_shell(clone: Path, shell_environment: dict[str, str]) -> Callable[..., str]:
    """Runs a shell block with bash in the copy and returns what it printed."""

    def run_block(code: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=clone,
            env=shell_environment | more,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_block


@pytest.fixture
def serve_with_shell(clone: Path, shell_environment: dict[str, str], tmp_path: Path) -> Any:
    """Runs a shell block that serves until it is stopped; yields a function that starts it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, port: int, **more: str) -> str:
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euc", code],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=clone,
                env=shell_environment | more,
                start_new_session=True,
            )
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                assert b"healthy" in requests.get(f"{url}/health", timeout=10).content
                return url
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.05)
        raise AssertionError(log.read_text())

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_every_block_has_a_runner() -> None:
    assert set(_BLOCKS) == _run_by_a_test


_PYTHON = [name for name, block in _BLOCKS.items() if block.language == "python"]


@pytest.mark.parametrize("name", _PYTHON)
def test_python_blocks_may_be_pasted_into_a_prompt(name: str) -> None:
    """There an empty line ends what is indented, and nothing else does; the last one is typed."""
    assert "\n\n " not in _code(name)
    complete = codeop.CommandCompiler()
    complete.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
    statement: list[str] = []
    for line in [*_code(name).splitlines(), ""]:
        statement.append(line)
        if complete("\n".join(statement), symbol="single") is not None:
            statement.clear()
    assert not statement


def test_uv_run_python_finds_the_package(run_shell: Callable[..., str]) -> None:
    assert "`uv run python`:" in _TEXT
    assert run_shell("uv run python -c 'from echo_env import EchoEnv; print(1)'") == "1\n"


# Serving and testing


@runs("Echo environment, 1")
def test_first_command_installs_uv_and_serves(
    serve_with_shell: Any, tmp_path: Path, free_port: int, shell_environment: dict[str, str]
) -> None:
    assert _code("Echo environment, 1") == "pip install uv && uv run server\n"
    # The block gets a Python of its own to install uv into, so that this one stays as it is.
    fresh = tmp_path / "fresh"
    subprocess.run(["uv", "venv", "-q", "--seed", fresh], env=shell_environment, check=True)
    path = f"{fresh / 'bin'}{os.pathsep}{shell_environment['PATH']}"
    url = serve_with_shell(_code("Echo environment, 1"), free_port, PATH=path, PORT=str(free_port))
    assert (fresh / "bin" / "uv").exists()
    assert requests.post(f"{url}/reset", timeout=10).json()["reward"] == 0.0


@runs("Echo environment, 2")
def test_test_command_is_what_ci_runs() -> None:
    """Running it here would run this test again."""
    assert _code("Echo environment, 2").strip() in (_ROOT / ".ci" / "run").read_text()


@runs("Running locally, 1")
def test_uv_run_server_takes_port_and_reload(serve_with_shell: Any, free_port: int) -> None:
    code = _code("Running locally, 1")
    assert "--port 8001 --reload" in code
    url = serve_with_shell(code.replace("8001", str(free_port)), free_port)
    assert requests.get(f"{url}/health", timeout=10).json() == {"status": "healthy"}


@runs("Running locally, 2")
def test_uvicorn_serves_the_application(serve_with_shell: Any, free_port: int) -> None:
    code = _code("Running locally, 2")
    assert "uvicorn server.app:app --reload" in code
    url = serve_with_shell(f"{code.strip()} --port {free_port}", free_port)  # another address
    assert requests.get(f"{url}/state", timeout=10).json()["step_count"] == 0


def test_settings_table_is_the_settings() -> None:
    documented = {}
    for variable, option, default, allowed, meaning in _table("Running locally"):
        documented[variable] = (option, default, allowed, meaning.split(";")[0])
    expected, options = {}, _options()
    for name, field in Settings.model_fields.items():
        bounds = {
            key: getattr(bound, key)
            for bound in field.metadata
            for key in ("ge", "le", "min_length")
            if hasattr(bound, key)
        }
        allowed = f"{bounds['ge']} to {bounds['le']}" if "ge" in bounds else ""
        if bounds.get("min_length", 1) > 1:
            allowed = f"at least {bounds['min_length']} characters"
        if get_origin(field.annotation) is Literal:
            allowed = ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
        option = f"`--{name.replace('_', '-')}`" if name in options else ""
        description = str(field.description).split(";")[0]
        default = f"`{field.default}`" if field.default not in (None, ()) else ""
        if isinstance(field.default, bool):
            default = default.lower()
        expected[f"`{name.upper()}`"] = (option, default, allowed, description)
    assert documented == expected


def _options() -> set[str]:
    command = [sys.executable, "-m", "echo_env.server.app", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {option.replace("-", "_") for option in re.findall(r"^ +--([\w-]+)", text, re.MULTILINE)}


def test_image_sets_the_host_that_the_table_says() -> None:
    assert "the image sets `0.0.0.0`" in _TEXT
    assert "HOST=0.0.0.0" in (_ROOT / "server" / "Dockerfile").read_text()


# The client


@runs("Quick start, 2")
def test_quick_start_against_a_local_server(run_python: Callable[..., str]) -> None:
    from_image = 'EchoEnv.from_docker_image("echo-env:latest")'
    local = f'EchoEnv(base_url="{_ADDRESS}")'
    code = _code("Quick start, 1")
    assert from_image in code
    assert f"`{local}` instead" in _TEXT
    assert "`EchoEnv.from_local()` start one" in _TEXT
    for instead in (local, "EchoEnv.from_local()"):
        assert run_python(code.replace(from_image, instead)) == _code("Quick start, 2")


@runs("Connecting to an existing server, 1")
def test_existing_server_block(run_python: Callable[..., str], server: Any) -> None:
    printed = run_python(_code("Connecting to an existing server, 1"))
    assert printed == "Hello! 1\ndemo 1\n"
    assert requests.get(f"{server.url}/health", timeout=10).ok  # it goes on after `close()`


@runs("Starting a server, 1")
def test_local_server_block(run_python: Callable[..., str]) -> None:
    assert run_python(_code("Starting a server, 1")) == "0.5\n"


def test_options_of_a_start_are_its_parameters() -> None:
    start = inspect.signature(DockerContainer.start_container).parameters
    wait = inspect.signature(DockerContainer.wait_for_ready).parameters
    defaults = {name: parameter.default for name, parameter in start.items()}
    del defaults["self"], defaults["image"]
    defaults["wait_timeout"] = wait["timeout_s"].default
    documented = {option.strip("`"): default for option, default, _ in _table("Starting a server")}
    assert set(documented) == set(defaults)
    for name, default in defaults.items():
        assert documented[name].startswith("`") == bool(default)
        assert not default or documented[name] == f"`{default:g}`"
    assert "`from_local` takes `port`, `env_vars` and `wait_timeout`" in _TEXT
    local = set(inspect.signature(EchoEnv.from_local).parameters)
    assert local == {"port", "env_vars", "wait_timeout", "client_options"}


@runs("Context manager, 1")
def test_context_manager_block(run_python: Callable[..., str]) -> None:
    printed = run_python(_code("Context manager, 1"))
    assert printed == "Echo environment ready!\nHello\nWorld\n!\n"


@runs("Asynchronous use, 1")
def test_asynchronous_block(run_python: Callable[..., str]) -> None:
    assert run_python(_code("Asynchronous use, 1")) == "Hello!\n"


@runs("Asynchronous use, 2")
def test_notebook_block_on_a_running_loop(capsys: pytest.CaptureFixture[str]) -> None:
    cell = compile(
        _code("Asynchronous use, 2"), "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )

    async def execute() -> None:
        await eval(cell, {})

    asyncio.run(execute())
    assert capsys.readouterr().out == "Read\nAwaited\n"


@pytest.mark.notebook
def test_notebook_block_in_a_jupyter_kernel() -> None:
    _test_module("test_consumers.py")._run_notebook(_code("Asynchronous use, 2"))


def _test_module(path: str) -> ModuleType:
    """Another module of the tests, whose tests are not run again."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, _ROOT / "tests" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sync_of_the_framework_works_too(run_python: Callable[..., str]) -> None:
    assert "`EchoEnv(base_url=…).sync()`" in _TEXT
    code = _code("Context manager, 1").replace(f'"{_ADDRESS}")', f'"{_ADDRESS}").sync()')
    assert ".sync() as env" in code
    assert run_python(code) == "Echo environment ready!\nHello\nWorld\n!\n"


@runs("Concurrent sessions, 1", "Concurrent sessions, 2")
def test_four_clients_fill_an_application_with_four_sessions(
    run_python: Callable[..., str], start_server: Any, tmp_path: Path
) -> None:
    application = tmp_path / "four_sessions.py"
    application.write_text(_code("Concurrent sessions, 1"))
    url = start_server(application=application).url
    printed = run_python(_code("Concurrent sessions, 2"), url)
    assert f"prints `{printed.strip()}`" in _TEXT


@runs("Concurrent sessions, 3")
def test_pool_block(run_python: Callable[..., str]) -> None:
    expected = "['Client 0', 'Client 1', 'Client 2', 'Client 3']\n"
    assert run_python(_code("Concurrent sessions, 3")) == expected


@runs("HTTP episodes, 1", "HTTP episodes, 2")
def test_http_episode_block(run_python: Callable[..., str]) -> None:
    assert run_python(_code("HTTP episodes, 1")) == _code("HTTP episodes, 2")


@runs("HTTP episodes, 3")
def test_http_episode_of_curl(run_shell: Callable[..., str], server: Any) -> None:
    printed = run_shell(_code("HTTP episodes, 3").replace(_ADDRESS, server.url))
    answers = re.findall(r'"echoed_message":"(\w+)".*?"step":(\d)', printed)
    assert answers == [("Hello", "1"), ("World", "2")]


@runs("Tools, 1", "Tools, 2")
def test_tools_block(run_python: Callable[..., str]) -> None:
    assert run_python(_code("Tools, 1")) == _code("Tools, 2")


@runs("Tools, 3", "Tools, 4")
def test_mcp_client_block(run_python: Callable[..., str]) -> None:
    assert run_python(_code("Tools, 3")) == _code("Tools, 4")


def test_errors_are_also_the_built_in_ones_that_the_text_names() -> None:
    section = _TEXT.split("### When something goes wrong", 1)[1].split("\n#", 1)[0]
    names = re.findall(r"`(\w+Error)`", section.split("and so on", 1)[0])
    assert names.pop(0) == "EnvClientError"
    for ours, built_in in zip(names[::2], names[1::2], strict=True):
        error = getattr(errors, ours)
        assert issubclass(error, errors.EnvClientError)
        assert issubclass(error, getattr(builtins, built_in))


# Each row of the table of errors is brought about, those of a broken line as in
# transport/test_connection.py.
_FAULTS_OF_ROW = {
    "No reply, or one that comes too late": {"silence", "late", "slow_drip"},
    "The connection is cut or closed": {"cut", "cut_in_mid_frame", "abort", "close_with_reason"},
    "A frame that is too large or broken": {"oversized", "no_websocket_frame"},
    "A reply that is no text, no JSON or of the wrong kind": {
        "not_utf8",
        "broken_json",
        "error_without_data",
        "no_object",
        "missing_field",
        "wrong_type",
    },
}
_LONG_S = 30.0  # “at once” is far below it, on whatever machine


def _what_happens(row: str) -> tuple[type[Exception], str, str]:
    """The row of the table of errors: the error, when it is noticed, what further calls do."""
    rows = {happens: cells for happens, *cells in _table("When something goes wrong")}
    error, noticed, further = rows[row]
    raised: type[Exception] = getattr(errors, error.strip("`"))
    return raised, noticed, further


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    return _test_module("transport/test_connection.py")


@pytest.fixture
def through_proxy(server: Any, faults: ModuleType) -> Any:
    """A client of the server behind a proxy that breaks the reply to "fault"."""

    @contextmanager
    def broken_line(fault: Any, message_timeout_s: float) -> Iterator[EchoEnv]:
        proxy = faults.FaultProxy(server.port, fault)
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        try:
            with EchoEnv(
                proxy.url,
                message_timeout_s=message_timeout_s,
                max_message_size_mb=faults._LIMIT_MB,
            ) as env:
                env.reset()
                yield env
        finally:
            proxy.shutdown()
            proxy.server_close()

    return broken_line


def _step(env: EchoEnv, message: str = "Hi") -> int:
    step: int = env.step(EchoAction(message=message)).observation.metadata["step"]
    return step


def test_table_of_errors_names_what_every_fault_raises(faults: ModuleType) -> None:
    raised = {fault.__name__[1:]: error for fault, error, _ in faults._FAULTS}
    documented = {
        fault: _what_happens(row)[0] for row, names in _FAULTS_OF_ROW.items() for fault in names
    }
    assert documented == raised


@pytest.mark.parametrize(
    ("row", "fault"),
    [(row, fault) for row, names in _FAULTS_OF_ROW.items() for fault in sorted(names)],
)
def test_a_fault_is_noticed_when_the_table_says(
    row: str, fault: str, faults: ModuleType, through_proxy: Any
) -> None:
    error, noticed, further = _what_happens(row)
    assert further == "are refused"
    limit = {"at once": _LONG_S, "after `message_timeout_s`": faults._TIMEOUT_S}[noticed]
    with through_proxy(getattr(faults, f"_{fault}"), limit) as env:
        started = time.monotonic()
        with pytest.raises(error):
            _step(env, "fault")
        elapsed = time.monotonic() - started
        assert elapsed < _LONG_S / 2 if noticed == "at once" else elapsed >= limit
        with pytest.raises(errors.SessionLostError):
            _step(env)
        env.reset()
        assert _step(env) == 1


def test_a_second_reply_is_noticed_when_the_table_says(
    faults: ModuleType, through_proxy: Any
) -> None:
    error, noticed, further = _what_happens("A second reply to one call")
    assert (noticed, further) == ("by the next call", "are refused")
    with through_proxy(faults._twice, _LONG_S) as env:
        assert _step(env, "fault") == 1
        with pytest.raises(error):
            _step(env)
        with pytest.raises(errors.SessionLostError):
            _step(env)


def test_no_connection_is_noticed_when_the_table_says(start_server: Any) -> None:
    error, noticed, further = _what_happens("The server cannot be reached")
    assert (noticed, further) == ("within `connect_timeout_s`", "connect again")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        env = EchoEnv(f"http://127.0.0.1:{port}", connect_timeout_s=0.2)
        with pytest.raises(error, match=r"0\.2 s"):
            env.reset()
    env = EchoEnv(f"http://127.0.0.1:{port}")
    with pytest.raises(error):
        env.reset()
    start_server(port=port)
    assert _step(env) == 1
    env.close()


def test_capacity_is_noticed_when_the_table_says(one_session_server: Any) -> None:
    error, noticed, further = _what_happens("The server is at capacity")
    assert (noticed, further) == ("at once", "connect again")
    refused = EchoEnv(one_session_server.url, message_timeout_s=_LONG_S)
    with EchoEnv(one_session_server.url) as env:
        env.reset()
        started = time.monotonic()
        with pytest.raises(error):
            refused.reset()
        assert time.monotonic() - started < _LONG_S / 2
    assert _step(refused) == 1
    refused.close()


@pytest.mark.parametrize(
    ("row", "call"),
    [
        ("The server answers with an error", lambda env: env.reset(seed="no number")),
        ("The action cannot be sent", lambda env: env.step("no action")),
    ],
)
def test_an_episode_goes_on_where_the_table_says(
    row: str, call: Callable[[EchoEnv], Any], server: Any
) -> None:
    error, noticed, further = _what_happens(row)
    assert (noticed, further) == ("at once", "go on in the episode")
    with EchoEnv(server.url) as env:
        assert _step(env) == 1
        with pytest.raises(error):
            call(env)
        assert _step(env) == 2


def test_every_row_of_the_table_of_errors_is_brought_about() -> None:
    others = {
        "The server cannot be reached",
        "The server is at capacity",
        "The server answers with an error",
        "The action cannot be sent",
        "A second reply to one call",
    }
    rows = {happens for happens, *_ in _table("When something goes wrong")}
    assert rows == others | set(_FAULTS_OF_ROW)


# The environment


@runs("Direct environment testing, 1", "Direct environment testing, 2")
def test_direct_environment_testing(run_shell: Callable[..., str]) -> None:
    printed = run_shell(_code("Direct environment testing, 1"))
    assert printed == _code("Direct environment testing, 2")


def test_rewards_are_those_of_the_table(conversation: Any) -> None:
    for message, reward in _table("Reward"):
        text = message.strip("`") if message.startswith("`") else ""
        assert conversation.step(text)["data"]["reward"] == pytest.approx(float(reward))


# The protocol


@runs("The protocol, 1", "The protocol, 2")
def test_curl_example(run_shell: Callable[..., str], server: Any) -> None:
    printed = run_shell(_code("The protocol, 1").replace(_ADDRESS, server.url))
    assert json.loads(printed) == json.loads(_code("The protocol, 2"))


@runs("The protocol, 3")
def test_websocket_example(conversation: Any) -> None:
    for line in _code("The protocol, 3").splitlines():
        direction, frame = line[:2], line[2:]
        if direction == "> ":
            conversation.send(frame)
        else:
            assert conversation.receive() == json.loads(frame)
    assert conversation.close_code() == 1000


def test_http_table_lists_every_route_and_each_answers(server: Any) -> None:
    documented = set()
    for route, body, answer in _table("The protocol"):
        method, path = route.strip("`").split()
        documented.add((method.lower(), path))
        sent = re.match(r"`(.*?)`", body)
        reply = requests.request(
            method, server.url + path, json=json.loads(sent[1]) if sent else None, timeout=10
        )
        assert reply.ok, reply.text
        if answer.startswith("`{"):
            assert reply.json() == json.loads(answer.strip("`"))
        elif answer not in ("the same", "JSON-RPC 2.0"):
            assert set(re.findall(r"`(\w+)`", answer)) <= set(reply.json())
    description = requests.get(f"{server.url}/openapi.json", timeout=10).json()
    served = {(method, path) for path, item in description["paths"].items() for method in item}
    assert documented == served


@runs("Checking any server, 1")
def test_a_server_is_checked(server: Any, run_shell: Callable[..., str]) -> None:
    printed = run_shell(_code("Checking any server, 1").replace(_ADDRESS, server.url))
    assert re.search(r"^\d+ passed$", printed, re.MULTILINE)


@runs("Checking any server, 2")
def test_an_environment_is_tested(run: Any, tmp_path: Path) -> None:
    (tmp_path / "test_environment.py").write_text(_code("Checking any server, 2"))
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert (done.returncode, "7 passed" in done.stdout) == (0, True), done.stdout


def test_error_codes_are_all_of_the_contract() -> None:
    from openenv.core.env_server.types import WSErrorCode

    sentence = _TEXT.split("The codes are", 1)[1].split(".", 1)[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {code.value for code in WSErrorCode}


# The files


@runs("Project structure, 1")
def test_project_structure_is_the_tree() -> None:
    documented = set()
    folders: list[str] = []
    for line in _code("Project structure, 1").splitlines()[1:]:
        match = re.match(r"([│ ]*)[├└]── (\S+)", line)
        assert match, line
        depth = len(match[1]) // 4
        folders[depth:] = [match[2].rstrip("/")]
        documented.add("/".join(folders) + ("/" if match[2].endswith("/") else ""))
    for path in documented:
        assert (_ROOT / path).exists(), f"{path} is in the README only"
    # A folder whose contents are not listed stands for them.
    closed = tuple(
        path for path in documented if path.endswith("/") and not _has_children(path, documented)
    )
    for path in _own_files():
        assert path in documented or path.startswith(closed), f"{path} is not in the README"


def _has_children(folder: str, paths: set[str]) -> bool:
    return any(path != folder and path.startswith(folder) for path in paths)


def _own_files() -> Iterator[str]:
    """What is in git; where git does not know, everything that is not made by tools."""
    if (_ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "ls-files"]
        listed = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
        yield from (path for path in listed.stdout.splitlines() if (_ROOT / path).exists())
        return
    made = re.compile(
        r"(^|/)(\.git|\.venv[^/]*|__pycache__|\.\w+_cache|[^/]+\.egg-info|build|dist)/"
        r"|^(\.coverage[^/]*|uv\.lock)$|\.pyc$"
    )
    for path in _ROOT.rglob("*"):
        relative = path.relative_to(_ROOT).as_posix()
        if path.is_file() and not made.search(relative):
            yield relative


def test_front_matter_is_what_a_docker_space_needs() -> None:
    matter = yaml.safe_load(_TEXT.split("---\n")[1])
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {matter.pop("colorFrom"), matter.pop("colorTo")} <= colors
    assert matter.pop("title")
    assert matter.pop("emoji")
    assert matter == {
        "sdk": "docker",
        "pinned": False,
        "app_port": Settings.model_fields["port"].default,
        "base_path": "/web",
        "tags": ["openenv"],
    }
    assert "base_path: /web" in _TEXT  # as it stands, or `openenv push` rewrites the front matter


# Installing, building, deploying


@runs("Installing with `openenv` 0.10, 1")
def test_wheel_without_dependencies_serves_on_openenv_0_10(
    run_shell: Callable[..., str],
    serve_with_shell: Any,
    clone: Path,
    free_port: int,
) -> None:
    run_shell(_code("Installing with `openenv` 0.10, 1"))
    assert "`../openenv-venv/bin/server` serves" in _TEXT
    python = clone.parent / "openenv-venv" / "bin" / "python"
    listing = [python, "-c", _LIST_OPENENV]
    printed = subprocess.run(listing, capture_output=True, text=True, check=True, cwd="/").stdout
    assert re.fullmatch(r"openenv 0\.1\d\.\d+\n", printed)
    url = serve_with_shell("../openenv-venv/bin/server", free_port, PORT=str(free_port))
    answer = requests.post(f"{url}/step", json={"action": {"message": "Hi"}}, timeout=10).json()
    assert answer["observation"]["metadata"]["step"] == 1


_LIST_OPENENV = """
from importlib.metadata import distributions
for name, version in sorted((d.name, d.version) for d in distributions()):
    if name in ("openenv", "openenv-core"):
        print(name, version)
"""


@runs("Deploying to Hugging Face Spaces, 1", "Deploying to Hugging Face Spaces, 2")
@pytest.mark.parametrize(
    "block", ["Deploying to Hugging Face Spaces, 1", "Deploying to Hugging Face Spaces, 2"]
)
def test_push_to_a_stand_in_for_the_hub(
    block: str, run_shell: Callable[..., str], tmp_path: Path, shell_environment: dict[str, str]
) -> None:
    programs, kept = tmp_path / "bin", tmp_path / "uploads"
    programs.mkdir()
    kept.mkdir()
    _write_program(programs / "openenv", (_ROOT / "tests" / "stand_in_hub.py").read_text())
    path = f"{programs}{os.pathsep}{shell_environment['PATH']}"
    run_shell(_code(block), PATH=path, UPLOADS=str(kept))
    commands = [shlex.split(line) for line in _code(block).splitlines()]
    assert len(list(kept.glob("*.json"))) == len(commands)
    for number, command in enumerate(commands):
        told = json.loads((kept / f"{number}.json").read_text())
        space = command[command.index("--repo-id") + 1] if "--repo-id" in command else "me/echo_env"
        assert (told["repo_id"], told["private"]) == (space, "--private" in command)
        uploaded = kept / str(number)
        assert (uploaded / "server" / "app.py").exists()
        assert (uploaded / "openenv.yaml").exists()
        assert (uploaded / "README.md").read_text() == _TEXT  # front matter and all
        dockerfile = (_ROOT / "server" / "Dockerfile").read_text()
        if "--base-image" in command:
            base = command[command.index("--base-image") + 1]
            dockerfile = dockerfile.replace("FROM ${BASE_IMAGE}", f"FROM {base}")
        assert (uploaded / "Dockerfile").read_text() == dockerfile


def test_documented_push_options_exist(run: Any) -> None:
    listed = _TEXT.split("What it takes:", 1)[1].split("and, for example", 1)[0]
    options = set(re.findall(r"`(-[\w-]+)`", listed))
    assert options == {"--repo-id", "-r", "--base-image", "-b", "--private", "--exclude"}
    found = run("-c", _LIST_PUSH_OPTIONS)
    assert found.returncode == 0, found.stderr
    assert options <= set(found.stdout.split())
    assert "DIRECTORY" in found.stdout.split()


_LIST_PUSH_OPTIONS = """
import typer.main
import echo_env  # as above
from openenv.cli.__main__ import app
command = typer.main.get_command(app).commands["push"]
for parameter in command.params:
    if parameter.param_type_name == "argument":
        print(parameter.name.upper())
    print(*parameter.opts)
"""


@pytest.fixture(scope="session")
def image(clone: Path, shell_environment: dict[str, str]) -> str:
    """The image that the block of the README builds."""
    subprocess.run(
        ["bash", "-euc", _code("Building the Docker image, 1")],
        cwd=clone,
        env=shell_environment,
        timeout=_PATIENCE_S,
        check=True,
    )
    return "echo-env:latest"


@pytest.mark.engine
@runs("Building the Docker image, 1", "Quick start, 1")
def test_image_builds_and_quick_start_runs_in_it(
    image: str, run_python: Callable[..., str]
) -> None:
    assert run_python(_code("Quick start, 1")) == _code("Quick start, 2")


@pytest.mark.engine
@runs("Starting a server, 2")
def test_clean_up_line_removes_the_container_of_a_killed_client(
    image: str, run_shell: Callable[..., str]
) -> None:
    code = f"""
import os, signal
from echo_env import EchoEnv
env = EchoEnv.from_docker_image({image!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], timeout=_PATIENCE_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = "docker ps -aq --filter label=openenv.client"
    assert run_shell(left)
    run_shell(_code("Starting a server, 2"))
    assert not run_shell(left)


@runs("Misbehaviour on request, 1", "Misbehaviour on request, 2")
def test_misbehaviour_block_prints_what_it_says(run_python: Callable[..., str]) -> None:
    assert run_python(_code("Misbehaviour on request, 1")) == _code("Misbehaviour on request, 2")


def test_scenario_table_is_the_model() -> None:
    schema = Scenario.model_json_schema()["properties"]
    documented = _table("Misbehaviour on request")
    assert [name for name, _, _ in documented] == [f"`{name}`" for name in schema]
    for name, allowed, meaning in documented:
        field = schema[name.strip("`")]
        parts = (field, *field.get("anyOf", ()))
        low = next((part["minimum"] for part in parts if "minimum" in part), None)
        high = next((part["maximum"] for part in parts if "maximum" in part), None)
        if high is not None:
            assert allowed == f"{low:g} to {int(high)}"
        elif low is not None:
            assert allowed == f"at least {low}"
        assert meaning == field["description"]


def test_fault_kinds_are_those_of_the_table() -> None:
    rows = _TEXT.split("A `fault` is an object", 1)[1]
    kinds = set(re.findall(r"^\| `(\w+)` \|", rows.split("Nothing of it", 1)[0], re.MULTILINE))
    assert kinds == set(get_args(Fault.model_fields["kind"].annotation))


# What is different from the stock template, where no other test module holds it


def test_difference_a_session_needs_no_thread_of_its_own(start_server: Any, connect: Any) -> None:
    server = start_server()
    threads = Path(f"/proc/{server.process.pid}/task")
    if not threads.exists():
        pytest.skip("counting another process's threads needs /proc")
    sessions = [connect(server.ws_url) for _ in range(2)]
    before = len(list(threads.iterdir()))
    sessions += [connect(server.ws_url) for _ in range(50)]
    for session in sessions:
        assert session.step(message="Hi")["data"]["observation"]["message_length"] == 2
    assert len(list(threads.iterdir())) == before


def test_figures_are_those_of_a_benchmark_that_is_there(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = re.search(r"`uv run python (\S+)`\s+\(\[source\]\((\S+)\)\)", _TEXT)
    assert command
    assert command[1] == command[2]
    assert "--rounds" in run(_ROOT / command[1], "--help").stdout
    monkeypatch.syspath_prepend(_ROOT / "benchmarks")
    targets = {
        figure.label: figure.target
        for figure in runpy.run_path(str(_ROOT / command[1]))["_FIGURES"]
    }
    rows = _table("What it costs")
    assert [row[0] for row in rows] == list(targets)
    for label, stock, ours, ratio in rows:
        assert float(ours) / float(stock) == pytest.approx(float(ratio), abs=0.01)
        relation, target = targets[label].split()
        assert float(ratio) <= float(target) if relation == "≤" else float(ratio) >= float(target)


def test_the_servers_figures_are_those_of_the_committed_runs(run: Any, tmp_path: Path) -> None:
    benchmarks = _ROOT / "benchmarks"
    options = ("--read", benchmarks / "servers.json", "--markdown", "--svg", tmp_path / "bars.svg")
    assert run(benchmarks / "servers.py", *options).stdout in _TEXT
    assert (tmp_path / "bars.svg").read_text() == (benchmarks / "servers.svg").read_text()
    figures = {row[0]: row[1:] for row in _table("Speed and size")}
    text = " ".join(_TEXT.split())
    to_stock, to_c = map(float, figures["CPU per step, 32 sessions (µs)"][-2:])
    assert to_stock <= 0.25
    assert to_c <= 1.4
    rounds = json.loads((benchmarks / "servers.json").read_text())["rounds"]
    for other, form in (
        ("in C, same work", "{:.2f} to {:.2f} × its CPU"),
        ("stock", "{:.2f} to {:.2f} × the stock server's"),
    ):
        ratios = [one["ours"]["cpu_us 32"] / one[other]["cpu_us 32"] for one in rounds]
        assert form.format(min(ratios), max(ratios)) in text
    assert float(figures["start-up, CPU (s)"][-2]) <= 0.45
    assert float(figures["RSS per session (KB)"][1]) <= 32
    assert set(figures["steps lost"][:2]) == {"0"}
    full = json.loads((benchmarks / "servers-full.json").read_text())
    (sizes,) = full["rounds"]
    stock, ours, soak = sizes["stock"], sizes["ours"], full["soak"]
    held = (
        f"held {ours['sessions']:,.0f} sessions, each reset and stepped, {ours['lost']:.0f} steps"
        f" lost, {ours['rss_kb']:.1f} KB each; the stock server did so with"
        f" {stock['sessions'] * stock['threads']:,.0f} threads, {stock['rss_kb']:.1f} KB each."
    )
    assert held in text
    assert (ours["sessions"], ours["lost"]) == (16384, 0)
    grown = f"{soak['rss_growth_kb']:,.0f} KB more memory after the last {soak['steps']:,.0f}"
    assert f"A soak of 1,000,000 steps: {soak['lost']:.0f} lost, {grown}." in text


def test_the_scaling_figures_are_those_of_the_committed_run(run: Any) -> None:
    benchmarks = _ROOT / "benchmarks"
    assert "--sessions" in run(benchmarks / "scaling.py", "--help").stdout
    measured = json.loads((benchmarks / "scaling.json").read_text())
    rows = [
        [
            f"{row['sessions']:,}",
            f"{row['success']:.1%}",
            *(f"{row[key]:.2f}" for key in ("p50_s", "p99_s")),
            *(f"{row[key]:.0f}" for key in ("rss_mb", "threads")),
        ]
        for row in measured
    ]
    assert _table("Many sessions at once") == rows


def test_contributing_names_the_commands_that_exist() -> None:
    text = (_ROOT / "CONTRIBUTING.md").read_text()
    gate = "uv run --group check python tests/check.py"
    assert gate in text
    assert gate in (_ROOT / ".ci" / "run").read_text().replace(" --quiet", "")
    ci = (_ROOT / ".ci" / "run").read_text()
    for command in ("uv run --group notebook pytest -m notebook", "tests/engine.sh --base-image"):
        assert command in " ".join(text.split())
        assert command in ci.replace(" --quiet", "")
    benchmark = re.search(r"^uv run python (\S+)$", text, re.MULTILINE)
    assert benchmark
    assert (_ROOT / benchmark[1]).exists()
