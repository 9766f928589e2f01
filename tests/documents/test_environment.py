# SPDX-License-Identifier: BSD-3-Clause
"""`docs/environment.md`: the package `guess` that it builds is played and tested."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from document import Document

page = Document("docs/environment.md")
_FILES = {
    "__init__.py": "Writing your own environment, 1",
    "models.py": "Models, 1",
    "environment.py": "Environment, 1",
    "client.py": "Client, 1",
    "app.py": "Server, 1",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the package as the page writes it, where Python finds it."""
    (tmp_path / "guess").mkdir()
    for file, name in _FILES.items():
        assert f"`guess/{file}`" in page.text
        (tmp_path / "guess" / file).write_text(page.code(name), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))  # for the server
    yield tmp_path
    for module in [name for name in sys.modules if name.split(".")[0] == "guess"]:
        del sys.modules[module]


@page.tests(*_FILES.values(), "Server, 2")
def test_the_game_is_played_on_a_server(run_python: Callable[..., str]) -> None:
    block = page.blocks["Server, 2"]
    assert "`python -m guess.app` serves it" in page.text  # which `from_local` runs
    block.require_printed(run_python(block.code))


@pytest.mark.slow
@page.tests("Tests, 1")
def test_its_tests_pass(folder: Path) -> None:
    (folder / "test_guess.py").write_text(page.code("Tests, 1"), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, "8 passed" in done.stdout) == (0, True), done.stdout


@page.tests("Tools, 1")
def test_its_tools_are_offered(run_python: Callable[..., str]) -> None:
    printed = "\nprint([tool.__name__ for tool in GuessEnvironmentWithTools.TOOLS])"
    assert run_python(page.code("Tools, 1") + printed) == "['rules']\n"


@page.tests("Tools, 2")
def test_tools_on_fastmcp_are_offered(run_python: Callable[..., str]) -> None:
    # First, so that the framework is imported without its Gradio pages.
    assert run_python("import stepwire\n" + page.code("Tools, 2") + _ROLL) == "['roll'] 4 1.0\n"


_ROLL = """
from fastapi.testclient import TestClient

with TestClient(app) as client:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    tools = client.post("/mcp", json=request).json()["result"]["tools"]
    action = {"type": "call_tool", "tool_name": "roll"}
    rolled = client.post("/step", json={"action": action}).json()
    result = rolled["observation"]["result"]
    print([tool["name"] for tool in tools], result["data"], rolled["reward"])
"""


@page.tests("Tasks, 1")
def test_its_tasks_are_offered(run_python: Callable[..., str]) -> None:
    assert run_python(page.code("Tasks, 1") + _TASKS) == "[50] 200 200 400 200\n"


_TASKS = """
from fastapi.testclient import TestClient
from guess.models import GuessAction, GuessObservation
from stepwire.server import create_app

app = create_app(GuessEnvironmentWithTasks, GuessAction, GuessObservation, env_name="guess")
game = GuessEnvironmentWithTasks()
game.reset(split="train", index=1)
with TestClient(app) as client:
    asked = [client.get("/guess/splits")]
    for route, body in (("tasks", {}), ("task", {"index": 3}), ("task_range", {"start": 1})):
        asked.append(client.post(f"/guess/{route}", json={"split": "train", **body}))
    print([game._number], *[answer.status_code for answer in asked])
"""


@pytest.mark.slow  # importing Gradio takes seconds
@page.tests("Your own page, 1")
def test_its_page_plays_the_game(run: Callable[..., Any]) -> None:
    done = run("-c", page.code("Your own page, 1") + _PLAY)
    assert done.stdout == '["Guess a number from 1 to 100"]\n["lower"]\n', done.stderr


_PLAY = """
from fastapi.testclient import TestClient

with TestClient(app) as client:
    for function, inputs in (("start", []), ("guess", [50])):
        address = f"/web/custom/gradio_api/call/{function}"
        event = client.post(address, json={"data": inputs}).json()["event_id"]
        print(client.get(f"{address}/{event}").text.split("data: ")[1].strip())
"""


@pytest.mark.trainer
@page.tests("Gymnasium, 1")
def test_gymnasium_makes_it(run_python: Any) -> None:
    block = page.blocks["Gymnasium, 1"]
    block.require_printed(run_python(block.code))


test_blocks = page.test_the_other_blocks()
