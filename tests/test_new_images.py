# SPDX-License-Identifier: BSD-3-Clause
"""The image of what `stepwire.new` writes, for the installed framework, built by its commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

from containers import docker, running_container
from stepwire.new import create_environment

pytestmark = pytest.mark.engine

_OPENENV = "import stepwire; from openenv.cli.__main__ import main; main()"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    installed: Any = "openenv" if list(metadata.distributions(name="openenv")) else "openenv-core"
    return create_environment("maze", tmp_path_factory.mktemp("new"), like=installed)


def _check(image: str, connect: Callable[..., Any]) -> None:
    """Serves, with its pages, as a user without rights, and stops at once."""
    with ExitStack() as containers:
        container = containers.enter_context(running_container(image))
        assert container.run("id", "-u") == "1000"
        for path in ("/web", "/docs", "/health"):
            assert requests.get(container.url + path, timeout=60).ok, path
        observed = connect(container.ws_url).step(message="Hi")["data"]["observation"]
        assert observed["echoed_message"] == "Hi"
        docker("stop", "--time=60", container.name)
        assert docker("inspect", "--format={{.State.ExitCode}}", container.name).strip() == "0"


def test_openenv_build(package: Path, connect: Callable[..., Any]) -> None:
    command = [sys.executable, "-c", _OPENENV, "build"]
    subprocess.run(command, cwd=package, timeout=900, check=True)
    _check("openenv-maze", connect)


def test_what_openenv_push_sends_to_a_stand_in_for_the_hub(
    package: Path, root: Path, tmp_path: Path, connect: Callable[..., Any]
) -> None:
    command = [sys.executable, root / "tests" / "stand_in_hub.py", "push"]
    environment = os.environ | {"UPLOADS": str(tmp_path)}
    subprocess.run(command, cwd=package, env=environment, timeout=900, check=True)
    uploaded = tmp_path / "0"
    hidden = {".gitignore", ".dockerignore"}
    assert {path.name for path in uploaded.iterdir()} == {
        path.name for path in package.iterdir() if path.name not in hidden
    } | {"Dockerfile"}
    assert (uploaded / "README.md").read_bytes() == (package / "README.md").read_bytes()
    docker("build", "--quiet", "--tag", "new-space:test", uploaded)
    _check("new-space:test", connect)
