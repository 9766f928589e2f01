# SPDX-License-Identifier: BSD-3-Clause
"""Containers of tests that are marked `engine`."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

_PATIENCE_S = 300.0  # until a test calls a wait a hang


def docker(*arguments: str | Path, timeout: float = _PATIENCE_S) -> str:
    """What `docker` prints to stdout. Raises `AssertionError` when it fails."""
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def inspect(what: str) -> Any:
    """What the engine knows of a container or an image."""
    return json.loads(docker("inspect", what))[0]


@dataclass(frozen=True)
class Container:
    """A running container; `url` leads to the port that it publishes."""

    name: str
    port: int  # on this machine; 0 without a network

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        command = ["docker", "logs", self.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def run(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def python(self, code: str) -> str:
        return self.run("python", "-c", code)

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and inspect(self.name)["State"]["Running"]:
            try:
                # With an API token the answer may be 401: the server runs.
                requests.get(f"{self.url}/health", timeout=10)
                return
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.05)
        pytest.fail(f"the container does not serve; its log:\n{self.log}")

    def wait_until_it_is_healthy(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while (health := inspect(self.name)["State"]["Health"])["Status"] == "starting":
            assert time.monotonic() < deadline, f"{health}; its log:\n{self.log}"
            time.sleep(0.2)
        assert health["Status"] == "healthy", f"{health}; its log:\n{self.log}"


@contextmanager
def running_container(
    image: str, *options: str, command: Sequence[str] = (), port: int = 8000
) -> Iterator[Container]:
    """Run an image until the block ends; the container serves when the block begins.

    `options` are those of `docker run`, `command` replaces the image's own, `port` is the
    container's. Without a network, the block begins at once.
    """
    name = docker("run", "--detach", f"--publish=127.0.0.1::{port}", *options, image, *command)
    try:
        bindings = inspect(name)["NetworkSettings"]["Ports"].get(f"{port}/tcp")
        container = Container(name, int(bindings[0]["HostPort"]) if bindings else 0)
        if bindings:
            container.wait_until_it_serves()
        yield container
    finally:
        docker("rm", "--force", "--volumes", name)
