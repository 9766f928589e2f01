# SPDX-License-Identifier: BSD-3-Clause
"""`docs/environment.md`: the package that it builds is played, tested and served."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from document import Document

page = Document("docs/environment.md")
_FILES = {
    "__init__.py": "Writing your own environment, 1",
    "models.py": "Models, 1",
    "environment.py": "Environment, 1",
    "client.py": "Client, 1",
    "app.py": "Server, 1",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `guess` as the page writes it."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "guess").mkdir()
    for file, name in _FILES.items():
        assert f"`guess/{file}`" in page.text
        (folder / "guess" / file).write_text(page.code(name))
    return folder


@pytest.fixture
def play(folder: Path, run: Any) -> Callable[[str], str]:
    def run_program(code: str) -> str:
        done = run("-W", "error", "-c", code, cwd=folder, env={"PYTHONPATH": os.fspath(folder)})
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return str(done.stdout)

    return run_program


@page.tests(*_FILES.values(), "Server, 2")
def test_the_game_is_played(play: Callable[[str], str]) -> None:
    block = page.blocks["Server, 2"]
    block.require_printed(play(block.code))


@page.tests("Tests, 1")
def test_its_tests_pass(folder: Path, run: Any) -> None:
    (folder / "test_guess.py").write_text(page.code("Tests, 1"))
    variables = {"PYTHONPATH": os.fspath(folder)}
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=variables)
    assert (done.returncode, "8 passed" in done.stdout) == (0, True), done.stdout


@page.tests("Tools, 1")
def test_its_tools_are_offered(play: Callable[[str], str]) -> None:
    asked = """
from stepwire.testing import EnvironmentConformance
environment = GuessEnvironmentWithTools()
print([tool.__name__ for tool in environment.TOOLS])
"""
    assert play(page.code("Tools, 1") + asked) == "['rules']\n"


def test_it_serves_with_the_options_of_every_environment(
    folder: Path, start_server: Callable[..., Any]
) -> None:
    command = re.search(r"`python (-m guess\.app)` serves it", page.text)
    assert command
    server = start_server(
        command=[sys.executable, *command[1].split(), "--port", "{port}"],
        env={"PYTHONPATH": os.fspath(folder)},
    )
    assert requests.get(f"{server.url}/metadata", timeout=10).json()["name"]


@pytest.mark.trainer
@page.tests("Gymnasium, 1")
def test_gymnasium_makes_it(play: Callable[[str], str]) -> None:
    block = page.blocks["Gymnasium, 1"]
    block.require_printed(play(block.code))


test_blocks = page.test_the_other_blocks()
