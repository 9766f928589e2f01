# SPDX-License-Identifier: BSD-3-Clause
"""Installed by each documented way, echo_env works, alone and beside other versions of `stepwire`.

`stepwire` is on no package index: where pip is not given it, echo_env uses its own copy.
"""

import shutil
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwire.testing import Server

pytestmark = pytest.mark.slow

Run = Callable[..., Any]
_STEP = """
import sys
from echo_env import EchoAction, EchoEnv
import stepwire

with EchoEnv.from_local() as env:
    print(env.step(EchoAction(message="Hi")).reward, stepwire.__version__, stepwire.__file__)
"""


@pytest.fixture(scope="module")
def repository(root: Path, committed: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a bare git repository that holds the committed files."""
    folder = tmp_path_factory.mktemp("git")
    for path in committed:
        (folder / "clone" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / "clone" / path)

    def git(*arguments: str, cwd: str = "clone") -> None:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=folder / cwd, check=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "All of it")
    git("clone", "--quiet", "--bare", "clone", "bare.git", cwd=".")
    return f"git+{(folder / 'bare.git').as_uri()}"


@pytest.fixture
def check(run: Run) -> Callable[[Path], tuple[str, Path]]:
    """Takes a step with a local server; returns the version and the folder of `stepwire`."""

    def take_a_step(python: Path) -> tuple[str, Path]:
        done = run("-W", "error", "-c", _STEP, python=python)
        assert done.returncode == 0, done.stderr
        reward, version, file = done.stdout.split()
        assert reward == "0.2"
        return version, Path(file).parent

    return take_a_step


@pytest.fixture
def pip(run: Run) -> Callable[..., None]:
    def run_pip(commands: Path, *arguments: str | Path, cwd: Path | None = None) -> None:
        where = {} if cwd is None else {"cwd": cwd}
        done = subprocess.run(
            [commands / "python", "-m", "pip", *arguments],
            capture_output=True,
            text=True,
            check=False,
            **where,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run_pip


def _packages(commands: Path) -> Path:
    return next(commands.parent.glob("lib/python*/site-packages"))


def test_plain_pip_from_a_git_address(
    repository: str,
    tmp_path: Path,
    pip: Callable[..., None],
    check: Callable[[Path], tuple[str, Path]],
    start_server: Callable[..., Server],
) -> None:
    """With all dependencies from the package index, in an environment that has nothing else."""
    venv.create(tmp_path, symlinks=True, with_pip=True)
    commands = tmp_path / "bin"
    pip(commands, "install", "--quiet", repository)
    pip(commands, "check")
    _, folder = check(commands / "python")
    assert folder == _packages(commands) / "echo_env" / "runtime" / "stepwire"
    start_server(command=[str(commands / "server"), "--port", "{port}"])


def test_plain_pip_from_a_git_address_with_stepwire(
    repository: str,
    environment_with_dependencies: Callable[..., Path],
    pip: Callable[..., None],
    check: Callable[[Path], tuple[str, Path]],
    run: Run,
) -> None:
    commands = environment_with_dependencies(with_pip=True)
    pip(commands, "install", f"{repository}#subdirectory=runtime", repository)
    _, folder = check(commands / "python")
    assert folder == _packages(commands) / "stepwire"
    done = run("-m", "stepwire.conformance", "--help", python=commands / "python")
    assert done.returncode == 0, done.stderr


def test_uv_from_a_git_address(
    repository: str, tmp_path: Path, uv: Callable[..., str], check: Callable[..., Any]
) -> None:
    uv("venv", "--quiet", "environment", cwd=tmp_path)
    python = tmp_path / "environment" / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", python, repository, cwd=tmp_path)
    _, folder = check(python)
    assert folder == _packages(python.parent) / "echo_env" / "runtime" / "stepwire"


def test_both_folders_of_a_clone(
    checkout: Path,
    environment_with_dependencies: Callable[..., Path],
    pip: Callable[..., None],
    check: Callable[[Path], tuple[str, Path]],
) -> None:
    commands = environment_with_dependencies(with_pip=True)
    pip(commands, "install", "./runtime", ".", cwd=checkout)
    pip(commands, "check")
    _, folder = check(commands / "python")
    assert folder == _packages(commands) / "stepwire"


@pytest.fixture(scope="module")
def make_stepwire(
    root: Path, uv: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Builds a wheel of `stepwire` with another version."""

    def make(version: str) -> Path:
        folder = tmp_path_factory.mktemp("stepwire")
        unwanted = shutil.ignore_patterns("tests", "build", "__pycache__", "*.egg-info")
        source = shutil.copytree(root / "runtime", folder / "source", ignore=unwanted)
        initializer = source / "stepwire" / "__init__.py"
        text, _, _ = initializer.read_text().partition("__version__ = ")
        initializer.write_text(f'{text}__version__ = "{version}"\n')
        uv("build", "--wheel", "--out-dir", folder, source, cwd=folder)
        return next(folder.glob("*.whl"))

    return make


class TestBesideAnotherVersionOfStepwire:
    @pytest.mark.parametrize("stepwire_first", [True, False])
    def test_the_installed_one_is_used_and_survives(
        self,
        stepwire_first: bool,
        make_stepwire: Callable[[str], Path],
        built: dict[str, Path],
        environment_with_dependencies: Callable[..., Path],
        pip: Callable[..., None],
        check: Callable[[Path], tuple[str, Path]],
    ) -> None:
        commands = environment_with_dependencies(with_pip=True)
        wheels = [make_stepwire("7.8.9"), built["echo_env.whl"]]
        for wheel in wheels if stepwire_first else reversed(wheels):
            pip(commands, "install", "--no-index", wheel)
        installed = _packages(commands) / "stepwire"
        assert check(commands / "python") == ("7.8.9", installed)

        files = sorted(installed.rglob("*.py"))
        pip(commands, "uninstall", "--yes", "openenv-echo-env")
        assert sorted(installed.rglob("*.py")) == files
        pip(commands, "install", "--no-index", built["echo_env.whl"])
        pip(commands, "uninstall", "--yes", "stepwire")
        version, folder = check(commands / "python")
        assert version != "7.8.9"
        assert folder == _packages(commands) / "echo_env" / "runtime" / "stepwire"

    def test_one_that_is_too_old_is_named(
        self,
        make_stepwire: Callable[[str], Path],
        built: dict[str, Path],
        environment_with_dependencies: Callable[..., Path],
        pip: Callable[..., None],
        run: Run,
    ) -> None:
        commands = environment_with_dependencies(with_pip=True)
        pip(commands, "install", "--no-index", make_stepwire("0.0.9"), built["echo_env.whl"])
        done = run("-c", "import echo_env", python=commands / "python")
        assert done.stderr.splitlines()[-1] == (
            "ImportError: echo_env needs stepwire 0.1 or later, but stepwire 0.0.9 is installed. "
            "Upgrade it, or uninstall it: echo_env then uses its own copy."
        )
