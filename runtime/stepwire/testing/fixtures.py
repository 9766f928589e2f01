# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures that run servers, for `pytest_plugins = ["stepwire.testing.fixtures"]` in a conftest.

Override `server_module` to name the module that serves your environment:

@pytest.fixture(scope="session")
def server_module() -> str:
    return "my_env.server.app"
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect as connect_websocket

from stepwire.testing.servers import (
    Conversation,
    Server,
    reserved_port,
    running_server,
    serving_command,
)


@pytest.fixture(scope="session")
def server_module() -> str:
    """The module that `python -m` serves the environment with."""
    raise pytest.UsageError(
        "Override the fixture `server_module` to return the module that serves your environment, "
        'such as "my_env.server.app".'
    )


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that no process listens on, unless the test makes one."""
    with reserved_port() as port:
        yield port


@pytest.fixture(scope="session")
def server(start_shared_server: Callable[..., Server]) -> Server:
    """The environment's server with default settings, shared by all tests."""
    return start_shared_server()


@pytest.fixture(scope="session")
def start_shared_server(
    tmp_path_factory: pytest.TempPathFactory, server_module: str
) -> Iterator[Callable[..., Server]]:
    """As `start_server`, for session-wide fixtures: each server stops when all tests are done."""
    started: list[Server] = []
    with ExitStack() as servers:
        start = _starter(servers, tmp_path_factory.mktemp("shared"), server_module)

        def start_one(*options: str, **how: Any) -> Server:
            started.append(start(*options, **how))
            return started[-1]

        yield start_one
        for server in started:
            server.process.terminate()  # all at once, before each is waited for


@pytest.fixture
def start_server(tmp_path: Path, server_module: str) -> Iterator[Callable[..., Server]]:
    """Starts servers that stop with the test: `start_server("--workers", "2", env={…})`.

    `application` is an import string or a Python file with an `app`, served by uvicorn instead of
    `server_module`; `command` starts something else, with the port in place of `{port}`; `port` is
    one that a stopped server had.
    """
    with ExitStack() as servers:
        yield _starter(servers, tmp_path, server_module)


def _starter(servers: ExitStack, folder: Path, module: str) -> Callable[..., Server]:
    def start(
        *options: str,
        env: dict[str, str] | None = None,
        application: str | Path | None = None,
        command: list[str] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
    ) -> Server:
        port = port or servers.enter_context(reserved_port())
        if command is None:
            arguments = serving_command(application or module, port, options)
        else:
            arguments = [part.replace("{port}", str(port)) for part in (*command, *options)]
        return servers.enter_context(
            running_server(arguments, folder, port=port, env=env, cwd=cwd)
        )

    return start


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Conversation]]:
    """Opens raw WebSockets, to the shared server unless an address is given."""
    with ExitStack() as connections:

        def open_one(ws_url: str | None = None, **options: Any) -> Conversation:
            defaults: dict[str, Any] = {
                "compression": None,
                "max_size": None,
                "proxy": None,
                "ping_interval": None,
            }
            connection = connect_websocket(ws_url or server.ws_url, **{**defaults, **options})
            return Conversation(connections.enter_context(connection))

        yield open_one


@pytest.fixture
def conversation(connect: Callable[..., Conversation]) -> Conversation:
    """One session of the shared server."""
    return connect()
