# SPDX-License-Identifier: BSD-3-Clause
"""Rows `MCP`: JSON-RPC over HTTP and in `mcp` frames."""

import json
from contextlib import ExitStack
from typing import Any

from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest

_LOADING_S = 60.0  # a server may load its MCP library at the first such request


def _request(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}


def _call(server: ServerUnderTest, method: str, params: dict[str, Any] | None = None) -> Any:
    """The response to a request over HTTP, which must be an object."""
    response = server.http_json("POST", "/mcp", _request(method, params))
    require(isinstance(response, dict), "a JSON-RPC response", response)
    return response


def _error(response: dict[str, Any]) -> dict[str, Any]:
    error = response.get("error")
    require(isinstance(error, dict), "an `error`", response)
    return dict(error or {})


def _create(server: ServerUnderTest) -> str:
    """The id of a session that was created over MCP."""
    response = _call(server, "openenv/session/create")
    result = response.get("result")
    session_id = result.get("session_id") if isinstance(result, dict) else None
    require(isinstance(session_id, str), "a `session_id`", response)
    return str(session_id)


def _close(server: ServerUnderTest, session_id: str) -> dict[str, Any]:
    response = _call(server, "openenv/session/close", {"session_id": session_id})
    return dict(response)


@check(
    "mcp-empty",
    "MCP-1",
    cause="the web framework validates the body and answers 422",
    fix="read the body in the route; errors of JSON-RPC have status 200",
)
def an_empty_request_is_answered(server: ServerUnderTest) -> None:
    """`{}` gets a JSON-RPC error with status 200, by which the framework detects `/mcp`."""
    response = server.http_json("POST", "/mcp", {})
    require(response.get("jsonrpc") == "2.0", '`"jsonrpc":"2.0"`', response)


@check(
    "mcp-id",
    "MCP-2",
    cause="the response does not use the id of the request",
    fix="copy the `id` of the request",
)
def a_request_is_answered_under_its_id(server: ServerUnderTest) -> None:
    """A response has the id of its request, and either a result or an error."""
    response = _call(server, "tools/list")
    require(response.get("id") == 7, "the request's id, 7", response)
    present = [key for key in ("result", "error") if response.get(key) is not None]
    require(len(present) == 1, "either `result` or `error`", response)


@check(
    "mcp-unknown-method",
    "MCP-3",
    cause="an unknown method gets the code of a server error",
    fix="answer error −32601",
)
def an_unknown_method_is_an_error(server: ServerUnderTest) -> None:
    """An unknown method is error −32601."""
    error = _error(_call(server, "conformance/unknown"))
    require(error.get("code") == -32601, "code −32601", error)


@check(
    "mcp-frame",
    "MCP-4",
    cause="the response has another frame type, or the call counts as a step",
    fix='answer `{"type":"mcp","data":RESPONSE}` and leave the episode alone',
)
def an_mcp_frame_is_answered(server: ServerUnderTest) -> None:
    """An `mcp` frame is answered by an `mcp` frame and does not count as a step."""
    with server.session() as session:
        session.begin()
        before = session.state()
        reply = session.ask({"type": "mcp", "data": _request("tools/list")})
        require(isinstance(reply, dict) and reply.get("type") == "mcp", "an `mcp` frame", reply)
        response = reply.get("data")
        identified = isinstance(response, dict) and response.get("id") == 7
        require(identified, "a response with the request's id, 7", reply)
        changed = session.changed_since(before)
        require(not changed, "an unchanged state", changed)


@check(
    "mcp-session",
    "MCP-5",
    cause="only a WebSocket can create a session",
    fix="create a session and return its id; close it by that id",
)
def a_session_is_created_and_closed(server: ServerUnderTest) -> None:
    """A session is created and closed over MCP, and closing it again is an error."""
    session_id = _create(server)
    response = _close(server, session_id)
    require(response.get("result"), "a `result`", response)
    require(_close(server, session_id).get("error"), "an `error` the second time", response)


@check(
    "mcp-capacity",
    "MCP-6",
    cause="sessions created over MCP are not counted, or the refusal has another form",
    fix="count them like those of WebSockets; answer error −32000 with both counts",
    needs="capacity",
)
def a_session_above_the_capacity_is_refused(server: ServerUnderTest) -> None:
    """At capacity, creating a session over MCP is refused too."""
    capacity = server.options.capacity or 0
    with ExitStack() as sessions:
        for _ in range(capacity):
            sessions.callback(_close, server, _create(server))
        error = _error(_call(server, "openenv/session/create"))
        require(error.get("code") == -32000, "code −32000", error)
        data = error.get("data")
        counts = {"active_sessions": capacity, "max_sessions": capacity}
        require(isinstance(data, dict) and counts.items() <= data.items(), str(counts), error)


@check(
    "mcp-tools",
    "MCP-7",
    cause="the server offers no MCP, or requires a handshake first",
    fix="answer `tools/list` with the environment's tools, or with an empty list",
)
def tools_are_listed(server: ServerUnderTest) -> None:
    """`tools/list` names every tool with its schema."""
    response = _call(server, "tools/list")
    result = response.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    require(isinstance(tools, list), "a list `tools`", response)
    for tool in tools or []:
        named = isinstance(tool, dict) and {"name", "description", "inputSchema"} <= set(tool)
        require(named, "`name`, `description` and `inputSchema`", tool)


@check(
    "mcp-unknown-tool",
    "MCP-8",
    cause="the exception of the lookup is sent as a result",
    fix="answer an error, such as −32602, or a result with `isError`",
)
def an_unknown_tool_is_an_error(server: ServerUnderTest) -> None:
    """A call of an unknown tool is an error."""
    response = _call(server, "tools/call", {"name": "conformance-no-such-tool", "arguments": {}})
    result = response.get("result")
    failed = response.get("error") or (isinstance(result, dict) and result.get("isError"))
    require(failed, "an error", response)


@check(
    "mcp-attach",
    "MCP-9",
    cause="the server ignores `session_id` in the address",
    fix="continue the session with that id on the connection",
)
def a_websocket_attaches_to_a_session(server: ServerUnderTest) -> None:
    """A session created over MCP keeps its episode from one WebSocket to the next."""
    session_id = _create(server)
    try:
        with server.session(f"/ws?session_id={session_id}") as session:
            session.reset()
            session.play(1)
            before = session.state()
        with server.session(f"/ws?session_id={session_id}") as session:
            after = session.data({"type": "state"}, "state")
        # Without an id, the episode is known by its steps.
        key = "step_count" if before.get("episode_id") is None else "episode_id"
        same = before.get(key) == after.get(key)
        require(same, f"the same episode, with the {key} {before.get(key)!r}", after)
    finally:
        _close(server, session_id)


@check(
    "mcp-handshake",
    "MCP-10",
    cause="only bare JSON-RPC is answered",
    fix="serve MCP's Streamable HTTP on the same path, for example with FastMCP",
)
def the_standard_handshake_is_answered(server: ServerUnderTest) -> None:
    """`initialize` is answered with the protocol version and the server's name."""
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "conformance", "version": "1"},
    }
    accept = {"Accept": "application/json, text/event-stream"}
    response = server.http(
        "POST",
        "/mcp",
        _request("initialize", params),
        headers=accept | server.authorization,
        timeout_s=max(_LOADING_S, server.options.timeout_s),
    )
    # MCP allows an answer as a stream of events; the last event is the response.
    lines = response.text.splitlines()
    events = [line.removeprefix("data:") for line in lines if line.startswith("data:")]
    try:
        answer = json.loads(events[-1] if events else response.text)
    except ValueError:
        answer = response.text
    result = answer.get("result") if isinstance(answer, dict) else None
    complete = isinstance(result, dict) and {"protocolVersion", "serverInfo"} <= set(result)
    require(complete, "`protocolVersion` and `serverInfo`", answer)


@check(
    "mcp-websocket",
    "MCP-11",
    cause="the route is missing, or responses are wrapped in frames with a `type`",
    fix="accept WebSockets at `/mcp`; answer each request with its JSON-RPC response alone",
)
def a_websocket_takes_requests(server: ServerUnderTest) -> None:
    """A WebSocket at `/mcp` answers requests, and an unknown method by error −32601."""
    with server.session("/mcp") as session:
        response = session.ask(_request("tools/list"))
        identified = isinstance(response, dict) and response.get("id") == 7
        require(identified, "a response with the request's id, 7", response)
        response = session.ask(_request("conformance/unknown"))
        require(isinstance(response, dict), "a JSON-RPC response", response)
        error = _error(response)
        require(error.get("code") == -32601, "code −32601", error)
