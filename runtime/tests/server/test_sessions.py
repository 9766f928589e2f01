# SPDX-License-Identifier: BSD-3-Clause
"""Sessions: capacity, concurrency, and environments that cannot be made or closed."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed

_REFUSED = {
    "type": "error",
    "data": {
        "message": "Server at capacity: 4/4 sessions active. Cannot accept new connections.",
        "code": "CAPACITY_REACHED",
        "active_sessions": 4,
        "max_sessions": 4,
    },
}


@pytest.fixture
def connect_when_free(connect_to: Any) -> Any:
    """Connects again until a slot is free: a server notices some disconnects a little later."""

    def open_one(name: str) -> Any:
        for _ in range(2000):
            conversation = connect_to(name)
            with suppress(ConnectionClosed):  # refused, even before it could ask
                if conversation.ask({"type": "state"})["type"] == "state":
                    return conversation
        return pytest.fail(f"no slot of {name} became free")

    return open_one


def test_a_session_above_the_capacity_is_refused_with_the_numbers(
    connect_to: Any, connect_when_free: Any
) -> None:
    sessions = [connect_when_free("full") for _ in range(4)]
    fifth = connect_to("full")
    assert fifth.receive() == _REFUSED
    assert fifth.close_code() == 1000
    assert [s.step(text="Hi")["data"]["metadata"]["step"] for s in sessions] == [1, 1, 1, 1]


def test_a_close_frame_frees_the_slot_before_the_connection_is_closed(
    connect_to: Any, connect_when_free: Any
) -> None:
    sessions = [connect_when_free("full") for _ in range(4)]
    for session in sessions:
        session.send({"type": "close"})
        assert session.close_code() == 1000
        assert connect_to("full").step(text="Hi")["data"]["metadata"]["step"] == 1


@pytest.mark.parametrize("abruptly", [False, True], ids=["by closing", "by vanishing"])
def test_a_client_that_leaves_frees_its_slot(connect_when_free: Any, abruptly: bool) -> None:
    sessions = [connect_when_free("full") for _ in range(4)]
    if abruptly:
        # Not `close`: while a thread reads from it, that neither tells the server nor keeps the
        # descriptor's number from the next connection.
        sessions[0].connection.socket.shutdown(socket.SHUT_RDWR)
    else:
        sessions[0].connection.close()
    assert connect_when_free("full").step(text="Hi")["data"]["metadata"]["step"] == 1


@pytest.mark.parametrize("name", ["counting", "factory"])
def test_an_environment_that_does_not_support_more_has_one_session_at_a_time(
    connect_to: Any, connect_when_free: Any, name: str
) -> None:
    first = connect_when_free(name)
    error = connect_to(name).receive()["data"]
    assert (error["active_sessions"], error["max_sessions"]) == (1, 1)
    assert first.step(text="Hi")["data"]["observation"]["text"] == "timeout None"
    assert first.ask({"type": "state"})["data"] == {"episode_id": "only", "step_count": 1}


def test_arguments_the_environment_does_not_accept_are_left_out(connect_when_free: Any) -> None:
    data = {"seed": 3, "episode_id": "e", "difficulty": "hard"}
    answer = connect_when_free("counting").ask({"type": "reset", "data": data})
    assert answer["data"]["observation"]["text"] == "seed 3"


def test_sessions_of_synchronous_environments_overlap_in_threads(connect_to: Any) -> None:
    one, other = connect_to("meeting"), connect_to("meeting")
    for session in (one, other):
        session.send({"type": "step", "data": {"text": "Hi"}})
    threads = {s.receive()["data"]["observation"]["text"] for s in (one, other)}
    assert len(threads) == 2
    assert all(thread.startswith("environment") for thread in threads)


def test_requests_have_as_many_threads_as_the_setting_says(
    start_server: Callable[..., Any],
) -> None:
    application = Path(__file__).with_name("served_environments.py")
    server = start_server(application=application, env={"WORKER_THREADS": "2"})

    def step(_: int) -> int:
        address = f"{server.url}/crowd/step"
        reply = requests.post(address, json={"action": {"text": "Hi"}}, timeout=60)
        length: int = reply.json()["observation"]["length"]
        return length

    with ThreadPoolExecutor(8) as clients:
        assert max(clients.map(step, range(16))) == 2


def test_sessions_of_async_environments_overlap_on_the_event_loop(connect_to: Any) -> None:
    one, other = connect_to("async-meeting"), connect_to("async-meeting")
    for session in (one, other):
        session.send({"type": "step", "data": {"text": "Hi"}})
    threads = {s.receive()["data"]["observation"]["text"] for s in (one, other)}
    assert threads == {"MainThread"}


def test_an_environment_that_asks_for_a_single_thread_is_made_and_called_in_it(
    connect_to: Any,
) -> None:
    answers = {
        connect_to("one-thread").step(text="Hi")["data"]["observation"]["text"] for _ in range(4)
    }
    assert len(answers) == 1
    assert answers.pop().startswith("True ")


def test_an_environment_that_cannot_be_made_is_reported_and_logged(
    connect_to: Any, environments: Any
) -> None:
    conversation = connect_to("unbuildable")
    assert conversation.receive() == {
        "type": "error",
        "data": {
            "message": "Environment factory 'Unbuildable' failed to create instance.",
            "code": "FACTORY_ERROR",
            "factory_name": "Unbuildable",
        },
    }
    assert conversation.close_code() == 1000
    assert "RuntimeError: /secret/path" in environments.log


def test_an_environment_that_fails_to_close_is_only_logged(environments: Any) -> None:
    reply = requests.post(
        f"{environments.url}/failing/step", json={"action": {"text": "Hi"}}, timeout=60
    )
    assert (reply.status_code, reply.json()["reward"]) == (200, 0.2)
    assert "RuntimeError: not closed: /secret/path" in environments.log
