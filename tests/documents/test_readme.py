# SPDX-License-Identifier: BSD-3-Clause
"""The README's blocks, front matter and figures."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from document import ADDRESS, ROOT, Document
from echo_env import EchoObservation
from stepwire.server import Settings

page = Document("README.md")
_LOCAL = "EchoEnv.from_local()"


@pytest.mark.slow
@page.tests("Run it, 1", "Run it, 3")
def test_a_fresh_clone_serves_with_the_first_command(
    serve_block: Any, checkout: Path, tmp_path: Path, free_port: int
) -> None:
    """After the `venv` line, as on a system whose `pip` refuses."""
    clone = shutil.copytree(checkout, tmp_path / "echo")
    lines = page.code("Run it, 3") + page.code("Run it, 1")
    assert "pip install uv && uv run server\n" in lines
    variables = {"UV_NO_SYNC": "0", "UV_PROJECT_ENVIRONMENT": ".venv", "PORT": str(free_port)}
    python = {"PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    url = serve_block(lines, free_port, cwd=clone, **variables, **python)
    assert (clone / ".venv" / "bin" / "uv").exists()
    assert requests.post(f"{url}/reset", timeout=60).json()["reward"] == 0.0


@page.tests("Run it, 2")
def test_the_test_command_is_what_ci_runs() -> None:
    """Running it here would run this test again."""
    assert page.code("Run it, 2") == "pip install uv && uv run pytest\n"
    scripts = "".join(file.read_text("utf-8") for file in (ROOT / ".ci").iterdir())
    assert page.code("Run it, 2").strip() in scripts


@page.tests("Your first episode, 1")
def test_the_first_episode_runs_in_the_clone(run_shell: Callable[..., str]) -> None:
    assert "Start `uv run python` in the clone and paste:" in page.text
    block = page.blocks["Your first episode, 1"]
    block.require_printed(run_shell(f"uv run python -W error - <<'END'\n{block.code}\nEND"))


def test_the_first_episode_also_runs_on_a_server_that_is_there(run_python: Any) -> None:
    running = f'EchoEnv(base_url="{ADDRESS}")'
    assert f"`{running}` instead" in " ".join(page.text.split())
    block = page.blocks["Your first episode, 1"]
    assert _LOCAL in block.code
    block.require_printed(run_python(block.code.replace(_LOCAL, running)))


def test_the_fields_are_those_of_the_observation() -> None:
    fields = {name.strip("`"): kind for name, kind, _ in page.table("The environment")}
    assert set(fields) == set(EchoObservation.model_fields)


def test_the_reward_is_the_one_it_says(conversation: Any) -> None:
    assert "`Hello, World!` gets 1.3" in page.text
    assert conversation.step(message="Hello, World!")["data"]["reward"] == pytest.approx(1.3)


@pytest.mark.engine
@page.tests("Docker and Hugging Face Spaces, 1")
def test_the_image_builds_and_serves(
    documented_image: str, shell_variables: dict[str, str], free_port: int
) -> None:
    build, run = page.code("Docker and Hugging Face Spaces, 1").splitlines()
    assert documented_image in build
    command = run.replace("8000:8000", f"127.0.0.1:{free_port}:8000").replace("run", "run -d")
    started = subprocess.run(
        shlex.split(command), env=shell_variables, capture_output=True, text=True, check=True
    )
    try:
        session = requests.Session()
        retries = requests.adapters.Retry(total=60, backoff_factor=0.1, backoff_max=1)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        answer = session.get(f"http://127.0.0.1:{free_port}/health", timeout=60)
        assert answer.json() == {"status": "healthy"}
    finally:
        subprocess.run(["docker", "rm", "--force", started.stdout.strip()], check=True)


@pytest.mark.slow
@page.tests("Docker and Hugging Face Spaces, 2")
def test_push_uploads_the_readme_as_it_is(push_to_stand_in: Callable[[str], Path]) -> None:
    kept = push_to_stand_in(page.code("Docker and Hugging Face Spaces, 2"))
    assert (kept / "0" / "README.md").read_text("utf-8") == page.text  # front matter and all


def test_the_front_matter_is_what_a_docker_space_needs() -> None:
    matter = yaml.safe_load(page.text.split("---\n")[1])
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {matter.pop("colorFrom"), matter.pop("colorTo")} <= colors
    assert matter.pop("title")
    assert matter.pop("emoji")
    assert matter == {
        "sdk": "docker",
        "pinned": False,
        "app_port": Settings.model_fields["port"].default,
        "base_path": "/web",
        "tags": ["openenv"],
    }
    assert "base_path: /web" in page.text  # in this form, or `openenv push` rewrites all of it


test_blocks = page.test_the_other_blocks(slow=["Your first episode, 2"])  # see `test_demo.py`
