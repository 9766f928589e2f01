# SPDX-License-Identifier: BSD-3-Clause
"""`guess_number`: the whole of an author's package that depends on the two wheels.

What it defines, `stepwire` serves, drives and checks; nothing of echo shows.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from stepwire.testing import Server

pytestmark = pytest.mark.slow

_ORDERS = [("echo_env", "guess_number"), ("guess_number", "echo_env")]

Installed = Callable[..., Path]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def package(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The author's folder."""
    folder = tmp_path_factory.mktemp("author") / "guess_number"
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*", "uv.lock")
    return Path(
        shutil.copytree(root / "tests" / "installing" / "guess_number", folder, ignore=unwanted)
    )


@pytest.fixture(scope="module")
def wheels(
    package: Path, built: dict[str, Path], uv: Callable[..., str], tmp_path_factory: Any
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", folder, package, cwd=folder)
    return {
        "echo_env": built["echo_env.whl"],
        "stepwire": built["stepwire.whl"],
        "guess_number": next(folder.glob("*.whl")),
    }


@pytest.fixture(scope="module", params=_ORDERS, ids=" then ".join)
def pip(
    request: pytest.FixtureRequest,
    environment_with_dependencies: Callable[..., Path],
    wheels: dict[str, Path],
    run: Run,
) -> Run:
    """pip of an environment with all three wheels, installed one after the other."""
    commands = environment_with_dependencies(with_pip=True)

    def run_pip(*arguments: str | Path) -> Path:
        done = run("-m", "pip", *arguments, python=commands / "python")
        assert done.returncode == 0, done.stdout + done.stderr
        return commands

    for name in ("stepwire", *request.param):
        run_pip("install", "--no-index", "--no-deps", wheels[name])
    run_pip("check")
    return run_pip


@pytest.fixture(scope="module")
def commands(pip: Run) -> Path:
    """The `bin` folder of that environment."""
    return Path(pip("--version"))


@pytest.fixture
def served(start_server: Callable[..., Server], commands: Path) -> Server:
    """What the command `server` serves."""
    return start_server(command=[str(commands / "server"), "--port", "{port}"])


def _environment(server: Server) -> str:
    name: str = requests.get(f"{server.url}/metadata", timeout=60).json()["name"]
    return name


def test_it_is_small(root: Path, package: Path) -> None:
    files = [path for path in package.rglob("*") if path.is_file()]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 220


def test_the_server_command_serves_it_whichever_was_installed_last(served: Server) -> None:
    assert _environment(served) == "GuessNumberEnvironment"
    assert served.log.count("server: serving") == 0


def test_each_module_serves_its_own_environment(
    commands: Path, start_server: Callable[..., Server]
) -> None:
    for module, environment in (
        ("guess_number.server.app", "GuessNumberEnvironment"),
        ("echo_env.server.app", "EchoEnvironment"),
    ):
        command = [str(commands / "python"), "-m", module, "--port", "{port}"]
        assert _environment(start_server(command=command)) == environment


def test_its_version_is_that_of_its_own_distribution(commands: Path, run: Run) -> None:
    done = run("--version", python=commands / "server")
    assert done.stdout == "openenv-guess-number 1.2.3\n", done.stderr


def test_its_own_tests_pass(commands: Path, package: Path, run: Run) -> None:
    done = run("-m", "pytest", "-q", "tests", python=commands / "python", cwd=package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_it_conforms(commands: Path, served: Server, run: Run) -> None:
    kit = ("-m", "stepwire.conformance", served.url, "--timeout", "60")
    done = run(*kit, python=commands / "python")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " failed" not in done.stdout.splitlines()[-1]


@pytest.mark.trainer
def test_gymnasium_plays_it(commands: Path, run: Run) -> None:
    code = """
import gymnasium
from guess_number import GuessNumber
from stepwire.integrations.gymnasium import register

register("GuessNumber-v0", GuessNumber)
with gymnasium.make("GuessNumber-v0") as env:
    env.reset(seed=3)
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
envs = gymnasium.make_vec("GuessNumber-v0", num_envs=3)
envs.reset(seed=3)
rewards = envs.step(envs.action_space.sample())[1]
envs.close()
print(sorted(observation), terminated, truncated, rewards.shape)
"""
    done = run("-c", code, python=commands / "python")
    assert done.stdout == "['answer', 'guesses_left'] False False (3,)\n", done.stderr


def test_without_echo_env_it_goes_on(
    pip: Run, wheels: dict[str, Path], start_server: Callable[..., Server]
) -> None:
    commands = pip("uninstall", "--yes", "openenv-echo-env")
    # Whichever was installed last, pip removes the one file that both commands are.
    command = [str(commands / "python"), "-m", "guess_number.server.app", "--port", "{port}"]
    assert _environment(start_server(command=command)) == "GuessNumberEnvironment"
    pip("install", "--no-index", "--no-deps", wheels["echo_env"])


def test_without_it_echo_env_goes_on_with_stepwire_and_without(
    pip: Run, wheels: dict[str, Path], start_server: Callable[..., Server]
) -> None:
    commands = pip("uninstall", "--yes", "openenv-guess-number")
    echo = [str(commands / "python"), "-m", "echo_env.server.app", "--port", "{port}"]
    assert _environment(start_server(command=echo)) == "EchoEnvironment"
    pip("uninstall", "--yes", "stepwire")
    assert _environment(start_server(command=echo)) == "EchoEnvironment"
    for name in ("stepwire", "guess_number"):
        pip("install", "--no-index", "--no-deps", wheels[name])


def test_uv_runs_its_server_and_its_tests_in_its_own_project(
    package: Path,
    wheels: dict[str, Path],
    uv: Callable[..., str],
    start_server: Callable[..., Server],
) -> None:
    settings = {
        "UV_FIND_LINKS": str(wheels["stepwire"].parent),
        "UV_PROJECT_ENVIRONMENT": str(package.parent / "environment"),
        "VIRTUAL_ENV": "",
    }
    assert "8 passed" in uv("run", "--quiet", "pytest", "-q", cwd=package, env=settings)
    command = [shutil.which("uv") or "uv", "run", "server", "--port", "{port}"]
    server = start_server(command=command, cwd=package, env=settings)
    assert _environment(server) == "GuessNumberEnvironment"
