# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the echo environment's tests: its server, clones of the repository, its image."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from stepwire.testing.servers import PATIENCE_S
from suite import suite_fixtures

pytest_plugins = ["engine_turns", "peers", "proxies"]
collect_ignore = ["installing/guess_number"]  # an author's package, with tests of its own

_UV = os.environ.get("UV", "uv")  # `uv run` sets it; without uv the tests that use it fail
_DISTRIBUTIONS = {"openenv_echo_env": "echo_env", "stepwire": "stepwire"}


@pytest.fixture(scope="session")
def python_without_echo_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has what this one has, except `echo_env` and `stepwire`.

    It does not measure coverage either: it runs copies.
    """
    folder = tmp_path_factory.mktemp("interpreter")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    unwanted = ("echo_env", "stepwire", "coverage")
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            known = (packages / entry.name).exists()
            if not known and not any(name in entry.name for name in unwanted):
                (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def checkout(committed: list[Path], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed files except the tests, like a clone in a folder of another name."""
    copy = tmp_path_factory.mktemp("clones") / "my-clone"
    for path in committed:
        if "tests" not in path.parts and path.parts[0][0] != ".":
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, copy / path)
    return copy


@pytest.fixture(scope="session")
def committed(root: Path) -> list[Path]:
    """The files of the tree that git does not ignore, relative to the root."""
    ignored = [".git", *(root / ".gitignore").read_text().replace("/\n", "\n").splitlines()]
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _matches(name, ignored)]
        kept = (Path(folder, name) for name in names if not _matches(name, ignored))
        files += [path.relative_to(root) for path in kept]
    return files


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@pytest.fixture(scope="session")
def uv() -> Callable[..., str]:
    """Runs uv and returns what it printed: `uv("lock", cwd=folder)`."""

    def run_uv(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [_UV, *map(str, arguments)],
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_uv


@pytest.fixture(scope="session")
def built(
    root: Path,
    committed: list[Path],
    uv: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """`echo_env.whl`, `echo_env.gz`, `stepwire.whl` and `stepwire.gz`, built from a clone.

    Each wheel is built from its source archive.
    """
    folder = tmp_path_factory.mktemp("build")
    for path in committed:
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / "source" / path)
    uv("build", "--all-packages", "--out-dir", folder / "dist", folder / "source", cwd=folder)
    return {
        _DISTRIBUTIONS[path.name.partition("-")[0]] + path.suffix: path
        for path in (folder / "dist").iterdir()
        if path.name[0] != "."
    }


@pytest.fixture(scope="session")
def environment_with_dependencies(
    python_without_echo_env: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Makes environments that have what both packages need; returns their `bin` folder."""
    dependencies = next(python_without_echo_env.parent.parent.glob("lib/python*/site-packages"))

    def make(with_pip: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, symlinks=True, with_pip=with_pip)
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "dependencies.pth").write_text(f"{dependencies}\n")
        return folder / "bin"

    return make


@pytest.fixture
def push(root: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Runs `openenv push` with a stand-in for the Hub: `push("--private")`.

    Pushes this checkout and returns the uploaded folders.
    """
    kept = tmp_path / "uploads"
    kept.mkdir()

    def push_to_the_stand_in(*options: str) -> list[Path]:
        done = subprocess.run(
            [sys.executable, root / "tests" / "stand_in_hub.py", "push", *options],
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"UPLOADS": str(kept)},
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [path for path in kept.iterdir() if path.is_dir()]

    return push_to_the_stand_in


@pytest.fixture(scope="session")
def source(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone to build from; tests may change it."""
    return Path(shutil.copytree(checkout, tmp_path_factory.mktemp("source") / "echo"))


@pytest.fixture(scope="session")
def image(source: Path) -> str:
    """The image, for tests with the marker `engine`."""
    command = ["docker", "build", "--tag", "echo-env:test", "--file", "server/Dockerfile", "."]
    subprocess.run(command, cwd=source, timeout=300, check=True)
    return "echo-env:test"


globals().update(suite_fixtures("echo_env.server.app"))
