# SPDX-License-Identifier: BSD-3-Clause
"""`docs/author.md`: the game that it writes is played, tested, checked, built and uploaded."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from containers import docker, running_container
from document import Document
from stepwire.new.template import FILES, FRAME

page = Document("docs/author.md")
_SCREENS = 120  # two, of 60 lines


@pytest.mark.parametrize("step", re.findall(r"^## (\d\. .*)$", page.text, re.MULTILINE))
def test_a_step_fills_two_screens_at_most(step: str) -> None:
    assert len(page.section(step).splitlines()) <= _SCREENS


def test_its_table_has_the_files_that_are_written(tmp_path: Path) -> None:
    named = {
        file
        for files, *_ in page.table("1. Write the package")
        for file in re.findall("`([^`]+)`", files)
    }
    written = {name.format(package="guess_number") for name in (*FILES, *FRAME)}
    unnamed = {"__init__.py", "server/__init__.py", "LICENSE", ".gitignore", ".dockerignore"}
    assert named == written - unnamed | {"wheels/"}


@pytest.mark.slow
@page.tests("1. Write the package, 1")
def test_the_clone_writes_a_package_whose_tests_pass(
    run_shell: Callable[..., str], clone: Path
) -> None:
    printed = run_shell(page.code("1. Write the package, 1"), PYTHONPATH=os.fspath(clone.parent))
    assert printed.startswith("Made ../guess_number/\n")
    assert "8 passed" in printed


@page.tests(
    "2. Declare the action, observation and state, 1",
    "3. Write the environment, 1",
    "3. Write the environment, 2",
)
@pytest.mark.usefixtures("game")
def test_the_game_is_played_on_a_server(run_python: Callable[..., str]) -> None:
    block = page.blocks["3. Write the environment, 2"]
    block.require_printed(run_python(block.code))


@pytest.mark.slow
@page.tests("4. Test it, 1")
def test_its_tests_pass(game: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=game, capture_output=True, text=True, check=False)
    assert (done.returncode, "8 passed" in done.stdout) == (0, True), done.stdout


@page.tests("5. Add a tool and tasks, 1", "5. Add a tool and tasks, 2")
def test_its_tool_and_its_tasks_are_offered(game: Path, run_python: Callable[..., str]) -> None:
    _apply(page.code("5. Add a tool and tasks, 2"), game / "server/guess_number_environment.py")
    printed = run_python(_ASK)
    assert printed == "['rules'] 3 200 200 400 200 correct\n"


def _apply(diff: str, file: Path) -> None:
    """Make the changes of a diff without line numbers: each added line follows the one before."""
    lines = file.read_text("utf-8").splitlines()
    place = 0
    for change in diff.splitlines():
        if change[:1] == "+":
            lines.insert(place, change[1:])
            place += 1
        else:
            place = lines.index(change[1:], place) + 1
            if change[:1] == "-":
                place -= 1
                del lines[place]
    file.write_text("\n".join(lines) + "\n", "utf-8")


_ASK = """
from fastapi.testclient import TestClient
from guess_number.server.app import app

with TestClient(app) as client:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    tools = client.post("/mcp", json=request).json()["result"]["tools"]
    asked = [client.get("/guess_number/splits")]
    for route, body in (("tasks", {}), ("task", {"index": 3}), ("task_range", {"start": 1})):
        asked.append(client.post(f"/guess_number/{route}", json={"split": "train", **body}))
    count = client.post("/guess_number/num_tasks", json={"split": "train"}).json()["num_tasks"]
    with client.websocket_connect("/ws") as session:
        session.send_json({"type": "reset", "data": {"split": "train", "index": 1}})
        session.receive_json()
        session.send_json({"type": "step", "data": {"number": 50}})
        hint = session.receive_json()["data"]["observation"]["hint"]
    names = [tool["name"] for tool in tools]
    print(names, count, *[answer.status_code for answer in asked], hint)
"""


@page.tests("6. If a step takes long, 1")
@pytest.mark.usefixtures("game")
def test_all_sessions_share_the_thread_of_the_model(run_python: Callable[..., str]) -> None:
    assert run_python(page.code("6. If a step takes long, 1") + _TWO_SESSIONS) == "5 5\n"


_TWO_SESSIONS = """
from fastapi.testclient import TestClient
from guess_number.models import GuessNumberAction, GuessNumberObservation
from stepwire.server import create_app

app = create_app(JudgedEnvironment, GuessNumberAction, GuessNumberObservation)
with (
    TestClient(app) as client,
    client.websocket_connect("/ws") as one,
    client.websocket_connect("/ws") as other,
):
    scores = []
    for session in (one, other):
        session.send_json({"type": "reset", "data": {"seed": 7}})
        session.receive_json()
        session.send_json({"type": "step", "data": {"number": 50}})
        scores.append(session.receive_json()["data"]["observation"]["metadata"]["score"])
    print(*scores)
"""


_OWN_ENVIRONMENT = {"UV_NO_SYNC": "0", "UV_PROJECT_ENVIRONMENT": ".venv"}


@pytest.fixture
def described(game: Path) -> Path:
    """The game with the rewards that it has in its manifest."""
    assert "set `range` to the possible rewards, here `[0.0, 1.0]`" in page.text
    manifest = game / "openenv.yaml"
    text = manifest.read_text("utf-8")
    manifest.write_text(re.sub(r"range: \[.*\]", "range: [0.0, 1.0]", text), "utf-8")
    return game


@pytest.mark.slow
@page.tests("7. Deploy it, 2", "7. Deploy it, 3")
def test_it_is_valid_and_its_versions_are_fixed_and_it_is_uploaded(
    described: Path, run_shell: Callable[..., str], push_to_stand_in: Callable[..., Path]
) -> None:
    check = page.code("7. Deploy it, 1").splitlines()[0]
    printed = run_shell(check, cwd=described, **_OWN_ENVIRONMENT)
    assert printed.endswith(": Ready for multi-mode deployment\n")
    run_shell(page.code("7. Deploy it, 2"), cwd=described)
    locked = (described / "requirements.lock").read_text("utf-8")
    assert "--hash=sha256:" in locked
    kept = push_to_stand_in(page.code("7. Deploy it, 3"), cwd=described)
    assert {"README.md", "Dockerfile", "requirements.lock", "wheels"} <= {
        path.name for path in (kept / "0").iterdir()
    }
    assert '"repo_id": "my-org/guess-number"' in (kept / "0.json").read_text("utf-8")


@pytest.mark.engine
@page.tests("7. Deploy it, 1")
def test_its_image_is_built_with_fixed_versions(
    described: Path, run_shell: Callable[..., str]
) -> None:
    _, build, run = page.code("7. Deploy it, 1").splitlines()
    run_shell(page.code("7. Deploy it, 2"), cwd=described)
    command = build.replace("uv run openenv", f"{sys.executable} -c '{_OPENENV}'")
    run_shell(command, cwd=described, PATH=os.environ["PATH"])
    image = run.split()[-1]
    assert image == "openenv-guess_number"
    with running_container(image) as container:
        url = container.url
        answer = requests.post(f"{url}/step", json={"action": {"number": 50}}, timeout=60).json()
        assert answer["observation"]["guesses_left"] == 9
    docker("image", "rm", image)


_OPENENV = "import stepwire; from openenv.cli.__main__ import main; main()"

test_blocks = page.test_the_other_blocks()
