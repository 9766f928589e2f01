# SPDX-License-Identifier: BSD-3-Clause
"""`Server`: a server process on a free port, and how to start one."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from stepwire.conformance.conversation import Conversation

PATIENCE_S = 120.0
"""Seconds after which a wait counts as a hang. Long, because busy machines are slow."""

_PROTOCOL = "WEBSOCKET_PROTOCOL"
_FAST = "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol"


@dataclass(frozen=True)
class Server:
    """A running server process."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        """Everything that the process has printed so far."""
        return self.log_file.read_text(errors="replace")

    def connect(self, path: str = "/ws", **options: Any) -> AbstractContextManager[Conversation]:
        """A raw WebSocket, closed with the block: `with server.connect() as conversation`.

        `options` are those of `websockets.sync.client.connect`.
        """
        return Conversation.open(f"ws://127.0.0.1:{self.port}{path}", **options)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A free port that other processes do not get either, so servers can start at the same time."""
    with socket.socket() as reservation:
        if sys.platform == "linux":
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port: int = reservation.getsockname()[1]
        if sys.platform != "linux":
            reservation.close()  # elsewhere the server could not bind it either
        yield port


def without_settings(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment variables of this process without those of the server, plus `extra`.

    `WEBSOCKET_PROTOCOL` is kept, so that a whole run of tests can use uvicorn's own protocol.
    """
    from stepwire.server.settings import PREFIX, Settings  # here: it imports the whole server

    own = {name.upper() for name in Settings.model_fields} - {_PROTOCOL}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in own and not name.startswith(PREFIX)
    }
    return kept | (extra or {})


@contextmanager
def running_server(
    command: Sequence[str],
    folder: Path,
    *,
    port: int,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    health: str = "/health",
) -> Iterator[Server]:
    """Run `command` until the block ends; the block begins when the server is healthy.

    The server's output goes to a file in `folder`. Raises `AssertionError` with that output when
    the server does not become healthy. `popen` is called like `subprocess.Popen`.
    """
    log_file = folder / f"server-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd or folder,
            env=without_settings(env),
        )
    server = Server(port, process, log_file)
    try:
        wait_until_healthy(server, health)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(server: Server, health: str = "/health") -> None:
    """Wait until the server answers at `health`; raises `AssertionError` if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(f"{server.url}{health}", timeout=PATIENCE_S).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.02)
    raise AssertionError(
        f"The server did not start ({server.process.args!r}); its log:\n{server.log}"
    )


def serving_command(application: str | Path, port: int, options: Sequence[str] = ()) -> list[str]:
    """The command that serves `application` on a port, with this interpreter.

    `python -m` runs a module (`my_env.server.app`); plain uvicorn serves an import string
    (`my_env.server.app:app`) or a Python file that has an `app`.
    """
    if isinstance(application, str) and ":" not in application:
        return [sys.executable, "-m", application, "--port", str(port), *options]
    protocol = _FAST if os.environ.get(_PROTOCOL) == "fast" else "websockets-sansio"
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(port), "--ws", protocol]
    if isinstance(application, Path):
        return [*uvicorn, "--app-dir", str(application.parent), f"{application.stem}:app", *options]
    return [*uvicorn, application, *options]
