# SPDX-License-Identifier: BSD-3-Clause
"""Tools over bare JSON-RPC, in frames and as actions; sessions made and closed over `/mcp`."""

import asyncio
from typing import Any

import pytest
import requests
from openenv.core.mcp_client import MCPToolClient

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app

_TOOLS = ["read_note", "measure_note"]


def _request(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return _request("tools/call", {"name": name, "arguments": arguments})


@pytest.fixture
def over_http(server: Any) -> Any:
    def ask(request: Any, url: str = server.url) -> Any:
        response = requests.post(url + "/mcp", json=request, timeout=60)
        assert response.status_code == 200
        assert response.json()["jsonrpc"] == "2.0"
        return response.json()

    return ask


@pytest.fixture(params=["over POST /mcp", "in a frame"])
def ask(request: pytest.FixtureRequest, over_http: Any, connect: Any) -> Any:
    """Sends one JSON-RPC request, over HTTP or in a frame."""
    if request.param == "over POST /mcp":
        return over_http
    session = connect()

    def ask_in_a_frame(payload: Any) -> Any:
        answer = session.ask({"type": "mcp", "data": payload})
        assert answer["type"] == "mcp"
        assert answer["data"]["jsonrpc"] == "2.0"
        return answer["data"]

    return ask_in_a_frame


def test_tools_are_listed_with_their_schemas(ask: Any) -> None:
    tools = ask(_request("tools/list"))["result"]["tools"]
    assert [tool["name"] for tool in tools] == _TOOLS
    assert tools[0]["description"] == "Read a note."
    assert tools[0]["inputSchema"]["properties"]["text"]["type"] == "string"
    assert tools[0]["inputSchema"]["required"] == ["text"]


@pytest.mark.parametrize(
    ("name", "text", "structured", "data"),
    [
        ("read_note", "😀", {"result": "😀"}, "😀"),
        (
            "measure_note",
            '{"text":"😀","length":1}',
            {"text": "😀", "length": 1},
            {"text": "😀", "length": 1},
        ),
    ],
)
def test_a_tool_is_called(ask: Any, name: str, text: str, structured: Any, data: Any) -> None:
    assert ask(_call(name, text="😀")) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "content": [{"type": "text", "text": text}],
            "structured_content": structured,
            "structuredContent": structured,
            "meta": None,
            "data": data,
            "is_error": False,
            "isError": False,
        },
    }


@pytest.mark.parametrize("request_id", [0, 17, "seventeen", None])
def test_the_answer_has_the_id_of_the_request(ask: Any, request_id: Any) -> None:
    assert ask(_request("tools/list", request_id=request_id))["id"] == request_id


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({}, -32600, "Invalid request"),
        ({"jsonrpc": "1.0", "method": "tools/list"}, -32600, "Invalid request"),
        (_request("dance"), -32601, "Method not found: dance"),
        (_request("tools/call"), -32602, "'name' must be a string"),
        (_request("tools/call", {"name": "x", "arguments": [1]}), -32602, "'arguments' an object"),
        (_call("dance"), -32602, "Unknown tool: 'dance' (offered: read_note, measure_note)"),
        (_call("read_note"), -32602, "text: "),
        (_call("read_note", text=5), -32602, "text: Input should be a valid string"),
        (_call("read_note", text="Hi", x=1), -32602, "x: "),
        (_request("openenv/session/close"), -32602, "'session_id' is required"),
        (_request("openenv/session/close", {"session_id": "x" * 99}), -32602, "x" * 64),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_invalid_request_is_explained(ask: Any, request_: Any, code: int, message: str) -> None:
    error = ask(request_)["error"]
    assert error["code"] == code
    assert message in error["message"]
    assert len(str(error)) < 1000


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 5000])
def test_invalid_json_is_a_parse_error(server: Any, body: bytes) -> None:
    response = requests.post(server.url + "/mcp", data=body, timeout=60)
    assert response.status_code == 200
    assert response.json()["error"]["code"] == -32700


def test_calling_a_tool_is_not_a_step(conversation: Any) -> None:
    conversation.ask({"type": "mcp", "data": _call("read_note", text="Hi")})
    conversation.ask({"type": "step", "data": {"type": "list_tools"}})
    assert conversation.ask({"type": "state"})["data"]["step_count"] == 0


def test_tool_style_actions_are_answered_with_the_frameworks_observations(
    conversation: Any,
) -> None:
    listed = conversation.ask({"type": "step", "data": {"type": "list_tools"}})["data"]
    assert [tool["name"] for tool in listed["observation"]["tools"]] == _TOOLS
    call = {"type": "call_tool", "tool_name": "read_note", "arguments": {"text": "Hi"}}
    called = conversation.ask({"type": "step", "data": call})["data"]
    assert called == {
        "observation": {
            "metadata": {},
            "tool_name": "read_note",
            "result": {
                "content": [{"type": "text", "text": "Hi"}],
                "structured_content": {"result": "Hi"},
                "meta": None,
                "data": "Hi",
                "is_error": False,
            },
            "error": None,
        },
        "reward": None,
        "done": False,
    }


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("shout", {"message": "Hi", "times": "often"}, "invalid_args"),
        ("dance", {}, "tool_not_found"),
        ("explain", {"reason": "it rains"}, "execution_error"),
        ("crash", {}, "execution_error"),
    ],
)
def test_a_tool_style_action_that_fails_says_how(
    connect_to: Any, name: str, arguments: Any, kind: str
) -> None:
    action = {"type": "call_tool", "tool_name": name, "arguments": arguments}
    answer = connect_to("tools").ask({"type": "step", "data": action})
    error = answer["data"]["observation"]["error"]
    assert error["error_type"] == kind
    assert "secret" not in error["message"]


def test_a_tool_style_action_without_a_name_is_refused(conversation: Any) -> None:
    answer = conversation.ask({"type": "step", "data": {"type": "call_tool"}})
    assert answer["data"]["code"] == "VALIDATION_ERROR"
    assert answer["data"]["errors"][0]["loc"] == ["tool_name"]


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [("shout", {"message": "hi", "times": 2}, "HIHI"), ("whisper", {"message": "HI"}, ["hi"])],
    ids=["plain", "async"],
)
def test_an_environments_own_tools_are_offered(
    environments: Any, over_http: Any, name: str, arguments: Any, value: Any
) -> None:
    answer = over_http(_call(name, **arguments), environments.url + "/tools")
    assert answer["result"]["data"] == value


def test_a_tool_is_called_where_steps_are(
    connect_to: Any, over_http: Any, environments: Any
) -> None:
    for name, where in (("in-threads", "environment"), ("tools", "MainThread")):
        conversation = connect_to(name)
        action = {"type": "call_tool", "tool_name": "name_thread"}
        acted = conversation.ask({"type": "step", "data": action})["data"]["observation"]
        framed = conversation.ask({"type": "mcp", "data": _call("name_thread")})["data"]
        alone = over_http(_call("name_thread"), f"{environments.url}/{name}")
        for answer in (acted, framed, alone):
            assert answer["result"]["data"].startswith(where)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [("explain", {"reason": "it rains"}, "Because it rains"), ("crash", {}, "failed unexpectedly")],
)
def test_a_tool_that_raises_answers_with_an_error_as_its_result(
    environments: Any, over_http: Any, name: str, arguments: Any, said: str
) -> None:
    result = over_http(_call(name, **arguments), environments.url + "/tools")["result"]
    assert result["isError"] is True
    assert said in result["content"][0]["text"]
    assert "secret" not in str(result)


def test_an_environment_without_tools_offers_none(environments: Any, over_http: Any) -> None:
    url = environments.url + "/failing"
    assert over_http(_request("tools/list"), url)["result"]["tools"] == []
    assert "offered: none" in over_http(_call("shout"), url)["error"]["message"]


def reset() -> None:
    """Has a reserved name."""


def double(number: int, /) -> int:
    """Cannot be called by name."""
    return 2 * number


@pytest.mark.parametrize(
    ("tool", "said"),
    [(reset, "may not be called 'reset'"), (double, "'double' has positional-only parameters")],
)
def test_a_tool_that_cannot_be_offered_is_refused_when_the_application_is_built(
    tool: Any, said: str
) -> None:
    class WithTool(NotesEnvironment):
        TOOLS = (tool,)

    with pytest.raises(ValueError, match=said):
        create_app(WithTool, NoteAction, NoteObservation)


def test_a_session_created_over_mcp_is_attached_to_and_outlives_the_connection(
    over_http: Any, connect: Any, server: Any
) -> None:
    session_id = over_http(_request("openenv/session/create"))["result"]["session_id"]
    address = f"{server.ws_url}?session_id={session_id}"
    for step in (1, 2):
        attached = connect(address)
        assert attached.step(text="Hi")["data"]["metadata"]["step"] == step
        second = connect(address)
        assert second.receive()["data"] == {
            "message": f"Session {session_id} already has a WebSocket",
            "code": "SESSION_ERROR",
        }
        assert second.close_code() == 1000
        attached.send({"type": "close"})
        assert attached.close_code() == 1000
    listed = over_http(_request("tools/list", {"session_id": session_id}))
    assert len(listed["result"]["tools"]) == 2
    closed = over_http(_request("openenv/session/close", {"session_id": session_id}))
    assert closed["result"] == {"session_id": session_id, "closed": True}
    again = over_http(_request("openenv/session/close", {"session_id": session_id}))
    assert again["error"]["code"] == -32602


def test_tools_of_an_unknown_session_cannot_be_listed(over_http: Any) -> None:
    error = over_http(_request("tools/list", {"session_id": 5}))["error"]
    assert (error["code"], error["message"]) == (-32602, "Unknown session_id: 5")


def test_an_unknown_session_cannot_be_attached_to(connect: Any, server: Any) -> None:
    conversation = connect(server.ws_url + "?session_id=" + "x" * 100)
    assert conversation.receive()["data"] == {
        "message": f"Session {'x' * 64} is not known",
        "code": "SESSION_ERROR",
    }
    assert conversation.close_code() == 1000


def test_a_session_closed_while_attached_ends_with_its_connection(
    over_http: Any, connect: Any, server: Any
) -> None:
    session_id = over_http(_request("openenv/session/create"))["result"]["session_id"]
    attached = connect(f"{server.ws_url}?session_id={session_id}")
    attached.step(text="Hi")
    assert over_http(_request("openenv/session/close", {"session_id": session_id}))["result"]
    assert attached.step(text="Hi")["data"]["metadata"]["step"] == 2
    attached.send({"type": "close"})
    assert attached.close_code() == 1000
    gone = connect(f"{server.ws_url}?session_id={session_id}")
    assert gone.receive()["data"]["code"] == "SESSION_ERROR"


def test_the_session_of_a_connection_is_its_own(conversation: Any) -> None:
    created = conversation.ask({"type": "mcp", "data": _request("openenv/session/create")})
    session_id = created["data"]["result"]["session_id"]
    close = _request("openenv/session/close", {"session_id": session_id})
    refused = conversation.ask({"type": "mcp", "data": close})["data"]["error"]
    assert refused["code"] == -32600
    assert "`close` frame" in refused["message"]
    assert conversation.step(text="Hi")["type"] == "observation"


def test_at_capacity_no_session_is_created(environments: Any, over_http: Any) -> None:
    url = environments.url + "/mcp-full"
    created = [over_http(_request("openenv/session/create"), url) for _ in range(2)]
    refused = over_http(_request("openenv/session/create"), url)["error"]
    assert refused == {
        "code": -32000,
        "message": "Server at capacity: 2/2 sessions active. Cannot accept new connections.",
        "data": {"active_sessions": 2, "max_sessions": 2},
    }
    for answer in created:
        over_http(_request("openenv/session/close", answer["result"]), url)
    (again,) = [over_http(_request("openenv/session/create"), url)]
    assert over_http(_request("openenv/session/close", again["result"]), url)["result"]["closed"]


@pytest.mark.parametrize("production", [False, True], ids=["steps", "production mode"])
def test_the_stock_tool_client_lists_and_calls_tools(server: Any, production: bool) -> None:
    async def use() -> tuple[list[str], Any, Any]:
        client = MCPToolClient(base_url=server.url)
        client.use_production_mode = production
        async with client:
            names = [tool.name for tool in await client.list_tools()]
            hi = await client.call_tool("read_note", text="Hi")
            return names, hi, await client.call_tool("measure_note", text="Hi")

    assert asyncio.run(use()) == (_TOOLS, "Hi", {"text": "Hi", "length": 2})
