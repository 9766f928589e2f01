# SPDX-License-Identifier: BSD-3-Clause
"""Each example, run by its own line of `examples/README.md` in a fresh environment.

`trl_grpo.py` has a module of its own, `test_trl_example.py`.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from document import ADDRESS, ROOT, Document

page = Document("examples/README.md")
_MARKS = {
    "Demo": pytest.mark.trainer,
    "Gymnasium": pytest.mark.trainer,
    "verifiers": pytest.mark.trainer,
    "MCP": pytest.mark.trainer,
    "Plain HTTP": pytest.mark.trainer,
    "JavaScript": pytest.mark.node,
    "Notebook": pytest.mark.notebook,
}
_PRINTS = {
    "Demo": r"\bEverything works\b",
    "Gymnasium": r"^320 episodes, mean return \d+\.\d, \d+ steps",
}


@pytest.fixture
def run_fresh(checkout: Path, server: Any, tmp_path: Path, run_shell: Any) -> Callable[[str], str]:
    """Runs a block in a clone, on a machine that has `uv` and none of its environments."""

    def run_lines(code: str) -> str:
        clone = shutil.copytree(checkout, tmp_path / "echo")
        environment = {"UV_NO_SYNC": "0", "UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment")}
        return str(run_shell(code.replace(ADDRESS, server.url), cwd=clone, **environment))

    return run_lines


@page.tests(*(f"{heading}, 1" for heading in _MARKS))
@pytest.mark.parametrize(
    "heading", [pytest.param(heading, marks=mark) for heading, mark in _MARKS.items()]
)
def test_an_example_prints_what_the_page_says(
    heading: str, run_fresh: Callable[[str], str]
) -> None:
    block = page.blocks[f"{heading}, 1"]
    printed = run_fresh(block.code)
    assert printed.endswith(block.prints or "")
    assert re.search(_PRINTS.get(heading, ""), printed)


@pytest.mark.trainer
@page.tests("Gymnasium, 2")
def test_a_single_environment_of_gymnasium(run_fresh: Callable[[str], str]) -> None:
    block = page.blocks["Gymnasium, 2"]
    program = f"uv run --quiet --extra gymnasium python -W error - <<'END'\n{block.code}\nEND"
    block.require_printed(run_fresh(program))


@page.tests("TRL, 1")
def test_every_example_is_in_the_table_and_has_a_block() -> None:
    listed = {re.search(r"\((\S+)\)", cell)[1] for cell, *_ in page.table("Examples")}  # type: ignore[index]
    parts = {"README.md", "requirements-trl.txt", "tiny_model.py"}
    folder = ROOT / "examples"
    assert listed - {"../demo.py"} == {path.name for path in folder.glob("*.*")} - parts
    commands = "".join(block.code for block in page.blocks.values())
    for file in listed:
        assert Path(file).stem in commands


def test_the_notebook_has_no_output_and_no_path_of_a_machine() -> None:
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text("utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert not re.search(r"(?:^|[^\w.])/(?:home|root|tmp|Users|work)/", "".join(cell["source"]))


test_blocks = page.test_the_other_blocks()
