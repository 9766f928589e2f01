# SPDX-License-Identifier: BSD-3-Clause
"""Environments with tools on FastMCP, on every route; beside the stock server where it has it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import fastmcp
import pytest
import requests
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.mcp_client import MCPToolClient

from compatibility.deviations import DEVIATIONS, equalized
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.conformance.conversation import Conversation
from stepwire.server import create_app
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.sessions import Sessions
from stepwire.server.settings import Settings

_TOOLS = ["add", "rest", "fail", "count", "draw"]
_ADD = {"name": "add", "arguments": {"a": 2, "b": 3}}


@pytest.fixture(scope="module")
def servers(start_shared_server: Any) -> dict[str, Any]:
    """Our server and the stock server of the same environments."""
    file = Path(__file__).with_name("served_mcp.py")
    return {
        kind: start_shared_server(application=file, env={"SERVED_BY": kind})
        for kind in ("ours", "stock")
    }


@pytest.fixture(scope="module")
def server(servers: dict[str, Any]) -> Any:
    return servers["ours"]


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _post(server: Any, path: str, body: Any) -> Any:
    return requests.post(server.url + path, json=body, timeout=60).json()


@contextmanager
def _open(server: Any, path: str) -> Iterator[Conversation]:
    with Conversation.open(f"{server.ws_url.removesuffix('/ws')}{path}") as conversation:
        yield conversation


def _act(conversation: Conversation, action: Any) -> dict[str, Any]:
    answer: dict[str, Any] = conversation.ask({"type": "step", "data": action})
    return answer


def _call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "call_tool", "tool_name": name, "arguments": arguments}


_CALLS = (
    {"type": "list_tools"},
    _call("add", a=2, b=3),
    {"tool_name": "add", "arguments": {"a": 2, "b": 3}},
    _call("add", a="two"),
    _call("fail", reason="it rains"),
    _call("count"),
    _call("count"),
    _call("draw"),
    _call("dance"),
    {"colour": "red"},
)


@pytest.mark.parametrize("name", ["workshop", "made", "signed", "client", "server"])
def test_every_route_answers_as_on_the_stock_server(servers: dict[str, Any], name: str) -> None:
    answers: dict[str, list[Any]] = {}
    for kind, server in servers.items():
        answers[kind] = answered = []
        tool = {"name": "take", "arguments": {"number": 3}} if "er" in name else _ADD
        requests_ = [_rpc("tools/list"), _rpc("tools/call", **tool), _rpc("tools/call", name="x")]
        with _open(server, f"/{name}/ws") as conversation:
            answered.append(conversation.ask({"type": "reset"}))
            # The stock server has no list of tools where calls have a class of their own.
            actions = _CALLS[1:] if name == "signed" else _CALLS
            answered += [_act(conversation, action) for action in actions]
            answered += [conversation.ask({"type": "mcp", "data": each}) for each in requests_]
            answered.append(conversation.ask({"type": "state"}))
        with _open(server, f"/{name}/mcp") as conversation:
            answered += [conversation.ask(json.dumps(request)) for request in requests_]
        answered += [_post(server, f"/{name}/mcp", request) for request in requests_]
        answered.append(_post(server, f"/{name}/step", {"action": _call("add", a=2, b=3)}))
    assert equalized(answers["ours"], DEVIATIONS) == equalized(answers["stock"], DEVIATIONS)


@pytest.mark.parametrize(
    ("name", "action", "seen"),
    [
        ("workshop", _call("add", a=1, b=2), "CallToolAction"),
        ("signed", _call("add", a=1, b=2) | {"signature": "me"}, "SignedCall"),
        ("painted", _call("add", a=1, b=2), "CallToolAction"),
        ("either", _call("add", a=1, b=2), "CallToolAction"),
        ("tools-only", _call("add", a=1, b=2), "CallToolAction"),
        ("painted", {"colour": "red"}, "Paint"),
        ("either", {"colour": "red"}, "Paint"),
    ],
)
def test_actions_of_each_kind_are_steps_of_the_environment(
    server: Any, name: str, action: Any, seen: str
) -> None:
    with _open(server, f"/{name}/ws") as conversation:
        conversation.ask({"type": "reset"})
        listed = _act(conversation, {"type": "list_tools"})["data"]
        assert [tool["name"] for tool in listed["observation"]["tools"]] == _TOOLS
        assert listed["metadata"]["action"] == "ListToolsAction"
        for step in (2, 3):
            acted = _act(conversation, action)["data"]
            assert (acted["reward"], acted["metadata"]["action"]) == (step / 2, seen)
        assert conversation.ask({"type": "state"})["data"]["step_count"] == 3
        unknown = _act(conversation, {"size": 1})["data"]
        assert unknown["code"] == "VALIDATION_ERROR"
    assert requests.get(f"{server.url}/{name}/schema", timeout=60).status_code == 200
    _post(server, f"/{name}/web/reset", {})
    assert _post(server, f"/{name}/web/step", {"action": action})["reward"] == 0.5
    overtime = {"action": action, "timeout_s": 30}
    assert _post(server, f"/{name}/step", overtime)["reward"] == 0.5


def test_code_in_an_action_calls_the_tools_as_on_the_stock_server(servers: dict[str, Any]) -> None:
    answers: dict[str, list[Any]] = {}
    for kind, server in servers.items():
        with _open(server, "/coded/ws") as conversation:
            codes = ("result = add(a=2, b=3)", "result = dance()", "result =")
            answers[kind] = [_act(conversation, {"code": code}) for code in codes]
    assert equalized(answers["ours"], DEVIATIONS) == equalized(answers["stock"], DEVIATIONS)
    done, failed, _ = [answer["data"]["metadata"] for answer in answers["ours"]]
    assert (done["result"], "dance" in failed["error"]) == (5, True)


def test_tools_that_are_not_steps_are_listed_and_called_beside_the_actions(server: Any) -> None:
    with _open(server, "/client-beside-actions/ws") as conversation:
        listed = _act(conversation, {"type": "list_tools"})["data"]["observation"]["tools"]
        assert [tool["name"] for tool in listed] == ["take", "drop"]
        called = _act(conversation, _call("take", number=4))["data"]["observation"]
        assert called["result"]["data"] == {"taken": 4}
        failed = _act(conversation, _call("drop", number=4))["data"]["observation"]
        assert failed["error"]["error_type"] == "execution_error"
        for refused, kind in ((_call("none"), "tool_not_found"), (_call("drop"), "invalid_args")):
            answer = _act(conversation, refused)["data"]["observation"]
            assert answer["error"]["error_type"] == kind
        assert _act(conversation, {"colour": "red"})["type"] == "observation"


def test_tools_may_be_made_by_a_reset(server: Any) -> None:
    take = _call("take", number=4)
    with _open(server, "/lazy/ws") as conversation:
        unknown = _act(conversation, take)["data"]["observation"]
        assert unknown["error"]["error_type"] == "tool_not_found"
        conversation.ask({"type": "reset"})
        for arguments in ({}, {"number": 4, "more": 1}):
            refused = _act(conversation, _call("drop", **arguments))["data"]["observation"]
            assert refused["error"]["error_type"] == "invalid_args"
            assert ("more" if arguments else "number") in refused["error"]["message"]
        taken = _act(conversation, take)["data"]["observation"]["result"]
        assert taken["data"] == taken["structured_content"] == {"taken": 4}
        listed = conversation.ask({"type": "mcp", "data": _rpc("tools/list")})["data"]["result"]
        assert [tool["name"] for tool in listed["tools"]] == ["take", "drop"]


def test_the_calls_of_one_environment_never_overlap(server: Any) -> None:
    url = "/workshop/mcp"
    session = _post(server, url, _rpc("openenv/session/create"))["result"]

    def rest_over_http(_: int) -> Any:
        rest = {"name": "rest", "arguments": {"seconds": 0.05}, **session}
        return _post(server, url, _rpc("tools/call", **rest))["result"]["data"]

    with (
        _open(server, f"/workshop/ws?session_id={session['session_id']}") as conversation,
        ThreadPoolExecutor(4) as pool,
    ):
        over_http = pool.map(rest_over_http, range(4))
        for _ in range(4):
            rested = _act(conversation, _call("rest", seconds=0.05))["data"]["observation"]
            assert rested["result"]["data"] == "1 at once"
        assert [*over_http] == ["1 at once"] * 4
        assert conversation.ask({"type": "state"})["data"]["step_count"] == 4
        closing = _post(server, url, _rpc("openenv/session/close", **session))["result"]
        assert closing == {**session, "closed": False, "closing": True}


def test_a_session_is_closed_when_its_calls_are_over(server: Any) -> None:
    url = "/workshop/mcp"
    session = _post(server, url, _rpc("openenv/session/create"))["result"]
    rest = {"name": "rest", "arguments": {"seconds": 0.5}, **session}
    body = json.dumps(_rpc("tools/call", **rest))
    with (
        closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as first,
        closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as second,
    ):
        for client in (first, second):  # both are sent before the session is closed
            client.request("POST", url, body, {"Content-Type": "application/json"})
        rested = [json.load(first.getresponse())]
        closed = _post(server, url, _rpc("openenv/session/close", **session))
        assert closed["result"]["closed"] is True
        rested.append(json.load(second.getresponse()))
        assert all(answer["result"]["data"] == "1 at once" for answer in rested)
    assert _post(server, url, _rpc("tools/list", **session))["error"]["code"] == -32602


class Blocking(MCPEnvironment):
    """Its only tool blocks a thread of FastMCP's; each call and `close` adds to `events`."""

    events: list[str] = []  # noqa: RUF012 - shared on purpose
    begun = threading.Event()
    go_on = threading.Event()

    def __init__(self) -> None:
        mcp: Any = fastmcp.FastMCP("blocking")

        @mcp.tool
        def block(seconds: float) -> None:
            self.events.append("begin")
            self.begun.set()
            self.go_on.wait(60)
            time.sleep(seconds)
            self.events.append("end")

        super().__init__(mcp)

    def reset(self, **_: Any) -> Observation:
        return Observation()

    def _step_impl(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        return Observation()

    @property
    def state(self) -> State:
        return State()

    def close(self) -> None:
        self.events.append("close")
        super().close()


def test_a_call_whose_caller_is_cancelled_keeps_its_turn() -> None:
    async def use() -> None:
        sessions = Sessions(EnvironmentFactory(Blocking), Settings(), CallToolAction)
        session = await sessions.open()

        async def call(seconds: float) -> None:
            async with session.in_use():
                await session.tools.call(session, "block", {"seconds": seconds})

        async def call_and_cancel() -> None:
            Blocking.begun.clear()
            Blocking.go_on.clear()
            cancelled = asyncio.create_task(call(0.2))
            await asyncio.to_thread(Blocking.begun.wait, 60)
            cancelled.cancel()
            Blocking.go_on.set()  # not before: a call that has ended cannot be cancelled
            with pytest.raises(asyncio.CancelledError):
                await cancelled

        await call_and_cancel()
        await call(0)
        await call_and_cancel()
        await sessions.close(session)
        assert sessions.active == 0
        await sessions.aclose()

    asyncio.run(use())
    assert Blocking.events == [*["begin", "end"] * 3, "close"]


def test_clients_of_the_standard_list_and_call_the_tools(server: Any) -> None:
    async def use() -> Any:
        async with fastmcp.Client(f"{server.url}/workshop/mcp") as client:
            tools = [tool.name for tool in await client.list_tools()]
            added = await client.call_tool("add", {"a": 2, "b": 3})
            drawn = await client.call_tool("draw", {})
            failed = await client.call_tool("fail", {"reason": "x"}, raise_on_error=False)
            return tools, added.data, drawn.content[0].type, failed.is_error

    assert asyncio.run(use()) == (_TOOLS, 5, "image", True)


@pytest.mark.parametrize("production", [False, True], ids=["steps", "production mode"])
def test_the_framework_s_client_lists_and_calls_the_tools(server: Any, production: bool) -> None:
    async def use() -> Any:
        client = MCPToolClient(base_url=f"{server.url}/workshop")
        client.use_production_mode = production
        async with client:
            await client.reset()
            tools = [tool.name for tool in await client.list_tools()]
            added = await client.call_tool("add", a=2, b=3)
            with pytest.raises(RuntimeError, match="it rains"):
                await client.call_tool("fail", reason="it rains")
            return tools, added, await client.has_tool("dance")

    assert asyncio.run(use()) == (_TOOLS, 5, False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("reserving", "reserved names"),
        ("uninitialised", "must call super().__init__() with a FastMCP server"),
        ("without-tools", "the server needs a FastMCP server there"),
    ],
)
def test_tools_that_cannot_be_served_fail_the_session_and_the_log_says_why(
    server: Any, name: str, reason: str
) -> None:
    for path in ("ws", "mcp"):
        with _open(server, f"/{name}/{path}") as conversation:
            refused = conversation.receive()
            assert conversation.close_code() == 1000
        code = refused["data"]["code"] if path == "ws" else refused["error"]["code"]
        assert code == ("FACTORY_ERROR" if path == "ws" else -32000)
    created = _post(server, f"/{name}/mcp", _rpc("openenv/session/create"))
    assert created["error"]["code"] == -32000
    assert created["error"]["data"]["factory_name"]
    assert reason in server.log


def test_the_websocket_of_json_rpc_survives_invalid_requests(server: Any) -> None:
    with _open(server, "/workshop/mcp") as conversation:
        for sent, code in (("{", -32700), ("[]", -32600), ("{}", -32600), (b"\xff", -32700)):
            assert conversation.ask(sent)["error"]["code"] == code
        created = conversation.ask(json.dumps(_rpc("openenv/session/create")))["result"]
        close = json.dumps(_rpc("openenv/session/close", **created))
        assert conversation.ask(close)["error"]["code"] == -32600
        added = conversation.ask(json.dumps(_rpc("tools/call", **_ADD)))
        assert added["result"]["data"] == 5


def test_at_capacity_the_websocket_of_json_rpc_is_refused_as_on_the_stock_server(
    servers: dict[str, Any],
) -> None:
    refusals = []
    for server in servers.values():
        with _open(server, "/narrow/mcp") as first, _open(server, "/narrow/mcp") as second:
            refusals.append(second.receive())
            assert second.close_code() == 1000
            assert first.ask(json.dumps(_rpc("tools/list")))["result"]["tools"]
    assert refusals[0] == refusals[1]
    assert refusals[0]["error"]["data"] == {"active_sessions": 1, "max_sessions": 1}


def test_no_deprecations_of_the_framework_s_own_code_are_logged(server: Any) -> None:
    with _open(server, "/workshop/ws") as conversation:
        _act(conversation, {"type": "list_tools"})
    assert "Deprecat" not in server.log


# At start.


def _offered(text: str) -> str:
    return text


class _Tooled(NotesEnvironment):
    def method(self) -> None:
        """Needs an environment."""


def _refusal(**attributes: Any) -> str:
    environment_cls = type("Shelf", (_Tooled,), attributes)
    with pytest.raises(ValueError, match=r"Shelf|TOOLS|tool") as refused:
        create_app(environment_cls, NoteAction, NoteObservation)
    return str(refused.value)


def test_tools_that_cannot_be_served_stop_the_server_at_start() -> None:
    assert "two functions of the name '_offered'" in _refusal(TOOLS=(_offered, _offered))
    assert "must be a tuple of functions" in _refusal(TOOLS={"read": _offered})
    assert "must be a tuple of functions" in _refusal(TOOLS=(_offered, "write"))
    assert "takes `self`" in _refusal(TOOLS=(_Tooled.method,))
    assert "mcp_server is of type str" in _refusal(TOOLS=(), mcp_server="http://localhost")
    assert "mcp_client is of type object" in _refusal(TOOLS=(), mcp_client=object())


def test_an_environment_offers_its_tools_in_one_way() -> None:
    mcp: Any = fastmcp.FastMCP("shelf")
    assert "offers tools twice" in _refusal(TOOLS=(_offered,), mcp_server=mcp)


@pytest.mark.parametrize("constant", [("read", "write"), [{"name": "read"}], "read", None, 3])
def test_a_constant_of_the_author_is_not_a_tool(constant: Any) -> None:
    environment_cls = type("Shelf", (NotesEnvironment,), {"TOOLS": constant})
    assert create_app(environment_cls, NoteAction, NoteObservation)


def test_actions_may_be_a_union() -> None:
    union: Any = NoteAction | CallToolAction | Action
    app = create_app(NotesEnvironment, union, NoteObservation)
    assert "StepRequest" in app.openapi()["components"]["schemas"]
