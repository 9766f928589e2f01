# SPDX-License-Identifier: BSD-3-Clause
"""The server of `served_environments.py`, and the three ways to serve the notes environment."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from containers import running_container

_RUNTIME = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def environments(start_shared_server: Callable[..., Any]) -> Any:
    """Serves every application of `served_environments.py` below a path of its own."""
    return start_shared_server(application=Path(__file__).with_name("served_environments.py"))


@pytest.fixture
def connect_to(environments: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    """Opens raw WebSockets to one of these applications: `connect_to("counting")`."""

    def open_one(name: str, query: str = "") -> Any:
        base = environments.ws_url.removesuffix("/ws")
        return connect(f"{base}/{name}/ws{query}")

    return open_one


@pytest.fixture
def deaf_websocket() -> Iterator[Callable[[int], socket.socket]]:
    """Opens bare sockets after the handshake, which answer neither pings nor a close frame."""
    head = (
        "GET /ws HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    with ExitStack() as clients:

        def open_one(port: int) -> socket.socket:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            client.sendall("\r\n".join((*head, "", "")).encode())
            received = b""
            while b"\r\n\r\n" not in received:
                byte = client.recv(1)
                assert byte, f"the server closed the connection after {received!r}"
                received += byte
            return client

        yield open_one


@pytest.fixture(scope="session")
def image(root: Path) -> str:
    """The repository's image, to serve the tests' environment on its Python and settings."""
    command = ["docker", "build", "--tag", "notes-env:test", "--file", "server/Dockerfile", "."]
    subprocess.run(command, cwd=root, timeout=300, check=True)
    return "notes-env:test"


@pytest.fixture(
    scope="session",
    params=[
        "server",
        pytest.param("uvicorn", marks=pytest.mark.slow),
        pytest.param("image", marks=pytest.mark.engine),
    ],
)
def serve(
    request: pytest.FixtureRequest, start_shared_server: Callable[..., Any]
) -> Iterator[Callable[[dict[str, str]], Any]]:
    """Serves the notes environment with some variables, each way in turn, and logs everything."""
    with ExitStack() as containers:

        def start(env: dict[str, str]) -> Any:
            if request.param == "image":
                variables = {**env, "LOG_LEVEL": "trace", "PYTHONPATH": "/runtime:/runtime/tests"}
                options = [f"--env={name}={value}" for name, value in variables.items()]
                return containers.enter_context(
                    running_container(
                        *(request.getfixturevalue("image"), *options),
                        f"--volume={_RUNTIME}:/runtime:ro",
                        command=["python", "-m", "notes_env.app"],
                    )
                )
            options = ["--log-level", "trace"]
            if request.param == "server":
                return start_shared_server(*options, env=env)
            # uvicorn's own limit is above ours, which must hold.
            options += ["--ws-max-size", "100000000"]
            return start_shared_server(*options, env=env, application="notes_env.app:app")

        yield start
