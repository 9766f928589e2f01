# SPDX-License-Identifier: BSD-3-Clause
"""`openenv validate` of the installed framework, on a clone of the repository and on a server."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

_UV = os.environ.get("UV", "uv")  # `uv run` says where it is; without uv these tests fail

Run = Callable[..., subprocess.CompletedProcess[str]]


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def locked_clone(root: Path, checkout: Path, run: Run, tmp_path_factory: Any) -> Path:
    """A fresh clone after `uv lock`."""
    clone: Path = tmp_path_factory.mktemp("locked") / "echo_env"
    shutil.copytree(checkout, clone, ignore=shutil.ignore_patterns("uv.lock"))
    if (root / "uv.lock").exists():  # as written by `uv run`: saves asking the registry again
        shutil.copy(root / "uv.lock", clone)
    done = run("lock", python=_UV, cwd=clone)
    assert done.returncode == 0, done.stderr
    return clone


@pytest.fixture
def openenv(run: Run, tmp_path: Path) -> Run:
    """The framework's command line."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # Their caches, and a wide terminal: their output is wrapped to its width.
        env = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "200"}
        return run("-m", "openenv.cli", *arguments, env=env)

    return call


def test_a_fresh_clone_is_valid(locked_clone: Path, openenv: Run) -> None:
    done = openenv("validate", locked_clone)
    assert done.returncode == 0, done.stdout
    if _installed("openenv"):
        assert "PASS  static.manifest" in done.stdout
        assert "FAIL" not in done.stdout
    else:
        assert done.stdout == "[OK] echo: Ready for multi-mode deployment\n"


def test_a_running_server_is_valid(server: Any, openenv: Run) -> None:
    done = openenv("validate", "--url", server.url, *(["--json"] if _installed("openenv") else []))
    report = json.loads(done.stdout)
    assert report["summary"]["failed_criteria"] == []
    assert (done.returncode, report["passed"], report["mode"]) == (0, True, "simulation")
    assert report["standard_profile"] == "openenv-http/1.x"
