# SPDX-License-Identifier: BSD-3-Clause
"""One thread for each session, from the constructor to `close`, and one for each request.

The environments refuse to be called from any other thread. What they keep in a context variable
lasts from call to call.
"""

import re
import socket
from typing import Any

import requests
from waiting import wait_until

_LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
_CALL = {**_LIST, "method": "tools/call", "params": {"name": "name_thread", "arguments": {}}}


def _observed(answer: Any) -> Any:
    assert answer["type"] == "observation", answer
    return answer["data"]["observation"]


def _end(session: Any) -> None:
    session.send({"type": "close"})
    assert session.close_code() == 1000


def test_all_of_a_session_runs_in_its_thread(connect_to: Any, environments: Any) -> None:
    sessions = [connect_to("bound") for _ in range(4)]
    threads = [_observed(session.step(text="Hi"))["text"] for session in sessions]
    assert len(set(threads)) == 4
    for session, thread in zip(sessions, threads, strict=True):
        assert _observed(session.ask({"type": "reset"}))["text"] == thread
        assert _observed(session.step(text="Hi")) == {"metadata": {}, "text": thread, "length": 2}
        state = session.ask({"type": "state"})
        assert state == {"type": "state", "data": {"episode_id": "bound", "step_count": 2}}
        action = {"type": "call_tool", "tool_name": "name_thread", "arguments": {}}
        assert _observed(session.ask({"type": "step", "data": action}))["result"]["data"] == thread
        answer = session.ask({"type": "mcp", "data": _CALL})
        assert answer["data"]["result"]["data"] == thread
        _end(session)
        assert f"closed in {thread} after 2 steps" in environments.log


def test_a_stamp_and_a_log_line_read_the_state_in_the_thread(
    connect_to: Any, environments: Any
) -> None:
    session = connect_to("bound")
    session.ask({"type": "reset", "data": {"scenario": {"stamp": True}}})
    assert _observed(session.step(text="Hi"))["metadata"]["stamp"]
    assert session.step(text="fail")["data"]["code"] == "EXECUTION_ERROR"
    wait_until(lambda: "KeyError: 'on purpose'" in environments.log)
    (failed,) = re.findall(r"Environment failed .* (\{.*\})", environments.log)[-1:]
    assert '"episode_id": "bound"' in failed


def test_a_request_has_a_thread_from_the_constructor_to_close(environments: Any) -> None:
    client, address = requests.Session(), f"{environments.url}/bound"
    answers = [client.post(f"{address}/reset", timeout=60)]
    answers += [
        client.post(f"{address}/step", json={"action": {"text": "Hi"}}, timeout=60)
        for _ in range(2)
    ]
    answers += [client.get(f"{address}/{route}", timeout=60) for route in ("state", "metadata")]
    answers += [
        client.post(f"{address}/mcp", json=request, timeout=60) for request in (_LIST, _CALL)
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert answers[2].json()["observation"]["length"] == 2
    thread = answers[-1].json()["result"]["data"]
    wait_until(lambda: f"closed in {thread} after 0 steps" in environments.log)


def test_a_session_created_over_mcp_has_a_thread(connect_to: Any, environments: Any) -> None:
    def ask(method: str, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = requests.post(f"{environments.url}/bound/mcp", json=request, timeout=60)
        return answer.json()["result"]

    session_id = ask("openenv/session/create")["session_id"]
    tool = {"name": "name_thread", "arguments": {}, "session_id": session_id}
    threads = {ask("tools/call", **tool)["data"] for _ in range(3)}
    session = connect_to("bound", f"?session_id={session_id}")
    threads.add(_observed(session.step(text="Hi"))["text"])
    session.connection.close()
    (thread,) = threads
    assert ask("openenv/session/close", session_id=session_id)["closed"]
    wait_until(lambda: f"closed in {thread} after 1 steps" in environments.log)


def test_threads_end_with_their_sessions(connect_to: Any) -> None:
    other = connect_to("bound")

    def running() -> set[str]:
        return set(_observed(other.step(text="name threads"))["text"].split("\n"))

    # By their names: threads of the tests before may end meanwhile.
    sessions = [connect_to("bound") for _ in range(20)]
    threads = {_observed(session.step(text="Hi"))["text"] for session in sessions}
    assert len(threads) == 20
    assert threads <= running()
    for session in sessions:
        _end(session)
    wait_until(lambda: not threads & running())


def test_a_session_is_closed_in_its_thread_after_a_call_its_client_left(
    connect_to: Any, environments: Any
) -> None:
    leaving, other = connect_to("bound"), connect_to("bound")
    thread = _observed(leaving.step(text="Hi"))["text"]
    leaving.send({"type": "step", "data": {"text": "wait"}})
    leaving.connection.socket.shutdown(socket.SHUT_RDWR)
    assert f"closed in {thread} " not in environments.log
    other.step(text="go on")
    wait_until(lambda: f"closed in {thread} after 2 steps" in environments.log)


def test_an_environment_with_async_steps_is_made_and_closed_in_a_thread(
    connect_to: Any, environments: Any
) -> None:
    session = connect_to("async-bound")
    thread = _observed(session.ask({"type": "reset"}))["text"]  # it is synchronous
    assert thread != "MainThread"
    assert _observed(session.step(text="Hi"))["text"] == "MainThread"
    assert session.ask({"type": "state"})["data"]["episode_id"] == "MainThread"
    _end(session)
    assert f"closed in {thread} after 0 steps" in environments.log
    reply = requests.get(f"{environments.url}/async-bound/state", timeout=60)
    assert reply.json()["episode_id"] == "MainThread"
