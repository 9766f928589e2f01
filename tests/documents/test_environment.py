# SPDX-License-Identifier: BSD-3-Clause
"""`docs/environment.md`: its blocks use the game that `docs/author.md` writes."""

from collections.abc import Callable
from typing import Any

import pytest

from document import Document

page = Document("docs/environment.md")
pytestmark = pytest.mark.usefixtures("game")


@page.tests("Tools, 1")
def test_tools_on_fastmcp_are_offered(run_python: Callable[..., str]) -> None:
    # First, so that the framework is imported without its Gradio pages.
    assert run_python("import stepwire\n" + page.code("Tools, 1") + _ROLL) == "['roll'] 4 1.0\n"


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
