# SPDX-License-Identifier: BSD-3-Clause
"""A session answers to its owner only, one call at a time, and counts until it is closed."""

import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from waiting import wait_until
from websockets.exceptions import ConnectionClosed

from stepwire.conformance.conversation import Conversation

_CAPACITY = 3
_slow = pytest.mark.slow


def _request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _post(url: str, request: Any) -> Any:
    return requests.post(f"{url}/mcp", json=request, timeout=60).json()


_CALL = _request("tools/call", name="report", arguments={})


def test_the_session_of_a_connection_answers_to_that_connection_only(
    conversation: Any, server: Any, connect: Any
) -> None:
    created = conversation.ask({"type": "mcp", "data": _request("openenv/session/create")})
    session_id = created["data"]["result"]["session_id"]
    attached = connect(f"{server.ws_url}?session_id={session_id}")
    assert attached.receive()["data"]["message"] == f"Session {session_id} is not known"
    assert attached.close_code() == 1000
    stranger = connect()
    for request in (
        _request("openenv/session/close", session_id=session_id),
        _request("tools/list", session_id=session_id),
        _request("tools/call", session_id=session_id, name="read_note", arguments={"text": "Hi"}),
    ):
        refused = {"code": -32602, "message": f"Unknown session_id: {session_id}", "data": None}
        assert _post(server.url, request)["error"] == refused
        if request["method"] == "openenv/session/close":
            answer = stranger.ask({"type": "mcp", "data": request})["data"]
            assert answer["error"] == refused
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 1


class _Clients(RuleBasedStateMachine):
    """Random sequences of all that opens, uses and ends sessions, many of them at once."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._url = base
        self._created: list[str] = []
        self._connections: list[Any] = []
        self._pool = ThreadPoolExecutor(6)
        self._pending: list[Future[Any]] = []

    def _later(self, request: Any) -> None:
        self._pending.append(self._pool.submit(_post, self._url, request))

    @rule()
    def create(self) -> None:
        answer = _post(self._url, _request("openenv/session/create"))
        if "result" in answer:
            self._created.append(answer["result"]["session_id"])
        else:
            assert answer["error"]["data"] == {"active_sessions": 3, "max_sessions": 3}

    @rule(index=st.integers(0, 5), is_named=st.booleans())
    def connect(self, index: int, is_named: bool) -> None:
        query = (
            f"?session_id={self._created[index % len(self._created)]}"
            if (is_named and self._created)
            else ""
        )
        url = self._url.replace("http", "ws", 1) + "/ws" + query
        opened = Conversation.open(url)
        conversation = opened.__enter__()
        with suppress(ConnectionClosed):  # the refusal and the close frame have come
            conversation.send({"type": "step", "data": _STEP})
        if conversation.receive()["type"] == "observation":
            self._connections.append((opened, conversation))
        else:
            assert conversation.close_code() == 1000

    @precondition(lambda self: self._connections)
    @rule(
        index=st.integers(0, 5), how=st.sampled_from(["close", "leave", "leave in a call", "cut"])
    )
    def disconnect(self, index: int, how: str) -> None:
        opened, conversation = self._connections.pop(index % len(self._connections))
        if how == "close":
            conversation.send({"type": "close"})
            assert conversation.close_code() == 1000
        if how == "leave in a call":
            conversation.send({"type": "step", "data": _STEP})
        if how == "cut":
            conversation.connection.socket.shutdown(socket.SHUT_RDWR)
        opened.__exit__(None, None, None)

    @precondition(lambda self: self._connections)
    @rule(index=st.integers(0, 5))
    def step(self, index: int) -> None:
        _, conversation = self._connections[index % len(self._connections)]
        numbers = conversation.step(**_STEP)["data"]["observation"]["result"]
        _check(numbers)

    @precondition(lambda self: self._created)
    @rule(index=st.integers(0, 5), calls=st.integers(1, 5))
    def call_at_once(self, index: int, calls: int) -> None:
        session_id = self._created[index % len(self._created)]
        params = {**_CALL["params"], "session_id": session_id}
        for _ in range(calls):
            self._later({**_CALL, "params": params})

    @precondition(lambda self: self._created)
    @rule(index=st.integers(0, 5))
    def close_at_some_time(self, index: int) -> None:
        session_id = self._created[index % len(self._created)]
        self._later(_request("openenv/session/close", session_id=session_id))

    @rule()
    def use_once(self) -> None:
        _check(_post(self._url, _CALL)["result"]["result"])

    def teardown(self) -> None:
        for opened, _ in self._connections:
            opened.__exit__(None, None, None)
        for session_id in self._created:
            self._later(_request("openenv/session/close", session_id=session_id))
        self._pool.shutdown()
        for answer in self._pending:
            result = answer.result()
            if "error" in result:
                assert result["error"]["message"].startswith("Unknown session_id"), result
        sessions = f"{self._url}/sessions"
        wait_until(lambda: requests.get(sessions, timeout=60).json()["active_sessions"] == 0)
        _check(_post(self._url, _CALL)["result"]["result"], alive=1)


_STEP = {"tool_name": "report", "arguments": {}}


def _check(numbers: list[int], alive: int | None = None) -> None:
    """One environment more than the capacity is that of a request without a session."""
    assert numbers[0] == alive or alive is None
    assert numbers[1] <= _CAPACITY + 1
    assert numbers[2] == 0, "a call, or `close`, came in the middle of another call"


_WITH_WORKERS = "from stepwire.server import serve; serve('served_environments:app')"


@pytest.fixture(scope="module", params=["one process", pytest.param("workers", marks=_slow)])
def served(request: pytest.FixtureRequest, start_shared_server: Callable[..., Any]) -> Any:
    """The environments, served by one process or by three workers."""
    if request.param == "one process":
        return request.getfixturevalue("environments")
    return start_shared_server(
        command=[sys.executable, "-c", _WITH_WORKERS, "--port", "{port}", "--workers", "3"],
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["guarded", "async-guarded"])
def test_random_sequences_exceed_no_limit_and_leave_nothing(served: Any, name: str) -> None:
    run_state_machine_as_test(
        lambda: _Clients(f"{served.url}/{name}"),
        settings=settings(max_examples=8, stateful_step_count=20),
    )


@pytest.mark.parametrize("name", ["guarded", "async-guarded", "shared-guarded"])
def test_calls_of_one_environment_come_one_at_a_time_and_close_waits(
    served: Any, name: str
) -> None:
    url = f"{served.url}/{name}"
    session_id = _post(url, _request("openenv/session/create"))["result"]["session_id"]
    named = {**_CALL, "params": {**_CALL["params"], "session_id": session_id}}
    close = _request("openenv/session/close", session_id=session_id)
    requests_ = [named] * 4 + [_CALL] * 4 + [close] + [named] * 3
    with ThreadPoolExecutor(len(requests_)) as pool:
        answers = [*pool.map(lambda request: _post(url, request), requests_)]
    assert [answer["result"]["result"][2] for answer in answers[:8] if "result" in answer]
    assert answers[8]["result"]["closed"] is True
    assert _post(url, _CALL)["result"]["result"][2] == 0
