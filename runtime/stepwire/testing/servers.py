# SPDX-License-Identifier: BSD-3-Clause
"""Real peers for tests: server processes on free ports, and raw WebSockets to them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from stepwire.server.settings import Settings

PATIENCE_S = 120.0
"""Seconds until a test calls a wait a hang; nothing is timed."""

_PROTOCOL = "WEBSOCKET_PROTOCOL"
_FAST = "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol"


@dataclass(frozen=True)
class Server:
    """A server process that answers."""

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
        """All that the process has printed so far."""
        return self.log_file.read_text(errors="replace")


class Conversation:
    """A raw WebSocket: frames go out as they are given, and come back parsed."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def receive(self) -> Any:
        return json.loads(self.connection.recv(timeout=PATIENCE_S))

    def ask(self, frame: Any) -> Any:
        """Send one frame and return the next."""
        self.send(frame)
        return self.receive()

    def step(self, **action: Any) -> Any:
        """Take one step; the keywords are the action's fields."""
        return self.ask({"type": "step", "data": action})

    def close_code(self) -> int | None:
        """Wait until the server closes the connection without sending another frame."""
        try:
            frame = self.connection.recv(timeout=PATIENCE_S)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code
        raise AssertionError(f"The server sent another frame before it closed: {frame!r:.300}")


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that no other process is given while this lasts, so servers start side by side."""
    with socket.socket() as reservation:
        if sys.platform == "linux":
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port: int = reservation.getsockname()[1]
        if sys.platform != "linux":
            reservation.close()  # elsewhere the server itself could not have it either
        yield port


def without_settings(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This process's variables without those that the server reads, then `extra`.

    `WEBSOCKET_PROTOCOL` stays: a whole run of tests can use uvicorn's own protocol.
    """
    own = {name.upper() for name in Settings.model_fields} - {_PROTOCOL}
    return {name: value for name, value in os.environ.items() if name not in own} | (extra or {})


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
    """Run `command` until the block ends; the server is healthy when the block begins.

    Its output goes to a file in `folder`. Raises `AssertionError` with the output when the server
    does not become healthy.
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
    """Return when the server answers at `health`; raises `AssertionError` when it does not."""
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
    """How this interpreter serves `application` on a port.

    A module (`my_env.server.app`) is run with `python -m`; an import string
    (`my_env.server.app:app`) and a Python file with an `app` are served by plain uvicorn.
    """
    if isinstance(application, str) and ":" not in application:
        return [sys.executable, "-m", application, "--port", str(port), *options]
    protocol = _FAST if os.environ.get(_PROTOCOL) == "fast" else "websockets-sansio"
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(port), "--ws", protocol]
    if isinstance(application, Path):
        return [*uvicorn, "--app-dir", str(application.parent), f"{application.stem}:app", *options]
    return [*uvicorn, application, *options]
