# SPDX-License-Identifier: BSD-3-Clause
"""The examples, each run by its own lines of `examples/README.md` in a fresh environment.

That of `trl_grpo.py` is in `test_trl_example.py`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepwire.server.settings import Settings

_FOLDER = Path(__file__).resolve().parent.parent / "examples"
_TEXT = (_FOLDER / "README.md").read_text()
_BLOCKS = {
    heading: dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    for heading, section in re.findall(
        r"^## (.+?)$(.*?)(?=^## |\Z)", _TEXT, re.MULTILINE | re.DOTALL
    )
}
_PATIENCE_S = 300.0


@pytest.fixture
def run_block(
    checkout: Path, server: Any, tmp_path: Path
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a block in a clone, on a machine that has `uv` and none of its environments."""

    def run_one(code: str) -> "subprocess.CompletedProcess[str]":
        clone = shutil.copytree(checkout, tmp_path / "echo")
        own = {name.upper() for name in Settings.model_fields} | {"VIRTUAL_ENV", "UV_NO_SYNC"}
        variables = {name: value for name, value in os.environ.items() if name not in own}
        uv = Path(os.environ.get("UV") or shutil.which("uv") or "uv")
        return subprocess.run(
            ["bash", "-euc", code.replace("http://localhost:8000", server.url)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=clone,
            env=variables
            | {
                "PATH": f"{uv.parent}{os.pathsep}{variables['PATH']}",
                "UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment"),
            },
            timeout=_PATIENCE_S,
            check=False,
        )

    return run_one


@pytest.fixture
def printed(run_block: Any) -> Callable[[str], str]:
    """What the shell block below a heading prints."""

    def run_one(heading: str) -> str:
        done = run_block(_BLOCKS[heading]["bash"])
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    return run_one


def test_every_example_is_in_the_table() -> None:
    listed = set(re.findall(r"^\| \[`\S+`\]\((\S+)\)", _TEXT, re.MULTILINE))
    parts = {"README.md", "requirements-trl.txt", "tiny_model.py"}
    assert listed - {"../demo.py"} == {path.name for path in _FOLDER.glob("*.*")} - parts


def test_every_example_has_a_block() -> None:
    commands = "".join(block["bash"] for block in _BLOCKS.values())
    for name in re.findall(r"^\| \[`\S+`\]\((?:\.\./)?(\S+?)(?:\.py)?\)", _TEXT, re.MULTILINE):
        assert name in commands


@pytest.mark.trainer
def test_demo(printed: Any) -> None:
    assert "What to try next" in printed("Demo")


@pytest.mark.trainer
def test_gymnasium(printed: Any) -> None:
    assert re.search(r"^320 episodes, mean return \d+\.\d, \d+ steps", printed("Gymnasium"))


@pytest.mark.trainer
def test_gymnasium_in_short(run_block: Any) -> None:
    code = _BLOCKS["Gymnasium"]["python"]
    done = run_block(f"uv run --quiet --extra gymnasium python -W error - <<'END'\n{code}\nEND")
    assert (done.stdout, done.stderr) == ("Hello! 0.6000000000000001 1\n", "")


@pytest.mark.trainer
def test_verifiers(printed: Any) -> None:
    assert printed("verifiers").splitlines() == [
        "saw 'Echo environment ready!', says 'Hello!'",
        "saw 'Hello!', says 'Hello!!'",
        "saw 'Hello!!', says 'Hello!!!'",
        "openenv_reward: 2.1",
    ]


@pytest.mark.trainer
def test_mcp(printed: Any) -> None:
    lines = printed("MCP").splitlines()
    assert lines[0] == "tools: echo_message, echo_with_length"
    assert lines[-1] == "echo_with_length('hahahaha') -> {'message': 'hahahaha', 'length': 8}"


@pytest.mark.trainer
def test_plain_http(printed: Any) -> None:
    assert printed("Plain HTTP").splitlines() == [
        "step 1: 'Hello', reward 0.5",
        "step 2: 'World', reward 0.5",
        "step 3: '!', reward 0.1",
        "state: {'episode_id': 'demo', 'step_count': 3, 'seed': 7}",
    ]


@pytest.mark.node
def test_javascript(printed: Any) -> None:
    assert printed("JavaScript").splitlines()[-4:] == [
        "step 1: Hello, reward 0.5",
        "step 2: World, reward 0.5",
        "step 3: !, reward 0.1",
        'state: {"episode_id":"demo","step_count":3,"seed":7}',
    ]


@pytest.mark.notebook
def test_notebook(run_block: Any) -> None:
    done = run_block(_BLOCKS["Notebook"]["bash"])
    assert done.returncode == 0, done.stderr  # a cell that fails is an exit code of 1
