# SPDX-License-Identifier: BSD-3-Clause
"""What `stepwire.new` writes is used as its README says, unchanged, on both frameworks.

`tests/test_new_images.py` builds and runs its image.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from stepwire.new import create_environment
from stepwire.testing import Server

pytestmark = pytest.mark.slow

_KINDS: dict[str, Any] = {"guess_number": {}, "maze_env": {"like": "openenv"}}

Run = Callable[..., Any]
Uv = Callable[..., str]


@pytest.fixture(scope="module", params=_KINDS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment for each framework."""
    return create_environment(
        request.param, tmp_path_factory.mktemp("new"), **_KINDS[request.param]
    )


@pytest.fixture(scope="module")
def in_package(package: Path, uv: Uv) -> Callable[..., str]:
    """Runs uv in the folder of the environment, with an environment of its own."""

    def run_uv(*arguments: str | Path) -> str:
        return uv(*arguments, cwd=package, env=_SETTINGS)

    run_uv("sync", "--quiet")
    return run_uv


_SETTINGS = {"VIRTUAL_ENV": "", "UV_PROJECT_ENVIRONMENT": ".venv", "PYTHONPATH": ""}


@pytest.fixture(scope="module")
def served(
    package: Path, in_package: Callable[..., str], start_shared_server: Callable[..., Server]
) -> Server:
    """What `uv run server` serves."""
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    command = [uv, "run", "server", "--port", "{port}"]
    return start_shared_server(command=command, cwd=package, env=_SETTINGS)


def _block(package: Path, heading: str) -> str:
    """The first code block below a heading of the README."""
    section = (package / "README.md").read_text("utf-8").split(f"## {heading}\n", 1)[1]
    found = re.search(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def test_the_commands_are_those_of_the_readme(package: Path) -> None:
    text = (package / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 80
    assert _block(package, "Run it") == "pip install uv && uv run server\n"
    assert "```bash\nuv run pytest\n```" in text
    assert _block(package, "Share it").splitlines() == [
        "uv lock && uv run openenv validate",
        "uv run openenv build",
        f"uv run openenv push --repo-id my-org/{package.name.replace('_', '-')}",
    ]


def test_its_tests_pass(in_package: Callable[..., str]) -> None:
    assert "8 passed" in in_package("run", "pytest", "-q")


def test_it_is_valid(package: Path, in_package: Callable[..., str]) -> None:
    in_package("lock")
    printed = in_package("run", "openenv", "validate")
    if package.name == "maze_env":
        assert "PASS  static.manifest" in printed
        assert "FAIL" not in printed
    else:
        assert printed.endswith(": Ready for multi-mode deployment\n")


def test_the_readmes_episode_prints_what_it_says(
    package: Path, in_package: Callable[..., str]
) -> None:
    printed = in_package("run", "python", "-W", "error", "-c", _block(package, "Play it"))
    assert printed == "Hello 0.5\n"
    assert f"It prints\n\n```text\n{printed}```" in (package / "README.md").read_text("utf-8")


def test_it_conforms_and_has_its_pages(served: Server, in_package: Callable[..., str]) -> None:
    assert requests.get(f"{served.url}/metadata", timeout=60).json()["version"] == "0.1.0"
    for path in ("/web", "/docs"):
        assert requests.get(served.url + path, timeout=60).ok
    kit = in_package("run", "python", "-m", "stepwire.conformance", served.url, "--timeout", "60")
    assert re.fullmatch(r"\d+ passed", kit.splitlines()[-1]), kit


def test_the_framework_finds_it_by_its_name(
    package: Path, served: Server, in_package: Callable[..., str], tmp_path: Path
) -> None:
    code = """
import os, sys, tempfile
tempfile.tempdir = os.environ["XDG_CACHE_HOME"] = sys.argv[3]  # their caches
from openenv.auto import AutoAction, AutoEnv

action_class = AutoAction.from_env(sys.argv[1])
with AutoEnv.from_env(sys.argv[1], base_url=sys.argv[2]) as env:
    env.reset()
    print(env.step(action_class(message="Hi")).observation.echoed_message, type(env).__module__)
"""
    name = package.name.removesuffix("_env")
    printed = in_package("run", "python", "-c", code, name, served.url, tmp_path)
    assert printed == f"Hi {package.name}.client\n"


@pytest.mark.trainer
def test_gymnasium_plays_it(package: Path, in_package: Callable[..., str]) -> None:
    client = "".join(word.title() for word in package.name.removesuffix("_env").split("_")) + "Env"
    code = f"""
import gymnasium
from {package.name} import {client}
from stepwire.integrations.gymnasium import register

register("New-v0", {client})
envs = gymnasium.make_vec("New-v0", num_envs=2)
envs.reset(seed=3)
print(envs.step(envs.action_space.sample())[1].shape)
envs.close()
"""
    with_gymnasium = ("run", "--with", "gymnasium", "python", "-c", code)
    assert in_package(*with_gymnasium) == "(2,)\n"


# In one environment with echo, the last one installed owns the file `server`.
_TOGETHER = ("echo_env", "guess_number", "maze_env", "tower")


@pytest.fixture(scope="module")
def commands(
    built: dict[str, Path],
    environment_with_dependencies: Callable[..., Path],
    uv: Uv,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The `bin` folder of an environment with all of them; one has a copy of `stepwire`."""
    folder = tmp_path_factory.mktemp("together")
    bin_folder: Path = environment_with_dependencies()
    for name in _TOGETHER[1:]:
        runtime: Any = "vendor" if name == "tower" else "index"
        package = create_environment(name, folder, runtime=runtime)
        uv("build", "--wheel", "--out-dir", folder / "dist", package, cwd=folder)
    wheels = [built["stepwire.whl"], built["echo_env.whl"], *(folder / "dist").glob("*.whl")]
    install = ("pip", "install", "--offline", "--no-deps", "--python", bin_folder / "python")
    uv(*install, *wheels, cwd=folder)
    return bin_folder


def _served(server: Server) -> str:
    title: str = requests.get(f"{server.url}/openapi.json", timeout=60).json()["info"]["title"]
    return title.partition(" ")[0]


@pytest.mark.parametrize("name", _TOGETHER)
def test_each_has_a_module_and_a_command_of_its_own(
    name: str, commands: Path, start_server: Callable[..., Server]
) -> None:
    own = [str(commands / f"{name.replace('_', '-')}-server")]
    for command in (own, [str(commands / "python"), "-m", f"{name}.server.app"]):
        server = start_server(command=[*command, "--port", "{port}"])
        assert _served(server) == name
        assert "a command `server` as well" not in server.log


def test_the_command_that_they_share_names_the_others(
    commands: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(command=[str(commands / "server"), "--port", "{port}"])
    mine = _served(server)
    assert f"server: serving {mine}. " in server.log
    for other in set(_TOGETHER) - {mine}:
        assert f"`python -m {other}.server.app` serves it" in server.log


def test_the_installed_wheel_writes_the_same(
    built: dict[str, Path],
    environment_with_dependencies: Callable[..., Path],
    uv: Uv,
    run: Run,
    tmp_path: Path,
) -> None:
    commands = environment_with_dependencies()
    install = ("pip", "install", "--offline", "--no-deps", "--python", commands / "python")
    uv(*install, built["stepwire.whl"], cwd=tmp_path)
    done = run("-m", "stepwire.new", "guess_number", cwd=tmp_path, python=commands / "python")
    assert done.returncode == 0, done.stderr
    (tmp_path / "clone").mkdir()
    expected = create_environment("guess_number", tmp_path / "clone")
    for path in [path for path in expected.rglob("*") if path.is_file()]:
        written = (tmp_path / "guess_number" / path.relative_to(expected)).read_bytes()
        assert path.suffix == ".whl" or written == path.read_bytes(), path


def test_plain_pip_installs_it_with_the_wheel_beside_it(
    environment_with_dependencies: Callable[..., Path], run: Run, tmp_path: Path
) -> None:
    package = create_environment("guess_number", tmp_path)
    comment = "pip install --find-links wheels ."
    assert f"`{comment}`" in (package / "pyproject.toml").read_text("utf-8")
    commands = environment_with_dependencies(with_pip=True)
    done = run("-m", *comment.split(), python=commands / "python", cwd=package)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("-m", "guess_number.server.app", "--version", python=commands / "python")
    assert done.stdout == "openenv-guess-number 0.1.0\n"


@pytest.fixture
def stock_package(run: Run, tmp_path: Path) -> Path:
    """What `openenv init` of the installed framework writes."""
    code = "import stepwire; from openenv.cli.__main__ import main; main()"
    done = run("-c", code, "init", "maze", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path / "maze"


def test_a_package_of_openenv_init_is_taken_over_and_given_back(
    stock_package: Path, run: Run, uv: Uv, start_server: Callable[..., Server]
) -> None:
    def files() -> dict[Path, bytes]:
        ignored = {".venv", "uv.lock", "__pycache__", "build"}
        found = (path for path in stock_package.rglob("*") if path.is_file())
        return {
            path: path.read_bytes()
            for path in found
            if not ignored & set(path.parts) and ".egg-info" not in str(path)
        }

    before = files()
    done = run("-m", "stepwire.new", "--from", stock_package, "--write")
    assert done.returncode == 0, done.stderr
    uv("lock", cwd=stock_package, env=_SETTINGS)
    # The author's own `main` takes no options.
    command = [os.environ.get("UV") or "uv", "run", "uvicorn", "maze.server.app:app"]
    command += ["--port", "{port}"]
    server = start_server(command=command, cwd=stock_package, env=_SETTINGS)
    assert requests.get(f"{server.url}/ready", timeout=60).ok  # a route of stepwire
    assert requests.post(f"{server.url}/reset", json={}, timeout=60).json()["reward"] == 0.0
    done = run("-m", "stepwire.new", "--undo", stock_package)
    assert done.returncode == 0, done.stderr
    assert files() == before
