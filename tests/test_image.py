# SPDX-License-Identifier: BSD-3-Clause
"""The image, built and run by a real engine: `tests/engine.sh --base-image pytest -m engine`.

`runtime/tests/client/test_launch.py` tests what a client does with it, `documents/test_readme.py`
the README's commands, `test_openenv_cli.py` the framework's.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from containers import Container, docker, inspect, running_container

pytestmark = pytest.mark.engine

_PATIENCE_S = 300.0  # until a test calls a wait a hang
_MOST_BYTES = 450_000_000  # the base image included
_CHECK_OFTEN = "--health-interval=0.5s"


def _base_image() -> str:
    dockerfile = Path(__file__).resolve().parent.parent / "server" / "Dockerfile"
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    assert found
    return found[1]


def _build(folder: Path, tag: str, *options: str) -> str:
    docker("build", "--quiet", "--tag", tag, "--file", "server/Dockerfile", *options, folder)
    return tag


@pytest.fixture
def run_image() -> Iterator[Callable[..., Container]]:
    """Runs an image: `run_image("name:tag", "--read-only", command=["server", …], port=8000)`."""
    with ExitStack() as containers:

        def run(name: str, *options: str, **how: Any) -> Container:
            return containers.enter_context(running_container(name, *options, **how))

        yield run


@pytest.fixture
def start_container(image: str, run_image: Callable[..., Container]) -> Callable[..., Container]:
    """Runs the image: `start_container("--read-only", …)`."""
    return partial(run_image, image)


@pytest.fixture(scope="module")
def files(image: str) -> list[str]:
    """Every file and folder of the image."""
    return docker("run", "--rm", "--user=0", image, "find", "/", "-xdev").splitlines()


_SECRET = "planted-8d1f0c"
_SECRET_FILES = (
    "credentials.json", "wandb/key.txt", "wheels/key.txt", ".env", ".git/config", "id_rsa",
    "notes/.netrc",
    "server/.env", "server/credentials.json", "server/keys/key.pem", "outputs/run.log",
    "runtime/key.pem", "runtime/stepwire/token.txt", "runtime/stepwire/keys/key.txt",
    "runtime/stepwire/server/pages/web/key.pem", "runtime/stepwire/conformance/vectors/key.json",
)  # fmt: skip


@pytest.mark.parametrize("has_dockerignore", [True, False])
def test_no_layer_holds_what_lies_beside_the_code(
    source: Path, root: Path, tmp_path: Path, has_dockerignore: bool
) -> None:
    """Not even one that a later layer hides. A Space is built without `.dockerignore`."""
    folder = shutil.copytree(source, tmp_path / "planted")
    if has_dockerignore:
        shutil.copy(root / ".dockerignore", folder)
    for name in _SECRET_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(_SECRET)
    tag = _build(folder, "echo-env:planted")
    docker("save", "--output", tmp_path / "saved.tar", tag)
    found = _files_with_secrets(tmp_path / "saved.tar")
    docker("image", "rm", tag)
    assert found == []


def _files_with_secrets(archive: Path) -> list[str]:
    """The files of an image's archive that are named like a planted one or hold the secret."""
    found = []
    with tarfile.open(archive) as saved:
        for blob in filter(tarfile.TarInfo.isfile, saved):
            content = saved.extractfile(blob)
            assert content is not None
            with suppress(tarfile.ReadError), tarfile.open(fileobj=content) as layer:
                for file in filter(tarfile.TarInfo.isfile, layer):
                    text = layer.extractfile(file)
                    assert text is not None
                    if file.name.endswith(_SECRET_FILES) or _SECRET.encode() in text.read():
                        found.append(file.name)
                continue
            content.seek(0)  # not a layer
            if _SECRET.encode() in content.read():
                found.append(blob.name)
    return found


class TestContents:
    def test_it_is_small_with_the_base_it_builds_on(self, image: str) -> None:
        assert inspect(image)["Size"] <= _MOST_BYTES

    def test_it_holds_no_caches_build_tools_or_tests(self, image: str, files: list[str]) -> None:
        environment = [path for path in files if path.startswith("/app/")]
        unwanted = ("setuptools", "pip", "wheel", "pytest", "gradio", "pandas", "numpy", "build")
        assert not [path for path in environment if Path(path).name in unwanted]
        assert not [path for path in files if ".cache" in Path(path).parts]
        assert not [path for path in files if path.startswith("/tmp/")]
        assert not [path for path in environment if path.endswith((".egg-info", "uv.lock"))]

    def test_what_the_server_imports_is_compiled(self, files: list[str]) -> None:
        # In the image: a container may not be able to write it.
        compiled = {Path(path).parts[-3:-1] for path in files if path.endswith(".pyc")}
        for package in ("fastapi", "pydantic", "fastmcp", "echo_env", "stepwire", "uvicorn_host"):
            assert (package, "__pycache__") in compiled

    def test_its_labels_are_those_of_the_project(self, image: str, root: Path) -> None:
        manifest = yaml.safe_load((root / "openenv.yaml").read_text())
        labels = inspect(image)["Config"]["Labels"]
        prefix = "org.opencontainers.image."
        assert {name.removeprefix(prefix): text for name, text in labels.items()} == {
            "title": "openenv-echo-env",
            "description": "The echo environment for OpenEnv",
            "version": manifest["version"],
            "licenses": "BSD-3-Clause",
        }

    def test_a_change_of_the_code_leaves_the_dependencies_in_the_cache(
        self, image: str, source: Path
    ) -> None:
        application = source / "server" / "app.py"
        application.write_text(f"{application.read_text()}# changed\n")
        changed = inspect(_build(source, "echo-env:changed"))["RootFS"]["Layers"]
        layers = inspect(image)["RootFS"]["Layers"]
        common = os.path.commonprefix([layers, changed])
        assert len(common) >= len(layers) - 1  # what is made of the code
        docker("image", "rm", "echo-env:changed")


class TestServing:
    def test_it_is_not_root(self, start_container: Callable[..., Container]) -> None:
        container = start_container()
        assert container.run("id") == "uid=1000 gid=1000 groups=1000"
        assert container.python("import os; print(os.stat('/proc/1').st_uid)") == "1000"

    def test_any_other_user_can_run_it(self, start_container: Callable[..., Container]) -> None:
        container = start_container("--user=1234567:0", "--read-only", _CHECK_OFTEN)
        container.wait_until_it_is_healthy()

    def test_the_server_is_the_first_process(
        self, start_container: Callable[..., Container]
    ) -> None:
        command = start_container().python("print(open('/proc/1/cmdline').read())")
        assert command.replace("\0", " ").split()[-1].endswith("/server")

    def test_200_sessions_with_256_megabytes_and_nothing_to_write_to(
        self, root: Path, start_container: Callable[..., Container], connect: Callable[..., Any]
    ) -> None:
        """Run as `docs/operating.md` says, but under no name, and on a free port."""
        page = (root / "docs" / "operating.md").read_text()
        section = page.split("## In a container\n", 1)[1]
        block = section.split("```bash\n", 1)[1].split("```", 1)[0].replace("\\\n", " ")
        options = block.replace("--publish 127.0.0.1:8000:8000", "").replace("--name echo-env", "")
        *command, image = shlex.split(options)
        assert command[:3] == ["docker", "run", "--detach"]
        assert image == "echo-env:latest"
        assert {"--read-only", "256m", "MAX_CONCURRENT_ENVS=200"} <= set(command)
        container = start_container("--user=1000", *command[3:])
        sessions = [connect(container.ws_url) for _ in range(200)]
        for number, session in enumerate(sessions):
            observed = session.step(message=f"session {number}")["data"]["observation"]
            assert observed["echoed_message"] == f"session {number}"
        for session in sessions:
            assert session.step(message="again")["data"]["metadata"]["step"] == 2
        state = inspect(container.name)["State"]
        assert (state["Running"], state["OOMKilled"]) == (True, False)

    def test_the_page_the_api_description_and_tools_without_any_network(
        self, start_container: Callable[..., Container]
    ) -> None:
        container = start_container("--network=none", "--read-only", _CHECK_OFTEN)
        container.wait_until_it_is_healthy()
        code = """
import urllib.request
from echo_env import EchoAction, EchoEnv

def status(path):
    return urllib.request.urlopen("http://127.0.0.1:8000" + path).status

print([status(path) for path in ("/web", "/docs", "/openapi.json", "/metadata")])
with EchoEnv("http://127.0.0.1:8000") as env:
    print(env.step(EchoAction(message="Hi")).reward, env.call_tool("echo_message", message="Ho"))
"""
        assert container.python(code).splitlines() == ["[200, 200, 200, 200]", "0.2 Ho"]

    def test_the_oracle_needs_no_more_than_the_manifest_declares(
        self, start_container: Callable[..., Container], root: Path, files: list[str]
    ) -> None:
        declared = yaml.safe_load((root / "openenv.yaml").read_text("utf-8"))["validation"]
        assert declared["network"] == {"mode": "no-network"}
        oracle = root / declared["capabilities"]["oracle"]["location"]
        assert not [path for path in files if Path(path).name == oracle.name]  # withheld
        memory = f"--memory={declared['resources']['memory_mb']}m"
        container = start_container("--network=none", "--read-only", memory, _CHECK_OFTEN)
        container.wait_until_it_is_healthy()
        earned = container.python(oracle.read_text("utf-8"))
        assert float(earned) == declared["reward"]["range"][1]

    def test_environment_variables_are_honoured(
        self, start_container: Callable[..., Container], connect: Callable[..., Any]
    ) -> None:
        variables = ("--env=PORT=9000", "--env=MAX_CONCURRENT_ENVS=1")
        container = start_container(*variables, port=9000)
        connect(container.ws_url).step(message="Hi")
        refusal = connect(container.ws_url).receive()
        assert (refusal["data"]["code"], refusal["data"]["max_sessions"]) == ("CAPACITY_REACHED", 1)

    def test_the_address_to_listen_on_may_be_set(
        self, start_container: Callable[..., Container]
    ) -> None:
        container = start_container("--env=HOST=127.0.0.1", "--network=none", _CHECK_OFTEN)
        container.wait_until_it_is_healthy()
        assert "http://127.0.0.1:8000" in container.log

    def test_options_of_the_server_may_be_given(
        self, start_container: Callable[..., Container]
    ) -> None:
        container = start_container(command=["server", "--port", "9000"], port=9000)
        assert requests.get(f"{container.url}/health", timeout=60).ok

    def test_a_bad_value_ends_it_with_one_line(self, image: str) -> None:
        command = ["docker", "run", "--rm", "--env=WORKERS=none", image]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("server: error: WORKERS (--workers)")
        assert done.stderr.count("\n") == 1


class TestHealthCheck:
    def test_a_container_that_serves_becomes_healthy(
        self, start_container: Callable[..., Container]
    ) -> None:
        container = start_container("--env=STEPWIRE_PORT=9000", _CHECK_OFTEN, port=9000)
        container.wait_until_it_is_healthy()

    def test_it_fails_where_nothing_serves(self, image: str) -> None:
        kind, *check = inspect(image)["Config"]["Healthcheck"]["Test"]
        assert kind == "CMD"
        command = ["docker", "run", "--rm", image, *check]
        assert subprocess.run(command, capture_output=True, check=False).returncode

    def test_a_proxy_of_the_container_is_not_asked(
        self, image: str, start_container: Callable[..., Container]
    ) -> None:
        container = start_container("--env=http_proxy=http://127.0.0.1:1")
        container.run(*inspect(image)["Config"]["Healthcheck"]["Test"][1:])


class TestStopping:
    def test_sigterm_lets_a_step_end_closes_the_sessions_and_ends_it(
        self, start_container: Callable[..., Container], connect: Callable[..., Any]
    ) -> None:
        container = start_container("--env=SHUTDOWN_GRACE_S=60")
        idle, busy = connect(container.ws_url), connect(container.ws_url)
        idle.step(message="Hi")
        busy.ask({"type": "reset", "data": {"scenario": {"delay_s": 3}}})
        busy.send({"type": "step", "data": {"message": "Hi"}})
        docker("kill", "--signal=TERM", container.name)
        assert idle.close_code() == 1012
        assert busy.receive()["data"]["observation"]["echoed_message"] == "Hi"
        assert busy.close_code() == 1012
        assert docker("wait", container.name) == "0"

    def test_sigterm_ends_several_workers(self, start_container: Callable[..., Container]) -> None:
        container = start_container("--env=WORKERS=2")
        deadline = time.monotonic() + _PATIENCE_S
        while container.log.count("Started server process") < 2:  # one of them is healthy first
            assert time.monotonic() < deadline
            time.sleep(0.1)
        docker("stop", "--time=60", container.name)
        assert inspect(container.name)["State"]["ExitCode"] == 0


class TestBuiltByTheFramework:
    def test_openenv_build(
        self, checkout: Path, tmp_path: Path, run_image: Callable[..., Container]
    ) -> None:
        folder = shutil.copytree(checkout, tmp_path / "echo_env")
        # As `openenv` does, once what `build` does not use is postponed.
        code = "import echo_env; from openenv.cli.__main__ import main; main()"
        subprocess.run(
            [sys.executable, "-c", code, "build"], cwd=folder, timeout=_PATIENCE_S, check=True
        )
        container = run_image("openenv-echo")
        assert requests.post(f"{container.url}/reset", timeout=60).json()["reward"] == 0.0

    @pytest.mark.parametrize("base_image", [None, "another-base:1"])
    def test_what_push_sends_to_a_stand_in_for_the_hub(
        self,
        base_image: str | None,
        push: Callable[..., list[Path]],
        image: str,
        run_image: Callable[..., Container],
        connect: Callable[..., Any],
    ) -> None:
        options = []
        if base_image:
            docker("tag", _base_image(), base_image)
            options = ["--base-image", base_image]
        (uploaded,) = push(*options)
        docker("build", "--quiet", "--tag", "echo-space:test", uploaded)
        container = run_image("echo-space:test", "--user=1000")
        for path in ("/web", "/docs", "/health"):
            assert requests.get(container.url + path, timeout=60).ok, path
        observed = connect(container.ws_url).step(message="Hi")["data"]["observation"]
        assert observed["echoed_message"] == "Hi"

    def test_the_framework_starts_it_by_the_name_of_the_environment(self, image: str) -> None:
        code = """
import sys
import echo_env
from openenv.auto import AutoAction, AutoEnv

action_class = AutoAction.from_env("echo")
with AutoEnv.from_env("echo", docker_image=sys.argv[1], wait_timeout=60) as env:
    env.reset()
    print(env.step(action_class(message="Hi")).observation.echoed_message)
"""
        command = [sys.executable, "-c", code, image]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == "Hi\n", done.stderr
