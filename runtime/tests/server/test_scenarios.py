# SPDX-License-Identifier: BSD-3-Clause
"""Misbehaviour on request: what each field does, its bounds, and that nothing is random."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed

from notes_env.models import NoteAction
from stepwire.server.scenarios import Fault, Scenario, draw, make_stamp

Ask = Callable[..., Any]


def _begin(conversation: Any, scenario: Any, **arguments: Any) -> Any:
    return conversation.ask({"type": "reset", "data": {"scenario": scenario, **arguments}})


def _messages(conversation: Any, steps: int) -> list[str]:
    """The reply to each step: the text of the observation, or the code of the error."""
    replies = [conversation.step(text=str(number))["data"] for number in range(1, steps + 1)]
    return [reply["code"] if "code" in reply else reply["observation"]["text"] for reply in replies]


# Episode


def test_an_empty_scenario_changes_nothing(conversation: Any) -> None:
    plain = conversation.ask({"type": "reset", "data": {"episode_id": "e"}})
    step = conversation.step(text="Hi")
    assert _begin(conversation, {}, episode_id="e") == plain
    assert conversation.step(text="Hi") == step


def test_a_scenario_ends_with_its_episode(conversation: Any) -> None:
    _begin(conversation, {"reward": 5.0, "done_at": 1})
    assert conversation.step(text="Hi")["data"]["reward"] == 5.0
    conversation.ask({"type": "reset"})
    data = conversation.step(text="Hi")["data"]
    assert (data["reward"], data["done"]) == (0.2, False)


def test_an_episode_is_done_from_a_step_on(conversation: Any) -> None:
    assert _begin(conversation, {"done_at": 3})["data"]["done"] is False
    assert [conversation.step(text="Hi")["data"]["done"] for _ in range(4)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("reward", "rewards"),
    [(-1.5, [-1.5] * 4), ([1.0, 0.0, 2.0], [1.0, 0.0, 2.0, 2.0])],
    ids=["constant", "list"],
)
def test_rewards_are_as_asked_for(conversation: Any, reward: Any, rewards: list[float]) -> None:
    assert _begin(conversation, {"reward": reward})["data"]["reward"] == 0.0
    assert [conversation.step(text="Hi")["data"]["reward"] for _ in rewards] == rewards


def test_observations_are_padded(conversation: Any) -> None:
    first = _begin(conversation, {"observation_bytes": 70_000})
    for reply in (first, conversation.step(text="Hi")):
        assert reply["data"]["observation"]["metadata"]["padding"] == "x" * 70_000


def test_a_stamp_identifies_the_request_that_is_answered(conversation: Any) -> None:
    stamps = [_begin(conversation, {"stamp": True}, seed=7, episode_id="e")]
    stamps += [conversation.step(text="Hi"), conversation.step(text="Hi")]
    found = [reply["data"]["metadata"]["stamp"] for reply in stamps]
    action = NoteAction(text="Hi", metadata={"trace": 1})
    assert found == [
        make_stamp(7, "e", 0, None),
        make_stamp(7, "e", 1, action),
        make_stamp(7, "e", 2, action),
    ]


def test_stamps_are_the_same_on_every_machine() -> None:
    assert make_stamp(7, "e", 0, None) == "45233e96d0b376b708ea97f81eaa791d"
    assert make_stamp(7, "e", 1, NoteAction(text="Hi")) == "5605f3e5ba42e3b9c7ce706a956d9df2"
    assert (
        make_stamp(None, "é😀\u2028", 2, NoteAction(text='\x00"'))
        == "556e92f4e918edaa2c165b102201cfa0"
    )


# Failure


def test_the_environment_fails_at_a_step_and_goes_on(conversation: Any) -> None:
    _begin(conversation, {"fail_at": 2})
    assert _messages(conversation, 4) == ["1", "EXECUTION_ERROR", "3", "4"]
    assert conversation.ask({"type": "state"})["data"]["step_count"] == 3
    error = _begin(conversation, {"fail_at": 1}) and conversation.step(text="Hi")
    assert error["data"]["message"] == "The scenario has the environment fail at step 1"


def test_failures_are_a_function_of_the_seed(connect: Ask) -> None:
    runs = []
    for seed in (7, 7, 8):
        conversation = connect()
        _begin(conversation, {"fail_rate": 0.3}, seed=seed)
        runs.append([text == "EXECUTION_ERROR" for text in _messages(conversation, 20)])
    assert runs[0] == runs[1] == [draw(7, "fail_rate", step) < 0.3 for step in range(1, 21)]
    assert runs[2] != runs[0]
    assert any(runs[0])


def test_the_schedule_is_the_same_on_every_machine() -> None:
    drawn = [draw(7, "fail_rate", step) for step in range(1, 6)]
    assert drawn == [
        0.3002159809817917,
        0.5239225070117423,
        0.4161801532859907,
        0.19373481100628598,
        0.4616184889976518,
    ]
    assert draw(7, "jitter_s", 1) != drawn[0]


# Timing


def test_sleeping_sessions_cost_no_threads(start_server: Ask, connect: Ask) -> None:
    server = start_server()
    sessions = [connect(server.ws_url) for _ in range(50)]
    for session in sessions:
        _begin(session, {"delay_s": 0.5, "jitter_s": 0.5})
    threads = Path(f"/proc/{server.process.pid}/task")
    before = len(list(threads.iterdir()))
    began = time.monotonic()
    for session in sessions:
        session.send({"type": "step", "data": {"text": "Hi"}})
    assert len(list(threads.iterdir())) == before
    for session in sessions:
        assert session.receive()["data"]["observation"]["text"] == "Hi"
    assert 0.5 <= time.monotonic() - began < 25  # one after the other it would be 25 s at least


# The connection


def _fault(kind: str, **more: Any) -> dict[str, Any]:
    return {"fault": {"kind": kind, "at": 2, **more}}


@pytest.mark.parametrize("kind", ["close_before_reply", "close_after_reply"])
def test_a_fault_closes_with_the_code(conversation: Any, kind: str) -> None:
    _begin(conversation, _fault(kind, code=4000))
    conversation.step(text="1")
    conversation.send({"type": "step", "data": {"text": "2"}})
    if kind == "close_after_reply":
        assert conversation.receive()["data"]["observation"]["text"] == "2"
    assert conversation.close_code() == 4000


def test_a_fault_aborts_without_a_close_frame(fast_server: Any, connect: Ask) -> None:
    conversation = connect(fast_server.ws_url)
    _begin(conversation, _fault("abort"))
    conversation.step(text="1")
    conversation.send({"type": "step", "data": {"text": "2"}})
    with pytest.raises(ConnectionClosed) as caught:
        conversation.connection.recv(timeout=60)
    assert caught.value.rcvd is None


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        (_fault("silence"), ["1", "3"]),
        (_fault("late_reply", delay_s=0.1), ["1", "2", "3"]),
        (_fault("duplicate_reply"), ["1", "2", "2", "3"]),
        (_fault("slow_drip", delay_s=0.1), ["1", "2", "3"]),
    ],
    ids=lambda value: value["fault"]["kind"] if isinstance(value, dict) else "",
)
def test_a_fault_changes_which_replies_come(
    server: Any, fast_server: Any, connect: Ask, fault: dict[str, Any], texts: list[str]
) -> None:
    able = fast_server if fault["fault"]["kind"] == "slow_drip" else server
    conversation = connect(able.ws_url)
    _begin(conversation, fault)
    for number in (1, 2, 3):
        conversation.send({"type": "step", "data": {"text": str(number)}})
    received = [conversation.receive()["data"]["observation"]["text"] for _ in texts]
    assert received == texts
    assert conversation.ask({"type": "state"})["data"]["step_count"] == 3


@pytest.mark.parametrize(
    ("kind", "start"), [("broken_json", '{"type":"observation"'), ("wrong_type", '{"type":"surp')]
)
def test_a_fault_breaks_the_reply(conversation: Any, kind: str, start: str) -> None:
    _begin(conversation, _fault(kind))
    conversation.step(text="1")
    conversation.send({"type": "step", "data": {"text": "2"}})
    reply = conversation.connection.recv(timeout=60)
    assert reply.startswith(start)
    if kind == "broken_json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(reply)
    assert conversation.step(text="3")["data"]["observation"]["text"] == "3"


@pytest.mark.parametrize("kind", ["abort", "slow_drip"])
def test_plain_uvicorn_explains_the_faults_it_cannot_perform(
    start_server: Ask, connect: Ask, kind: str
) -> None:
    own = ("--ws", "websockets-sansio")
    server = start_server(*own, application="notes_env.app:app")
    conversation = connect(server.ws_url)
    _begin(conversation, {"fault": {"kind": kind}})
    data = conversation.step(text="Hi")["data"]
    assert data["code"] == "VALIDATION_ERROR"
    assert data["errors"] == [
        {
            "type": "connection_fault",
            "loc": ["scenario", "fault", "kind"],
            "msg": "A connection fault at step 1 needs the WebSocket of the `server` command",
            "input": kind,
        }
    ]
    assert conversation.step(text="Hi")["data"]["observation"]["text"] == "Hi"


# Bounds


def _bounds() -> list[Any]:
    """Each bound of the two models, and a value just past it."""
    cases = []
    for model, prefix in ((Scenario, ()), (Fault, ("fault",))):
        for name, schema in model.model_json_schema()["properties"].items():
            for part in (schema, *schema.get("anyOf", ())):
                for bound, past in (("minimum", -1), ("maximum", 1)):
                    if bound in part:
                        cases.append(pytest.param((*prefix, name), part[bound], past, id=name))
    return cases


@pytest.mark.parametrize(("location", "bound", "past"), _bounds())
def test_past_a_bound_the_error_names_it(
    conversation: Any, location: tuple[str, ...], bound: Any, past: int
) -> None:
    conversation.ask({"type": "reset", "data": {"episode_id": "before"}})
    value = bound + past
    scenario = (
        {"fault": {"kind": "abort", location[1]: value}}
        if len(location) > 1
        else {location[0]: value}
    )
    data = _begin(conversation, scenario)["data"]
    assert data["code"] == "VALIDATION_ERROR"
    error = data["errors"][0]
    assert error["loc"] == ["scenario", *location]
    assert error["input"] == value
    assert error["msg"].endswith(f"or equal to {int(bound)}")
    # The episode goes on as it was.
    assert conversation.ask({"type": "state"})["data"]["episode_id"] == "before"


@pytest.mark.parametrize(
    ("scenario", "location", "reason"),
    [
        ("chaos", [], "Input should be a valid dictionary or instance of Scenario"),
        ({"chaos": 1}, ["chaos"], "Extra inputs are not permitted"),
        ({"fault": {"kind": "chaos"}}, ["fault", "kind"], "Input should be 'close_before_reply'"),
        ({"reward": []}, ["reward", "list[float]"], "List should have at least 1 item"),
        ({"reward": [0] * 10_001}, ["reward", "list[float]"], "List should have at most 10000"),
        *(
            ({"fault": {"kind": "abort", "code": code}}, ["fault", "code"], "Value error, a close")
            for code in (1004, 1005, 1006, 1015, 2999)
        ),
    ],
    ids=[
        *("no object", "unknown field", "unknown fault", "no rewards", "too many rewards"),
        *("1004", "1005", "1006", "1015", "2999"),
    ],
)
def test_an_invalid_scenario_is_refused(
    conversation: Any, scenario: Any, location: list[str], reason: str
) -> None:
    errors = {
        tuple(error["loc"]): error["msg"]
        for error in _begin(conversation, scenario)["data"]["errors"]
    }
    assert errors[("scenario", *location)].startswith(reason)


def test_scenarios_can_be_switched_off(start_server: Ask, connect: Ask) -> None:
    server = start_server(env={"SCENARIOS": "off"})
    conversation = connect(server.ws_url)
    data = _begin(conversation, {"delay_s": 1})["data"]
    assert data["code"] == "VALIDATION_ERROR"
    assert data["errors"][0]["msg"] == "Scenarios are off on this server (SCENARIOS=off)"
    assert conversation.step(text="Hi")["data"]["reward"] == 0.2


# HTTP and descriptions


def test_http_takes_a_scenario_and_explains_an_invalid_one(server: Any) -> None:
    asked = {"seed": 7, "episode_id": "e", "scenario": {"stamp": True}}
    answer = requests.post(f"{server.url}/reset", json=asked, timeout=60)
    assert answer.json()["metadata"]["stamp"] == make_stamp(7, "e", 0, None)
    answer = requests.post(f"{server.url}/reset", json={"scenario": {"delay_s": 61}}, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["scenario", "delay_s"]


def test_http_continues_the_scenario_of_a_client_that_keeps_cookies(server: Any) -> None:
    with requests.Session() as client:
        scenario = {"reward": [1, 2], "done_at": 2, "fail_at": 3}
        client.post(f"{server.url}/reset", json={"scenario": scenario}, timeout=60)
        body = {"action": {"text": "Hi"}}
        answers = [client.post(f"{server.url}/step", json=body, timeout=60) for _ in range(4)]
        results = [(answer.json()["reward"], answer.json()["done"]) for answer in answers[:2]]
        assert results == [(1, False), (2, True)]
        # A step that fails leaves the cookie as it was: asked for again, it fails again.
        for answer in answers[2:]:
            assert answer.status_code == 500
            assert answer.json()["detail"].endswith("fail at step 3")


def test_a_connection_fault_over_http_is_an_error(server: Any) -> None:
    with requests.Session() as client:
        scenario = {"fault": {"kind": "silence"}}
        client.post(f"{server.url}/reset", json={"scenario": scenario}, timeout=60)
        body = {"action": {"text": "Hi"}}
        answer = client.post(f"{server.url}/step", json=body, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "connection_fault"


def test_scenarios_are_described(server: Any) -> None:
    schema = requests.get(f"{server.url}/schema/scenario", timeout=60).json()
    assert schema == Scenario.model_json_schema()
    openapi = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    components = openapi["components"]["schemas"]
    assert components["ResetRequest"]["properties"]["scenario"] == {
        "$ref": "#/components/schemas/Scenario"
    }
    assert {"Scenario", "Fault"} <= set(components)
