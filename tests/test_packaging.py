# SPDX-License-Identifier: BSD-3-Clause
"""What is built, locked and committed: both wheels, `requirements.lock`, the files in git."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import echo_env
from stepwire.new.template import template_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DISTRIBUTION = "openenv-echo-env"
_EXPORT = (
    "export --no-dev --extra metrics --no-emit-workspace --no-header --no-annotate"
    " --prune gradio --prune huggingface-hub --prune openai --prune typer --prune tomli"
    " --prune tomli-w --prune cyclopts --prune keyring"
)
# Addresses of a package index or of a file in one, and folders of one machine.
_UNWANTED = re.compile(
    r"https?://[^\s\"']+(?:/simple\b|[.]whl\b|[.]tar[.]gz\b)|/(?:root|work|Users|home/\w+)/[.\w]"
)

Run = Callable[..., subprocess.CompletedProcess[str]]


def _project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return _project(root)


@pytest.fixture(scope="module")
def installed(
    built: dict[str, Path],
    uv: Callable[..., str],
    environment_with_dependencies: Callable[..., Path],
) -> Path:
    """The `bin` folder of an environment with echo's wheel and its dependencies, no `stepwire`."""
    commands: Path = environment_with_dependencies()
    uv(
        *("pip", "install", "--no-deps", "--offline"),
        *("--python", commands / "python", built["echo_env.whl"]),
        cwd=commands,
    )
    return commands


def _packed(wheel: Path) -> set[Path]:
    with zipfile.ZipFile(wheel) as archive:
        return {Path(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheels_hold_their_packages_and_nothing_else(
    committed: list[Path], built: dict[str, Path]
) -> None:
    runtime = {path for path in committed if path.parts[:2] == ("runtime", "stepwire")}
    own = {path for path in committed if path.suffix == ".py" and len(path.parts) < 2}
    own |= {path for path in committed if path.suffix == ".py" and path.parts[:-1] == ("server",)}
    echo_env = (own | runtime | {Path("openenv.yaml"), Path("py.typed")}) - {Path("setup.py")}
    assert _packed(built["echo_env.whl"]) == {"echo_env" / path for path in echo_env}
    template = Path("stepwire/new/packed_template")
    packed = _packed(built["stepwire.whl"])
    assert {path.relative_to(template) for path in packed if template in path.parents} == {
        Path(path) for path in template_files()
    }
    packed = {path for path in packed if template not in path.parents}
    assert packed == {path.relative_to("runtime") for path in runtime}


def test_echo_env_depends_on_what_the_copy_of_stepwire_needs(root: Path) -> None:
    needed = _project(root / "runtime")["dependencies"]
    assert _project(root)["dependencies"] == ["openenv-core>=0.3.0", *needed]


def test_the_extras_that_both_packages_have_are_the_same(root: Path) -> None:
    of_echo_env = _project(root)["optional-dependencies"]
    of_stepwire = _project(root / "runtime")["optional-dependencies"]
    assert of_echo_env == of_stepwire | {"demo": of_echo_env["demo"]}


@pytest.mark.slow
def test_the_wheel_carries_the_licence_and_the_readme(
    root: Path, built: dict[str, Path], project: dict[str, object]
) -> None:
    with zipfile.ZipFile(built["echo_env.whl"]) as wheel:
        info = f"openenv_echo_env-{project['version']}.dist-info"
        assert wheel.read(f"{info}/licenses/LICENSE") == (root / "LICENSE").read_bytes()
        metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: BSD-3-Clause" in metadata
    assert metadata.endswith((root / "README.md").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("package", ["echo_env", "stepwire"])
def test_the_source_archive_holds_what_a_packager_looks_for(
    package: str, built: dict[str, Path]
) -> None:
    with tarfile.open(built[f"{package}.gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_licences_are_the_same(root: Path) -> None:
    assert (root / "runtime" / "LICENSE").read_text() == (root / "LICENSE").read_text()


@pytest.mark.slow
def test_the_installed_wheel_serves(
    installed: Path, start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    server = start_server(command=[str(installed / "server"), "--port", "{port}"])
    observed = connect(server.ws_url).step(message="Hi")
    assert observed["data"]["observation"]["echoed_message"] == "Hi"


@pytest.mark.slow
def test_the_wheel_alone_uses_the_copy_of_stepwire(installed: Path, run: Run) -> None:
    code = "import echo_env, stepwire, stepwire.client; print(echo_env.__file__, stepwire.__file__)"
    done = run("-W", "error", "-c", code, python=installed / "python")
    package = next(installed.parent.glob("lib/python*/site-packages")) / "echo_env"
    copy = package / "runtime" / "stepwire"
    assert done.stdout == f"{package / '__init__.py'} {copy / '__init__.py'}\n", done.stderr


@pytest.mark.slow
def test_the_server_command_tells_its_version(
    installed: Path,
    run: Run,
    project: dict[str, object],
) -> None:
    done = run("--version", python=installed / "server")
    assert (done.returncode, done.stdout) == (0, f"{_DISTRIBUTION} {project['version']}\n")


# The framework finds an environment by its distribution's name, by the manifest in the package and
# by the names of classes in `echo_env.client`. It keeps what it finds in a file that never expires.
@pytest.mark.slow
def test_the_framework_finds_the_installed_wheel_by_name(
    installed: Path, server: Any, run: Run, tmp_path: Path
) -> None:
    code = """
import sys
from openenv.auto import AutoAction, AutoEnv

action_class = AutoAction.from_env("echo")
with AutoEnv.from_env("echo", base_url=sys.argv[1]) as env:
    env.reset()
    observation = env.step(action_class(message="Hi")).observation
print(type(env).__name__, type(observation).__name__, observation.echoed_message)
"""
    caches = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = run("-c", code, server.url, python=installed / "python", env=caches)
    assert done.stdout == "EchoEnv EchoObservation Hi\n", done.stderr


def test_the_version_is_the_same_everywhere(root: Path, project: dict[str, object]) -> None:
    manifest = yaml.safe_load((root / "openenv.yaml").read_text())
    newest = re.search(r"^## \[?v?(\d[^\s\]]*)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert {manifest["version"], newest[1]} == {project["version"]}


def test_what_the_package_exports() -> None:
    assert sorted(echo_env.__all__) == [
        "CallToolAction",
        "CapacityReachedError",
        "CommandNotFoundError",
        "ConnectFailedError",
        "DockerUnavailableError",
        "EchoAction",
        "EchoEnv",
        "EchoEnvPool",
        "EchoObservation",
        "EnvClientError",
        "ImageNotFoundError",
        "InvalidActionError",
        "InvalidOptionError",
        "ListToolsAction",
        "LostEpisodesError",
        "PortTakenError",
        "ProtocolViolationError",
        "ReplyTimeoutError",
        "ServerError",
        "ServerExitedError",
        "ServerNotHealthyError",
        "ServerStartError",
        "SessionLostError",
        "UsageError",
        "verify_stamp",
    ]
    for name in echo_env.__all__:
        assert getattr(echo_env, name).__name__ == name


def test_the_lock_holds_what_uv_resolves(
    root: Path, uv: Callable[..., str], tmp_path: Path
) -> None:
    # `uv run` writes `uv.lock`; the last file has the version of `stepwire`.
    for name in (
        *("pyproject.toml", "uv.lock"),
        *("runtime/pyproject.toml", "runtime/README.md", "runtime/stepwire/__init__.py"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (root / name).exists():
            shutil.copy(root / name, tmp_path / name)
    resolved = uv(*_EXPORT.split(), cwd=tmp_path)
    locked = (root / "requirements.lock").read_text()
    assert _pins(resolved) == _pins(locked), (
        f"requirements.lock is stale. Refresh it: uv {_EXPORT} --quiet > requirements.lock"
    )


def test_the_lock_holds_pins_and_hashes_only(root: Path) -> None:
    # `uv` changes the text of a marker from time to time, so the test above does not compare them.
    pins = _pins((root / "requirements.lock").read_text())
    assert all(re.fullmatch(r"[a-z\d-]+==[\w.+!]+", pin) for pin in pins)
    assert all(
        re.fullmatch("[a-f0-9]{64}", digest) for digests in pins.values() for digest in digests
    )
    assert all(pins.values())


def test_the_command_that_refreshes_the_lock_is_documented(root: Path) -> None:
    text = re.sub(r" \\\n +", " ", (root / "CONTRIBUTING.md").read_text())
    assert f"\nuv {_EXPORT} --quiet > requirements.lock\n" in text


@pytest.mark.slow
@pytest.mark.skipif(
    not list(metadata.distributions(name="openenv-core")),
    reason="requirements.lock is for `openenv-core`; `openenv` has another FastMCP",
)
def test_what_the_lock_leaves_out_is_not_missed(
    root: Path, start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    server = start_server(
        command=[sys.executable, "-c", _WITHOUT_WHAT_IS_NOT_LOCKED, str(root), "--port", "{port}"]
    )
    observed = connect(server.ws_url).step(message="Hi")
    assert observed["data"]["observation"]["echoed_message"] == "Hi"
    for path in ("/web", "/docs", "/openapi.json", "/metadata", "/schema"):
        assert requests.get(server.url + path, timeout=60).ok, path
    tools = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert requests.post(f"{server.url}/mcp", json=tools, timeout=60).json()["result"]["tools"]


# The server in an interpreter in which nothing can be imported that `requirements.lock` leaves out,
# after the whole framework was, as an environment's author may.
_WITHOUT_WHAT_IS_NOT_LOCKED = """
import re, runpy, sys
from importlib import metadata
from pathlib import Path

def normal(name):
    return re.sub("[-_.]+", "-", name).lower()

lock = Path(sys.argv.pop(1), "requirements.lock").read_text()
kept = {*re.findall("^([a-z0-9-]+)==", lock, re.M), "openenv", "openenv-echo-env", "stepwire"}
modules = {True: set(), False: set()}
for distribution in metadata.distributions():
    files = [file for file in distribution.files or () if file.suffix in (".py", ".so")]
    is_kept = normal(distribution.metadata["Name"]) in kept
    modules[is_kept] |= {file.parts[0].partition(".")[0] for file in files}
absent = modules[False] - modules[True]
assert {"gradio", "openai", "typer"} <= absent

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import openenv.core.env_server
from openenv.core import EnvClient
from openenv.core.env_server.mcp_environment import MCPEnvironment
runpy.run_module("echo_env.server.app", run_name="__main__", alter_sys=True)
"""


def _pins(requirements: str) -> dict[str, set[str]]:
    """The sha256 digests of each `name==version`."""
    entries = requirements.replace("\\\n", " ").splitlines()
    return {
        entry.partition(" ")[0]: set(re.findall(r"--hash=sha256:(\S+)", entry)) for entry in entries
    }


def test_no_committed_file_names_a_registry_or_a_path_of_one_machine(
    root: Path, committed: list[Path]
) -> None:
    found = {
        f"{path}: {match[0]}"
        for path in committed
        for match in _UNWANTED.finditer((root / path).read_text(errors="ignore"))
    }
    assert not found
