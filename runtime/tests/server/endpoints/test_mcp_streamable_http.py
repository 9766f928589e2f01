# SPDX-License-Identifier: BSD-3-Clause
"""Standard MCP on `POST /mcp`: real clients, and the distinction from bare JSON-RPC."""

import asyncio
import json
import socket
import sys
from typing import Any

import fastmcp
import pytest
import requests
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

_TOOLS = ["read_note", "measure_note"]
_WITH_LENGTH = {"text": "😀", "length": 1}
# What the standard's clients send (MCP 2025-06-18, Transports).
_STANDARD = {"Accept": "application/json, text/event-stream"}
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
# FastMCP 4 first tries without a handshake; FastMCP 3 always sends one.
_MODES = [{}] if fastmcp.__version__.startswith("3.") else [{"mode": "auto"}, {"mode": "legacy"}]


@pytest.fixture(scope="module")
def server(start_shared_server: Any) -> Any:
    """Two workers, with a public host name."""
    options = ("--workers", "2", "--timeout-worker-healthcheck", "120")
    application = "notes_env.app:app"
    return start_shared_server(
        *options, application=application, env={"ALLOWED_HOSTS": "*.hf.space"}
    )


def _post(url: str, payload: Any, **headers: str) -> requests.Response:
    body = payload if isinstance(payload, bytes) else json.dumps(payload)
    headers = {"Content-Type": "application/json", **headers}
    return requests.post(url + "/mcp", data=body, headers=headers, timeout=60)


def _wire(value: Any) -> Any:
    """The message as JSON: the field names of its class differ between versions."""
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


def test_the_official_client_shakes_hands_pings_lists_and_calls(server: Any) -> None:
    async def use() -> tuple[Any, ...]:
        async with (
            streamable_http_client(server.url + "/mcp") as streams,
            ClientSession(streams[0], streams[1]) as session,
        ):
            about = _wire(await session.initialize())
            await session.send_ping()
            tools = _wire(await session.list_tools())["tools"]
            message = _wire(await session.call_tool("read_note", {"text": "😀"}))
            length = _wire(await session.call_tool("measure_note", {"text": "😀"}))
            return about, tools, message, length

    about, tools, message, length = asyncio.run(use())
    assert about["serverInfo"]["name"] == "NotesEnvironment"
    assert [tool["name"] for tool in tools] == _TOOLS
    assert tools[0]["description"] == "Read a note."
    assert tools[0]["inputSchema"]["required"] == ["text"]
    assert tools[0]["outputSchema"]["properties"]["result"] == {"type": "string"}
    assert [part["text"] for part in message["content"]] == ["😀"]
    assert length["structuredContent"] == _WITH_LENGTH


@pytest.mark.slow
@pytest.mark.parametrize("mode", _MODES, ids=str)
def test_the_client_of_fastmcp_lists_and_calls_tools(server: Any, mode: dict[str, str]) -> None:
    async def use() -> tuple[Any, ...]:
        async with fastmcp.Client(server.url + "/mcp", **mode) as client:
            assert await client.ping()
            names = [tool.name for tool in await client.list_tools()]
            message = await client.call_tool("read_note", {"text": "😀"})
            length = await client.call_tool("measure_note", {"text": "😀"})
            return names, message.data, length.data, await client.list_prompts()

    assert asyncio.run(use()) == (_TOOLS, "😀", _WITH_LENGTH, [])


@pytest.mark.parametrize("mode", _MODES, ids=str)
def test_several_workers_serve_one_client(server: Any, mode: dict[str, str]) -> None:
    async def use() -> list[Any]:
        results = []
        for number in range(6):  # one connection each, to any worker
            async with fastmcp.Client(server.url + "/mcp", **mode) as client:
                result = await client.call_tool("read_note", {"text": str(number)})
                results.append(result.data)
        return results

    assert asyncio.run(use()) == list("012345")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("dance", {}, "Unknown tool: 'dance'"),
        ("shout", {"message": "Hi", "times": "often"}, "times: Input should be a valid integer"),
        ("shout", {}, "message: Missing required argument"),
        ("explain", {"reason": "it rains"}, "Because it rains"),
        ("crash", {}, "failed unexpectedly"),
    ],
)
def test_a_call_that_fails_says_why_in_its_result(
    environments: Any, name: str, arguments: Any, said: str
) -> None:
    async def use() -> tuple[Any, Any]:
        async with fastmcp.Client(environments.url + "/tools/mcp") as client:
            failed = await client.call_tool(name, arguments, raise_on_error=False)
            return failed, (await client.call_tool("whisper", {"message": "HI"})).data

    failed, after = asyncio.run(use())
    assert failed.is_error
    assert said in failed.content[0].text
    assert "secret" not in failed.content[0].text
    assert after == ["hi"]


def test_a_tool_is_called_where_steps_are(environments: Any) -> None:
    async def ask(name: str) -> Any:
        async with fastmcp.Client(f"{environments.url}/{name}/mcp") as client:
            return (await client.call_tool("name_thread")).data

    assert asyncio.run(ask("in-threads")).startswith("environment")
    assert asyncio.run(ask("tools")) == "MainThread"


def test_a_clients_mistake_is_not_logged(server: Any) -> None:
    call = {"name": "read_note", "arguments": {"text": 5}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    before = server.log
    assert _post(server.url, request, **_STANDARD).json()["result"]["isError"]
    new_lines = server.log.removeprefix(before).splitlines()
    assert [line for line in new_lines if '"POST /mcp HTTP/1.1" 200' not in line] == []


def test_an_environment_without_tools_offers_none(environments: Any) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = _post(environments.url + "/failing", request, **_STANDARD)
    assert answer.json()["result"]["tools"] == []


@pytest.mark.parametrize("headers", [_STANDARD, {"Accept": "application/json"}, {"Accept": "*/*"}])
def test_the_handshake_is_answered_in_json(server: Any, headers: dict[str, str]) -> None:
    response = _post(server.url, _INITIALIZE, **headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert "Mcp-Session-Id" not in response.headers
    assert response.json()["result"]["protocolVersion"] == "2025-06-18"


@pytest.mark.parametrize("headers", [_STANDARD, {}])
def test_a_notification_has_no_answer(server: Any, headers: dict[str, str]) -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    response = _post(server.url, notification, **headers)
    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize("headers", [_STANDARD, {}])
def test_ping_needs_no_handshake(server: Any, headers: dict[str, str]) -> None:
    answer = _post(server.url, {"jsonrpc": "2.0", "id": 7, "method": "ping"}, **headers).json()
    assert answer == {"jsonrpc": "2.0", "id": 7, "result": {}}


@pytest.mark.parametrize(
    ("headers", "has_data"),
    [({}, True), ({"Accept": "application/json"}, True), (_STANDARD, False)],
    ids=["any", "json", "standard"],
)
def test_a_client_that_accepts_no_event_stream_gets_bare_json_rpc(
    server: Any, headers: dict[str, str], has_data: bool
) -> None:
    call = {"name": "read_note", "arguments": {"text": "Hi"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    result = _post(server.url, request, **headers).json()["result"]
    assert ("data" in result) is has_data  # the standard has no such field
    assert result["structuredContent"] == {"result": "Hi"}


def test_methods_of_bare_json_rpc_only_are_answered_to_every_client(environments: Any) -> None:
    url = environments.url + "/tools"
    assert _post(url, {}, **_STANDARD).json()["error"]["code"] == -32600
    create = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}
    created = _post(url, create, **_STANDARD).json()["result"]
    close = {"jsonrpc": "2.0", "id": 2, "method": "openenv/session/close", "params": created}
    assert _post(url, close, **_STANDARD).json()["result"]["closed"]


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"{", {-32700}),
        (b'{"method":' * 5000, {-32700}),
        ({**_INITIALIZE, "id": {"no": "id"}}, {-32600}),
        ({**_INITIALIZE, "params": {"protocolVersion": 5}}, {-32602}),
        # FastMCP 3 calls this one invalid.
        ({"jsonrpc": "2.0", "id": 1, "method": "dance"}, {-32601, -32602}),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [1]}, {-32600}),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_invalid_message_is_a_json_rpc_error(server: Any, body: Any, codes: set[int]) -> None:
    response = _post(server.url, body, **_STANDARD)
    assert response.status_code == 200
    assert response.json()["error"]["code"] in codes
    assert "Traceback" not in response.text


def test_a_message_may_have_4_mib(server: Any) -> None:
    call = {"name": "measure_note", "arguments": {"text": "x" * (4 * 1024 * 1024)}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    assert _post(server.url, request, **_STANDARD).status_code == 413
    call["arguments"] = {"text": "x" * (4 * 1024 * 1024 - 1000)}
    assert _post(server.url, request, **_STANDARD).json()["result"]["isError"] is False


_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
_NOTE = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
_ANSWER = {"jsonrpc": "2.0", "id": 1, "result": {}}
_OF_BATCHES = {**_STANDARD, "MCP-Protocol-Version": "2025-03-26"}


@pytest.mark.parametrize("headers", [{}, _STANDARD, _OF_BATCHES], ids=["bare", "old", "named"])
def test_a_batch_is_answered_message_by_message(server: Any, headers: dict[str, str]) -> None:
    batch = [_LIST, _NOTE, {**_INITIALIZE, "id": 2}, _ANSWER, {**_LIST, "id": "three"}, 5]
    response = _post(server.url, batch, **headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    first, initialize, third, invalid = response.json()
    assert [tool["name"] for tool in first["result"]["tools"]] == _TOOLS
    assert (initialize["id"], initialize["error"]["code"]) == (2, -32600)
    assert (third["id"], third["result"]) == ("three", first["result"])
    assert (invalid["id"], invalid["error"]["code"]) == (None, -32600)


def test_a_batch_without_requests_has_no_answer(server: Any) -> None:
    response = _post(server.url, [_NOTE, _ANSWER], **_OF_BATCHES)
    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize(
    ("batch", "version", "status", "said"),
    [
        ([_LIST], "2025-06-18", 400, "not in 2025-06-18"),
        ([_LIST], "2025-11-25", 400, "not in 2025-11-25"),
        ([], "2025-03-26", 200, "1 to 100 messages, not 0"),
        ([_NOTE] * 101, "2025-03-26", 200, "1 to 100 messages, not 101"),
    ],
)
def test_a_batch_that_the_version_has_not_is_refused(
    server: Any, batch: Any, version: str, status: int, said: str
) -> None:
    response = _post(server.url, batch, **{**_STANDARD, "MCP-Protocol-Version": version})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, -32600)
    assert said in error["message"]


@pytest.mark.parametrize("headers", [_STANDARD, {}])
@pytest.mark.parametrize(
    "answer", [_ANSWER, {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "no"}}]
)
def test_a_posted_response_is_accepted(server: Any, answer: Any, headers: dict[str, str]) -> None:
    response = _post(server.url, answer, **headers)
    assert (response.status_code, response.content) == (202, b"")


@pytest.mark.parametrize("method", ["tools/list", "ping", "initialize"])
@pytest.mark.parametrize("request_id", [None, True, 1.5, {}], ids=str)
def test_an_id_that_mcp_has_not_is_refused(server: Any, method: str, request_id: Any) -> None:
    answer = _post(server.url, {**_INITIALIZE, "method": method, "id": request_id}, **_STANDARD)
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (None, -32600)


def test_other_encodings_and_content_types_are_read(server: Any) -> None:
    body = json.dumps(_LIST).encode("utf-16")
    answer = _post(server.url, body, **{**_STANDARD, "Content-Type": "text/plain"})
    assert [tool["name"] for tool in answer.json()["result"]["tools"]] == _TOOLS


def test_tools_with_any_parameters_are_offered(environments: Any) -> None:
    """MCP passes arguments by name, so `*args` are left out."""

    async def use() -> tuple[Any, ...]:
        async with fastmcp.Client(environments.url + "/tools/mcp") as client:
            tools = {tool.name: _wire(tool)["inputSchema"] for tool in await client.list_tools()}
            kept = await client.call_tool("keep", {"first": 1, "more": [2]})
            spread = await client.call_tool("spread", {"first": 1, "last": "x"})
            return tools, kept.data, spread.data

    tools, kept, spread = asyncio.run(use())
    assert {schema["type"] for schema in tools.values()} == {"object"}
    assert list(tools["spread"]["properties"]) == ["first", "last"]
    assert (kept, spread) == ({"first": 1, "more": [2]}, "1 () x")


@pytest.mark.parametrize("headers", [_STANDARD, {}], ids=["standard", "bare"])
@pytest.mark.parametrize(("name", "place"), [("stray", ""), ("stray_inside", " in text[]")])
def test_a_lone_surrogate_from_a_tool_is_an_error_of_that_call(
    environments: Any, headers: dict[str, str], name: str, place: str
) -> None:
    call = {**_LIST, "method": "tools/call", "params": {"name": name}}
    result = _post(environments.url + "/tools", call, **headers).json()["result"]
    said = f"The tool {name!r} returned text with a lone surrogate{place}"
    assert (result["isError"], result["content"][0]["text"]) == (True, said)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_get_and_delete_are_not_allowed(server: Any, method: str) -> None:
    response = requests.request(method, server.url + "/mcp", headers=_STANDARD, timeout=60)
    assert response.status_code == 405


def test_fastmcp_does_not_refuse_a_host_that_access_control_allows(server: Any) -> None:
    """FastMCP could check hosts too; `access.py` does it for every route."""
    headers = {"Host": "me-notes.hf.space", "Origin": "https://me-notes.hf.space"}
    response = _post(server.url, _INITIALIZE, **_STANDARD, **headers)
    assert response.status_code == 200


@pytest.mark.slow
def test_steps_go_on_while_fastmcp_is_loaded_and_it_stops_with_the_server(
    start_server: Any, connect: Any
) -> None:
    server = start_server()
    body = json.dumps(_INITIALIZE)
    head = (
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    session = connect(server.ws_url)
    with socket.create_connection(("127.0.0.1", server.port)) as first_client:
        first_client.sendall((head + body).encode())
        for step in range(1, 51):
            assert session.step(text="Hi")["data"]["metadata"]["step"] == step
        first_client.setblocking(False)
        with pytest.raises(BlockingIOError):
            first_client.recv(1)
        first_client.setblocking(True)
        assert first_client.recv(100).startswith(b"HTTP/1.1 200")
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log
    assert "Task was destroyed" not in server.log


_WITHOUT_FASTMCP = """
import sys

sys.modules["fastmcp"] = None  # as if it were not installed
sys.argv = ["server", "--port", "{port}"]
from notes_env.app import main

main()
"""


def test_without_fastmcp_only_bare_json_rpc_is_spoken(start_server: Any) -> None:
    server = start_server(command=[sys.executable, "-c", _WITHOUT_FASTMCP])
    for _ in range(2):
        answer = _post(server.url, _INITIALIZE, **_STANDARD).json()
        assert (answer["id"], answer["error"]["code"]) == (1, -32603)
        assert "needs FastMCP, which this server cannot import" in answer["error"]["message"]
    listed = _post(server.url, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).json()
    assert len(listed["result"]["tools"]) == 2
