# SPDX-License-Identifier: BSD-3-Clause
"""`/docs` and `/openapi.json` are accurate and need no other server."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import requests
from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.env_server.types import Action
from pydantic import Field, field_validator

from notes_env.models import NoteAction
from stepwire.server.pages.action_example import action_example

_TIMEOUT = 60


@pytest.fixture(scope="module")
def openapi(server: Any) -> Any:
    return requests.get(server.url + "/openapi.json", timeout=_TIMEOUT).json()


def test_every_request_succeeds_as_prefilled(server: Any, openapi: Any) -> None:
    asked = set()
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            if operation["tags"] == ["Task API"]:  # which only some environments have
                continue
            body = None
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
            answer = requests.request(method, server.url + path, json=body, timeout=_TIMEOUT)
            assert answer.status_code == 200, (path, answer.text)
            asked.add(path)
    assert {"/reset", "/step", "/state", "/mcp", "/schema", "/metadata", "/health"} <= asked


def test_the_servers_address_is_relative(openapi: Any) -> None:
    assert openapi["servers"] == [{"url": ".", "description": "this server"}]


def test_the_frames_in_the_description_are_answered_as_described(
    openapi: Any, conversation: Any
) -> None:
    rows = re.findall(
        r'^\| `(\{.*\})` \| `\{"type": "(\w+)"', openapi["info"]["description"], re.MULTILINE
    )
    assert len(rows) == 4
    for frame, answer in rows:
        assert conversation.ask(frame)["type"] == answer
    assert (
        '| `{"type": "close"}` | nothing; it closes with code 1000 |'
        in (openapi["info"]["description"])
    )
    conversation.send('{"type": "close"}')
    assert conversation.close_code() == 1000


def test_the_page_loads_what_this_server_serves(server: Any) -> None:
    page = requests.get(server.url + "/docs", timeout=_TIMEOUT)
    addresses = re.findall(r'(?:href|src|spec-url)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert not address.startswith(("http", "/"))
        loaded = requests.get(f"{server.url}/{address}", timeout=_TIMEOUT)
        assert loaded.status_code == 200


def test_the_policy_of_the_page(server: Any) -> None:
    headers = requests.get(server.url + "/docs", timeout=_TIMEOUT).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'self' https://huggingface.co https://*.hf.space"
    assert "unsafe" not in policy["script-src"]
    assert "X-Frame-Options" not in headers


@pytest.mark.parametrize(
    "path", ["/docs/nope.js", "/docs/%2e%2e/core.py", "/redoc", "/asyncapi.json"]
)
def test_only_files_of_the_page_are_served(server: Any, path: str) -> None:
    assert requests.get(server.url + path, timeout=_TIMEOUT).status_code == 404


def test_the_icon(server: Any) -> None:
    icon = requests.get(server.url + "/favicon.ico", timeout=_TIMEOUT)
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")


@pytest.fixture(scope="module")
def server_without_page(start_shared_server: Callable[..., Any]) -> Any:
    """Without `/web`, and without the package that has Swagger UI."""
    return start_shared_server(
        command=[sys.executable, "-c", _WITHOUT_FASTAPI_OFFLINE],
        env={"ENABLE_WEB_INTERFACE": "false", "FRAME_ANCESTORS": "https://example.org"},
    )


_WITHOUT_FASTAPI_OFFLINE = """
import sys

sys.modules["fastapi_offline"] = None  # as if it were not installed
sys.argv = ["server", "--port", "{port}"]
from notes_env.app import main

main()
"""


def test_without_fastapi_offline_the_page_is_not_served(server_without_page: Any) -> None:
    answer = requests.get(server_without_page.url + "/docs", timeout=_TIMEOUT)
    assert answer.status_code == 404
    assert "/docs is not served" in server_without_page.log


def test_without_the_page_the_description_says_so(server_without_page: Any) -> None:
    openapi = requests.get(server_without_page.url + "/openapi.json", timeout=_TIMEOUT).json()
    assert "is turned off on this server" in openapi["info"]["description"]
    assert requests.get(server_without_page.url + "/web", timeout=_TIMEOUT).status_code == 404
    assert requests.get(server_without_page.url + "/", timeout=_TIMEOUT).status_code == 404


class Colour(str, Enum):
    RED = "red"


class Inner(Action):
    name: str = Field(min_length=6)


class Everything(Action):
    number: int = Field(ge=3)
    share: float = Field(gt=0)
    colour: Colour
    kind: Literal["move"]
    either: bool | int
    inner: Inner
    several: list[Inner] = Field(min_length=2)
    short: Annotated[str, Field(max_length=2)]
    optional: str = "left out"


class Impossible(Action):
    code: str = Field(pattern=r"\bcode\b")


class Unschematic(Action):
    call: Callable[[], None]


class Even(Action):
    number: int

    @field_validator("number")
    @classmethod
    def _is_negative(cls, number: int) -> int:
        if number >= 0:
            raise ValueError("a number below 0")
        return number


def test_an_example_is_a_valid_action() -> None:
    example, problem = action_example(Everything)
    assert problem is None
    assert "optional" not in example
    Everything.model_validate_json(json.dumps(example))
    assert action_example(NoteAction) == ({"text": "Buy milk"}, None)


def test_an_example_of_tools_alone_lists_them() -> None:
    assert action_example(CallToolAction) == ({"type": "list_tools"}, None)


def test_an_example_that_cannot_be_sent_says_why() -> None:
    action, problem = action_example(Impossible)
    assert action is None
    assert "code" in str(problem)
    assert action_example(Even) == (
        {"number": 0},
        "number: Value error, a number below 0",
    )
    assert action_example(Unschematic).problem is not None


def _operations(openapi: Any) -> Iterator[tuple[str, Any]]:
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            yield path, operation


def test_every_answer_has_an_example_of_its_own(openapi: Any) -> None:
    for path, operation in _operations(openapi):
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                assert "example" in content, (path, status)
                assert "additionalProp" not in json.dumps(content["example"])
    step = openapi["paths"]["/step"]["post"]["responses"]["200"]["content"]["application/json"]
    assert step["example"] == {
        "observation": {"text": "", "length": 0},
        "reward": 1.0,
        "done": False,
        "metadata": {},
    }


def test_operations_and_schemas_have_names_for_readers(openapi: Any) -> None:
    # FastAPI makes titles of the names of functions.
    assert not [path for path, each in _operations(openapi) if each["summary"].istitle()]
    assert not [name for name in openapi["components"]["schemas"] if name.startswith("_")]
