# SPDX-License-Identifier: BSD-3-Clause
"""Runs blocks of documents: Python as a program, shell lines in a clone of the repository."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from document import ADDRESS, ROOT, Block, Document
from stepwire.new import create_environment
from stepwire.testing.servers import without_settings

_PATIENCE_S = 300.0


@pytest.fixture(scope="session")
def clone(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone to run shell blocks in, which may write to it."""
    folder = Path(shutil.copytree(checkout, tmp_path_factory.mktemp("shell") / "echo"))
    shutil.copy(ROOT / ".gitignore", folder)
    return folder


@pytest.fixture(scope="session")
def shell_variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a shell that has `uv` and where no environment is activated.

    `uv run` takes the environment of the tests for that of the clone, instead of making another.
    """
    programs = tmp_path_factory.mktemp("bin")
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "these tests need uv: pip install uv"
    (programs / "uv").symlink_to(uv)
    if shutil.which("curl") is None:
        write_program(programs / "curl", (ROOT / "tests/stand_in_curl.py").read_text("utf-8"))
    variables = without_settings()
    activated = variables.pop("VIRTUAL_ENV", sys.prefix)
    searched = variables["PATH"].split(os.pathsep)
    searched = [folder for folder in searched if not Path(folder).is_relative_to(activated)]
    return variables | {
        "PATH": os.pathsep.join([str(programs), *searched]),
        "UV_PROJECT_ENVIRONMENT": sys.prefix,
        "UV_NO_SYNC": "1",
    }


def write_program(path: Path, code: str) -> None:
    # Read by the shell, then by Python: a `#!` line cannot name an interpreter in "my folder/".
    path.write_text(f"""#!/bin/sh\n'''exec' "{sys.executable}" "$0" "$@"\n' '''\n{code}""")
    path.chmod(0o755)


@pytest.fixture
def run_shell(clone: Path, shell_variables: dict[str, str]) -> Callable[..., str]:
    """Runs shell lines in the clone and returns what they print."""

    def run_lines(code: str, cwd: Path = clone, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=shell_variables | more,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_lines


@pytest.fixture
def run_python(server: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a block in an empty namespace and returns what it prints; a warning fails it."""

    def run_program(code: str, url: str = server.url) -> str:
        capsys.readouterr()
        exec(compile(code.replace(ADDRESS, url), "<block>", "exec"), {"__name__": "__main__"})
        printed, complaints = capsys.readouterr()
        assert not complaints
        return printed

    return run_program


@pytest.fixture
def run_block(run_python: Any, run_shell: Any, server: Any) -> Callable[[Block], str]:
    """Runs a block as printed, against the tests' server, and returns what it prints."""

    def run_one(block: Block) -> str:
        if block.language == "python":
            return str(run_python(block.code))
        assert block.language == "bash", f"a block of {block.language} needs a test of its own"
        return str(run_shell(block.code.replace(ADDRESS, server.url)))

    return run_one


@pytest.fixture
def game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package `guess_number` of `docs/author.md`, where Python finds it."""
    page = Document("docs/author.md")
    folder = create_environment("guess_number", tmp_path)
    for file, name in (
        ("models.py", "2. Declare the action, observation and state, 1"),
        ("server/guess_number_environment.py", "3. Write the environment, 1"),
        ("tests/test_guess_number.py", "4. Test it, 1"),
        ("tasks.py", "5. Add a tool and tasks, 1"),
    ):
        assert f"`{file}`" in page.text
        (folder / file).write_text(page.code(name), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))  # for the server
    yield folder
    for module in [name for name in sys.modules if name.split(".")[0] == "guess_number"]:
        del sys.modules[module]


@pytest.fixture
def serve_block(
    clone: Path, shell_variables: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Runs shell lines that serve until they are stopped; returns the server's address."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(code: str, port: int, cwd: Path = clone, **more: str) -> str:
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euc", code],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=shell_variables | more,
                start_new_session=True,
            )
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                assert b"healthy" in requests.get(f"{url}/health", timeout=10).content
                return url
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.05)
        raise AssertionError(log.read_text("utf-8"))

    yield serve
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_PATIENCE_S)


@pytest.fixture(scope="session")
def documented_image(clone: Path, shell_variables: dict[str, str]) -> str:
    """The image that the README's line builds, for tests marked `engine`."""
    build = Document("README.md").code("Docker and Hugging Face Spaces, 1").splitlines()[0]
    subprocess.run(
        ["bash", "-euc", build], cwd=clone, env=shell_variables, timeout=_PATIENCE_S, check=True
    )
    return "echo-env:latest"


@pytest.fixture
def push_to_stand_in(run_shell: Any, clone: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs `openenv push` lines against a stand-in for the Hub; returns what it kept."""

    def push(code: str, cwd: Path = clone) -> Path:
        program = tmp_path / "openenv"
        write_program(program, (ROOT / "tests" / "stand_in_hub.py").read_text("utf-8"))
        kept = tmp_path / "uploads"
        kept.mkdir()
        assert "uv run openenv push" in code
        run_shell(code.replace("uv run openenv", f"'{program}'"), cwd, UPLOADS=str(kept))
        return kept

    return push
