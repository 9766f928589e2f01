# SPDX-License-Identifier: BSD-3-Clause
"""`/asyncapi.json`: what goes over `/ws` is what it says, and it is valid AsyncAPI 3."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

_PARSER = "@asyncapi/parser@3.6.3"
_TIMEOUT = 60


@pytest.fixture(scope="module")
def document(server: Any) -> Any:
    return requests.get(server.url + "/asyncapi.json", timeout=_TIMEOUT).json()


@pytest.fixture(scope="module")
def validate(document: Any) -> Callable[..., None]:
    """Validates a frame as one of the document's messages."""

    def validate_one(message: str, frame: Any) -> None:
        payload = document["components"]["messages"][message]["payload"]
        schema = {**payload, "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(frame)

    return validate_one


_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
_CALL = {"type": "call_tool", "tool_name": "read_note", "arguments": {"text": "Hi"}}


@pytest.mark.parametrize(
    ("operation", "frame"),
    [
        ("reset", {"type": "reset"}),
        ("reset", {"type": "reset", "data": {"seed": 7, "episode_id": "x", "more": [1]}}),
        ("step", {"type": "step", "data": {"text": "Hi", "metadata": {"mine": 1}}}),
        ("step", {"type": "step", "data": {"type": "list_tools"}}),
        ("step", {"type": "step", "data": _CALL}),
        ("state", {"type": "state"}),
        ("mcp", {"type": "mcp", "data": _TOOLS}),
        ("mcp", {"type": "mcp", "data": {**_TOOLS, "method": "tools/nope"}}),
    ],
)
def test_a_frame_and_its_answer_are_as_described(
    operation: str, frame: Any, document: Any, validate: Callable[..., None], conversation: Any
) -> None:
    validate(operation, frame)
    replies = document["operations"][operation]["reply"]["messages"]
    assert replies[1]["$ref"].endswith("/errorReply")
    validate(replies[0]["$ref"].rpartition("/")[2], conversation.ask(frame))


@pytest.mark.parametrize(
    ("operation", "frame"),
    [
        ("step", {"type": "step", "data": {}}),
        ("step", {"type": "step", "data": {"text": "Hi", "unknown": 1}}),
        ("reset", {"type": "reset", "data": {"seed": -1}}),
        ("state", {"type": "state", "data": {}}),
        ("close", {"type": "close", "data": {}}),
        ("mcp", {"type": "mcp"}),
    ],
)
def test_what_is_not_described_is_an_error_as_described(
    operation: str, frame: Any, validate: Callable[..., None], conversation: Any
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(operation, frame)
    validate("errorReply", conversation.ask(frame))


def test_a_refusal_at_capacity_is_as_described(
    one_session_server: Any, validate: Callable[..., None], connect: Callable[..., Any]
) -> None:
    holding = connect(one_session_server.ws_url)
    holding.step(text="Hi")
    validate("errorReply", connect(one_session_server.ws_url).receive())
    holding.send({"type": "close"})
    holding.close_code()


def test_its_examples_are_as_described(document: Any, validate: Callable[..., None]) -> None:
    messages = document["components"]["messages"]
    examples = {name: message.get("examples", []) for name, message in messages.items()}
    assert {name for name, found in examples.items() if found} == set(document["operations"])
    for name, found in examples.items():
        for example in found:
            validate(name, example["payload"])


def test_it_names_the_server_that_was_asked(server: Any, environments: Any) -> None:
    for base, path in ((server.url, ""), (environments.url + "/counting", "/counting")):
        document = requests.get(base + "/asyncapi.json", timeout=_TIMEOUT).json()
        host = base.removeprefix("http://").split("/")[0]
        assert document["servers"] == {"this": {"host": host, "pathname": path, "protocol": "ws"}}


_PARSE = """
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Parser } = createRequire(process.cwd() + "/")("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const problems = diagnostics.filter(({ severity }) => severity <= 1);
console.log(JSON.stringify({ version: document?.version(), problems }));
"""


@pytest.mark.node
def test_the_official_parser_finds_nothing_wrong(document: Any, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm, "this test needs Node.js"
    assert node
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".", _PARSER]
    subprocess.run(install, cwd=tmp_path, check=True)
    done = subprocess.run(
        [node, "--input-type=module", "--eval", _PARSE],
        input=json.dumps(document),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    # Severity 0 is an error, 1 a warning.
    assert json.loads(done.stdout) == {"version": "3.0.0", "problems": []}
