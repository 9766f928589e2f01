# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of both test suites: connections, programs to run, and the framework's own server."""

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import settings as hypothesis_settings

from stepwire.conformance.conversation import Conversation
from stepwire.testing.servers import (
    PATIENCE_S,
    Server,
    reserved_port,
    without_settings,
)
from suite import starter

_PROTOCOL = "WEBSOCKET_PROTOCOL"
_ROOT = Path(__file__).resolve().parent.parent.parent

# The same examples in every run; `pytest --hypothesis-profile thorough` tries more.
hypothesis_settings.register_profile(
    "plain", max_examples=60, derandomize=True, deadline=None, database=None
)
hypothesis_settings.register_profile("thorough", max_examples=500, deadline=None, database=None)
hypothesis_settings.load_profile("plain")


# Folders whose tests need more than a checkout has, and the marker that asks for them.
_MARKERS = {"browser": "browser", "integrations": "trainer"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a folder unless its marker is asked for: its conftest imports what only it needs."""
    marker = _MARKERS.get(collection_path.name)
    asked = str(config.getoption("markexpr")).strip()
    if marker and collection_path.is_dir() and (asked.startswith("not") or marker not in asked):
        return True
    return None


@pytest.fixture(autouse=True)
def unchanged_logging() -> Iterator[None]:
    """Undo what a server that runs in the test's own process sets up for its log lines."""
    loggers = [
        logging.getLogger(name)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "stepwire.server")
    ]
    before = [(each.level, each.propagate, each.handlers[:], each.filters[:]) for each in loggers]
    yield
    for each, (level, propagate, handlers, filters) in zip(loggers, before, strict=True):
        each.setLevel(level)
        each.propagate, each.handlers, each.filters = propagate, handlers, filters


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the framework's own server `slow`: its start takes seconds."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "stock" in item.name or "stock_server" in fixtures or "tool_server" in fixtures:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return _ROOT


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The Chromium of this process; each test has its own context, like a fresh profile."""
    from chromium import running_chromium  # it needs Playwright

    with running_chromium() as started:
        yield started


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which no process listens."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Conversation]]:
    """Opens raw WebSockets, to the shared server if no address is given."""
    with ExitStack() as connections:

        def open_one(ws_url: str | None = None, **options: Any) -> Conversation:
            opened = Conversation.open(ws_url or server.ws_url, **options)
            return connections.enter_context(opened)

        yield open_one


@pytest.fixture
def conversation(connect: Callable[..., Conversation]) -> Conversation:
    """One session of the shared server."""
    return connect()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def stock_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that `openenv init echo` of the installed framework writes, for 64 sessions."""
    framework = importlib.util.find_spec("openenv")
    assert framework is not None
    assert framework.submodule_search_locations is not None
    template = Path(framework.submodule_search_locations[0], "cli", "templates", "openenv_env")
    folder = tmp_path_factory.mktemp("stock") / "echo"
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*folder.rglob("*.py")]:
        text = file.read_text()
        text = text.replace("max_concurrent_envs=1,", "max_concurrent_envs=64,")
        text = text.replace("__ENV_CLASS_NAME__", "Echo").replace("__ENV_TITLE_NAME__", "Echo")
        file.write_text(text.replace("__ENV_NAME__", "echo"))
        file.rename(file.with_name(file.name.replace("__ENV_NAME__", "echo")))
    return folder


@pytest.fixture(scope="session")
def stock_server(
    stock_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of the stock template."""
    with ExitStack() as servers:
        start = starter(servers, tmp_path_factory.mktemp("stock-server"), "server.app:app")
        yield start("--app-dir", str(stock_template), cwd=stock_template)


@pytest.fixture(scope="session")
def tool_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The framework's server with an environment of tools only: see `tool_server.py`."""
    with ExitStack() as servers:
        start = starter(servers, tmp_path_factory.mktemp("tool-server"), "tool_server:app")
        yield start(application=Path(__file__).with_name("tool_server.py"))


@pytest.fixture(params=["ours", "stock"])
def either_server(request: pytest.FixtureRequest) -> Server:
    """Our server and the framework's, for tests of what holds for both."""
    found: Server = request.getfixturevalue("server" if request.param == "ours" else "stock_server")
    return found


@pytest.fixture(scope="session")
def run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program and waits for it: `run("-c", code)`, by default in an empty folder."""
    folder = tmp_path_factory.mktemp("run")

    def run_one(
        *arguments: str | Path,
        python: str | Path = sys.executable,
        cwd: Path = folder,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=without_settings(env),
            timeout=PATIENCE_S,
            check=False,
        )

    return run_one


@pytest.fixture(scope="session")
def execute(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Runs code as a program in which every warning is an error; returns its output."""

    def run_lines(code: str, *arguments: str) -> str:
        done = run("-X", "dev", "-W", "error", "-c", code, *arguments)
        # In development mode asyncio also reports callbacks that are slow on a busy machine.
        complaints = re.sub(r"(?m)^Executing .* took [\d.]+ seconds\n", "", done.stderr)
        assert (done.returncode, complaints) == (0, ""), done.stderr
        return done.stdout

    return run_lines
