# SPDX-License-Identifier: BSD-3-Clause
"""`/harness`, beside that of the stock server; `openenv-core` 0.3.0 has no such environments."""

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus

try:
    version("openenv")
except PackageNotFoundError:
    pytestmark = pytest.mark.skip("openenv-core 0.3.0 has no environments that wrap an agent")


@pytest.fixture(scope="module")
def harness_server(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application=Path(__file__).parent.with_name("served_harness.py"))


@pytest.fixture(params=["ours", "stock"])
def talk_to(
    request: pytest.FixtureRequest, harness_server: Any, connect: Callable[..., Any]
) -> Callable[..., Any]:
    """Opens a WebSocket: `talk_to("function")`."""

    def open_one(name: str = "class", mode: str = "production", route: str = "harness") -> Any:
        base = harness_server.ws_url.removesuffix("/ws")
        return connect(f"{base}/{request.param}/{mode}/{name}/{route}")

    return open_one


def _say(conversation: Any, content: str) -> list[Any]:
    """The events of a turn, with `None` for the end of the connection."""
    conversation.send({"type": "message", "content": content})
    events = []
    while True:
        events.append(conversation.receive())
        if events[-1]["type"] == "turn_complete":
            return events
        if events[-1]["type"] == "error":
            assert conversation.close_code() == 1000
            return events


def _turn(number: int, text: str) -> list[Any]:
    said = {"response": text.upper(), "turn": number}
    return [
        {"type": "text_output", "timestamp": 1.0, "data": {"text": text}},
        {"type": "turn_complete", "timestamp": 2.0, "data": said},
    ]


@pytest.mark.parametrize("name", ["class", "function"])
def test_a_conversation_has_one_agent(talk_to: Callable[..., Any], name: str) -> None:
    conversation = talk_to(name)
    started = conversation.receive()
    assert set(started["data"]) == {"session_id", "harness"}
    assert (started["type"], started["data"]["harness"]) == ("session_started", "shouting")
    assert _say(conversation, "one") == _turn(1, "one")
    assert _say(conversation, "two") == _turn(2, "two")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "INVALID_JSON"),
        ("[]", "VALIDATION_ERROR"),
        ({"type": "close"}, "VALIDATION_ERROR"),
        ({"type": "message"}, "VALIDATION_ERROR"),
        ({"type": "message", "content": 7}, "VALIDATION_ERROR"),
    ],
    ids=str,
)
def test_an_invalid_frame_starts_no_turn(
    talk_to: Callable[..., Any], frame: Any, code: str
) -> None:
    conversation = talk_to()
    conversation.receive()
    refusal = conversation.ask(frame)
    assert (refusal["type"], refusal["data"]["code"]) == ("protocol_error", code)
    assert _say(conversation, "one") == _turn(1, "one")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("crash", "harness turn failed"),
        ("vanish", "harness process is not running"),
        ("hang", "harness turn exceeded 0.5 seconds"),
        ("stop short", "harness event stream ended without a TURN_COMPLETE event"),
    ],
)
def test_a_turn_that_fails_ends_the_session(
    talk_to: Callable[..., Any], said: str, reason: str
) -> None:
    conversation = talk_to()
    conversation.receive()
    failure = _say(conversation, said)[-1]
    assert time.time() - 600 < failure.pop("timestamp") <= time.time()
    assert failure == {"type": "error", "data": {"message": reason, "recoverable": False}}


def test_an_agent_that_has_died_takes_no_turn(talk_to: Callable[..., Any]) -> None:
    conversation = talk_to()
    conversation.receive()
    _say(conversation, "die after this turn")
    (failure,) = _say(conversation, "one")
    assert failure["data"]["message"] == "harness process is not running"


def test_an_agent_that_does_not_start_is_a_session_error(talk_to: Callable[..., Any]) -> None:
    conversation = talk_to("unstartable")
    failure = {"message": "harness session failed", "code": "SESSION_ERROR"}
    assert conversation.receive() == {"type": "error", "data": failure}
    assert conversation.close_code() == 1000


def test_capacity_is_that_of_sessions(talk_to: Callable[..., Any]) -> None:
    first = talk_to()
    assert first.receive()["type"] == "session_started"
    assert talk_to().receive()["data"]["code"] == "CAPACITY_REACHED"
    assert talk_to(route="ws").receive()["data"]["code"] == "CAPACITY_REACHED"


def test_it_exists_in_production_mode_only(talk_to: Callable[..., Any]) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        talk_to(mode="simulation")
    conversation = talk_to(mode="simulation", route="ws")
    conversation.ask({"type": "reset"})
    answer = conversation.step(message="one")["data"]
    assert answer["observation"]["metadata"]["response"] == "ONE"


def test_no_agent_is_left(harness_server: Any, connect: Callable[..., Any]) -> None:
    base = harness_server.ws_url.removesuffix("/ws")
    conversation = connect(f"{base}/ours/production/class/harness")
    conversation.receive()
    before = _running(harness_server)
    assert before >= 1
    conversation.connection.close()
    deadline = time.monotonic() + 60
    while _running(harness_server) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _running(server: Any) -> int:
    return int(requests.get(f"{server.url}/running", timeout=60).text)
