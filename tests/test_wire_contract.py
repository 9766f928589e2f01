# SPDX-License-Identifier: BSD-3-Clause
"""The framework's stock server and ours give the same answers to the same frames and requests.

The stock server is that of the installed framework's template, whose environment echoes like ours.
`DEVIATIONS` lists where our server differs on purpose, and why. What each server has to do by
itself is in `stepwire/conformance/CONTRACT.md` and checked with it.
"""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests
from openenv.core.generic_client import GenericEnvClient
from websockets.exceptions import ConnectionClosed

_CORE, _LATER = "openenv-core", "openenv"  # the distributions of the two generations
_BOTH = {_CORE, _LATER}
_INSTALLED = _CORE if list(metadata.distributions(name=_CORE)) else _LATER

_ONE_BAD_FRAME = "a bad frame should not cost the episode; the stock server ends the session"
_AS_OVER_HTTP = "`/ws` refuses what HTTP refuses; the stock server ignores it"
_IN_ONE_FORM = "pydantic decodes the body, so its entries differ from those of FastAPI"

_READY = {"status": "ready", "message": "Echo environment ready!"}

# Cases in which our server's answer differs from the stock server's, with the distributions whose
# server differs and the reason. A listed case must differ, any other case must be equal.
DEVIATIONS: dict[str, tuple[set[str], str]] = {
    "a list": (_BOTH, _ONE_BAD_FRAME),
    "a number": (_BOTH, _ONE_BAD_FRAME),
    "null": (_BOTH, _ONE_BAD_FRAME),
    "a binary frame": (_BOTH, _ONE_BAD_FRAME),
    "5,000 levels": (_BOTH, _ONE_BAD_FRAME),
    "5,000 digits": (_BOTH, _ONE_BAD_FRAME),
    "a lone surrogate": (
        _BOTH,
        "refused before the environment counts a step that cannot be answered",
    ),
    "a negative seed": (_BOTH, _AS_OVER_HTTP),
    "a seed that is not a number": (_BOTH, _AS_OVER_HTTP),
    "an episode_id that is too long": (_BOTH, _AS_OVER_HTTP),
    "an episode_id that is not a string": ({_CORE}, _AS_OVER_HTTP),
    "POST /step with broken JSON": (_BOTH, _IN_ONE_FORM),
    "POST /step with a list": (_BOTH, _IN_ONE_FORM),
    "POST /step with nothing": (_BOTH, _IN_ONE_FORM),
}

_FRAMES: dict[str, Any] = {
    "reset": {"type": "reset"},
    "reset with arguments": {"type": "reset", "data": {"seed": 1, "episode_id": "e", "x": [1]}},
    "reset with a list": {"type": "reset", "data": []},
    "reset with null": {"type": "reset", "data": None},
    "reset with an unknown key": {"type": "reset", "loud": 1},
    "step": {"type": "step", "data": {"message": "Hello"}},
    "step with metadata": {"type": "step", "data": {"message": "Hello", "metadata": {"a": 1}}},
    "step with an empty message": {"type": "step", "data": {"message": ""}},
    "step with emoji": {"type": "step", "data": {"message": "👩‍🚀"}},
    "step without data": {"type": "step"},
    "step with a number": {"type": "step", "data": 5},
    "step with null": {"type": "step", "data": None},
    "step without a message": {"type": "step", "data": {}},
    "step with a number as message": {"type": "step", "data": {"message": 5}},
    "step with NaN as message": '{"type":"step","data":{"message":NaN}}',
    "step with an unknown field": {"type": "step", "data": {"message": "Hello", "loud": 1}},
    "step with an unknown key": {"type": "step", "data": {"message": "Hello"}, "loud": 1},
    "state": {"type": "state"},
    "state with data": {"type": "state", "data": {}},
    "close": {"type": "close"},
    "close with data": {"type": "close", "data": {}},
    "mcp without data": {"type": "mcp"},
    "mcp with a number": {"type": "mcp", "data": 5},
    "no type": {"data": {}},
    "an unknown type": {"type": "dance"},
    "a number as type": {"type": 5},
    "a list as type": {"type": ["reset"]},
    "broken JSON": '{"type":',
    "an empty frame": "",
    "two objects": '{"type":"state"} {}',
    "a list": [],
    "a number": 5,
    "null": None,
    "a binary frame": b'{"type":"state"}',
    "5,000 levels": "[" * 5000 + "]" * 5000,
    "5,000 digits": '{"type":"reset","data":{"seed":' + "9" * 5000 + "}}",
    "a lone surrogate": r'{"type":"step","data":{"message":"\ud800"}}',
    "a negative seed": {"type": "reset", "data": {"seed": -1}},
    "a seed that is not a number": {"type": "reset", "data": {"seed": "seven"}},
    "an episode_id that is too long": {"type": "reset", "data": {"episode_id": "x" * 256}},
    "an episode_id that is not a string": {"type": "reset", "data": {"episode_id": 5}},
}

_REQUESTS: dict[str, Any] = {
    "POST /reset": {},
    "POST /reset with nothing": None,
    "POST /reset with arguments": {"seed": 1, "episode_id": "e", "x": [1]},
    "POST /reset with a negative seed": {"seed": -1},
    "POST /reset with a long episode_id": {"episode_id": "x" * 256},
    "POST /step": {"action": {"message": "Hello"}},
    "POST /step with options": {"action": {"message": "Hi"}, "timeout_s": 1.5, "request_id": "r"},
    "POST /step with nothing": None,
    "POST /step with a list": [],
    "POST /step with broken JSON": '{"action":',
    "POST /step without an action": {},
    "POST /step without a message": {"action": {}},
    "POST /step with a number as message": {"action": {"message": 5}},
    "POST /step with an unknown field": {"action": {"message": "Hi", "loud": 1}},
    "POST /step without time": {"action": {"message": "Hi"}, "timeout_s": 0},
    "GET /state": None,
    "GET /health": None,
    "GET /nope": None,
    "GET /step": None,
    "POST /state": {},
}


@pytest.fixture
def servers(stock_server: Any, server: Any) -> tuple[Any, Any]:
    """The stock server and ours."""
    return stock_server, server


def _essence(answer: Any) -> Any:
    """The part of an answer, from a frame or a response, that has to be equal."""
    if "detail" in answer and isinstance(answer["detail"], list):
        return [(entry["type"], entry["loc"]) for entry in answer["detail"]]
    kind, data = answer.get("type"), answer.get("data", answer)
    if kind == "error":
        # The framework's clients read only these texts.
        text = data["message"] if data["code"] in {"INVALID_JSON", "CAPACITY_REACHED"} else None
        entries = [(e["type"], e["loc"], e["msg"]) for e in data.get("errors", ())]
        return kind, data["code"], text, entries
    if "observation" in data:
        data = {**data, "observation": dict(data["observation"])}
        if _INSTALLED == _CORE:  # its server drops metadata
            data["observation"].pop("metadata", None)
            data.pop("metadata", None)
        # A reset has the metadata of upstream's echo; the template's environment sends none.
        elif data["observation"].get("metadata") == _READY:
            data["observation"]["metadata"] = {}
            data["metadata"] = None
            if kind is not None:  # a frame leaves out what HTTP sends as null
                del data["metadata"]
    elif "episode_id" in data:
        data = {**data, "episode_id": type(data["episode_id"]).__name__}
        data.pop("seed", None)  # the template's environment keeps no seed
    return kind, data


def _replies(connect: Callable[..., Any], server: Any, frame: Any) -> list[Any]:
    """The essence of the replies to a step, `frame`, another step and `state`."""
    conversation = connect(server.ws_url)
    replies = []
    after = [{"type": "step", "data": {"message": "after"}}, {"type": "state"}]
    for sent in ({"type": "step", "data": {"message": "before"}}, frame, *after):
        try:
            replies.append(_essence(conversation.ask(sent)))
        except ConnectionClosed as closed:
            replies.append(("closed", closed.rcvd and closed.rcvd.code))
            break
    return replies


def _is_deviation(case: str) -> bool:
    return case in DEVIATIONS and _INSTALLED in DEVIATIONS[case][0]


@pytest.mark.parametrize("case", [case for case in _FRAMES if not _is_deviation(case)])
def test_a_frame_is_answered_as_by_the_stock_server(
    connect: Any, servers: tuple[Any, Any], case: str
) -> None:
    stock, ours = (_replies(connect, server, _FRAMES[case]) for server in servers)
    assert ours == stock


@pytest.mark.parametrize("case", [case for case in _FRAMES if _is_deviation(case)])
def test_a_deviating_answer_to_a_frame_is_an_error_and_the_session_goes_on(
    connect: Any, servers: tuple[Any, Any], case: str
) -> None:
    stock, ours = (_replies(connect, server, _FRAMES[case]) for server in servers)
    assert ours != stock
    before, (kind, code, _, entries), step, state = ours
    assert before == stock[0]
    assert (kind, code, len(entries)) == ("error", "VALIDATION_ERROR", 1)
    assert step[0] == "observation"
    assert state[1]["step_count"] == 2


def _request(server: Any, case: str) -> tuple[int, Any]:
    method, path = case.split()[:2]
    body = _REQUESTS[case]
    response = requests.request(
        method,
        server.url + path,
        data=None if body is None else body if isinstance(body, str) else json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    return response.status_code, _essence(response.json())


@pytest.mark.parametrize("case", _REQUESTS)
def test_a_request_is_answered_as_by_the_stock_server(servers: tuple[Any, Any], case: str) -> None:
    (stock_status, stock), (our_status, ours) = (_request(server, case) for server in servers)
    assert our_status == stock_status
    assert (ours != stock) is _is_deviation(case)


def test_every_deviation_is_a_case_with_a_reason() -> None:
    assert set(DEVIATIONS) <= set(_FRAMES) | set(_REQUESTS)
    assert all(reason for _, reason in DEVIATIONS.values())


def test_a_session_above_the_capacity_is_refused_as_by_the_stock_server(
    connect: Any, stock_server: Any, one_session_server: Any
) -> None:
    refused = []
    for server in (stock_server, one_session_server):
        taken: list[Any] = []
        while True:
            session = connect(server.ws_url)
            with suppress(ConnectionClosed):  # if it is refused already; the error can be received
                session.send({"type": "state"})
            answer = session.receive()
            if answer["type"] == "error":
                break
            taken.append(session)
        refused.append((re.sub(r"\d+", "N", str(answer)), session.close_code()))
        for session in taken:
            session.send({"type": "close"})
            session.close_code()
    assert refused[0] == refused[1]
    assert "CAPACITY_REACHED" in refused[0][0]


def test_the_schemas_describe_the_same_messages(servers: tuple[Any, Any]) -> None:
    stock, ours = (requests.get(f"{server.url}/schema", timeout=60).json() for server in servers)
    for part in ("action", "observation", "state"):
        assert set(ours[part]["properties"]) == set(stock[part]["properties"])
        assert ours[part].get("required") == stock[part].get("required")


def test_the_frameworks_generic_client_gets_what_it_gets_from_the_stock_server(
    servers: tuple[Any, Any],
) -> None:
    async def episode(url: str) -> list[Any]:
        async with GenericEnvClient(base_url=url) as client:
            results = [await client.reset(seed=1), await client.step({"message": "Hi"})]
            state = await client.state()
            observed: list[Any] = [
                (result.observation["echoed_message"], result.reward, result.done)
                for result in results
            ]
            return [*observed, state["step_count"]]

    stock, ours = (asyncio.run(episode(server.url)) for server in servers)
    assert ours == stock == [("Echo environment ready!", 0.0, False), ("Hi", 0.2, False), 1]


def test_the_stock_templates_client_works_with_this_server_and_gets_the_metadata(
    server: Any, stock_template: Path, run: Any
) -> None:
    done = run(
        "-c",
        f"""
import sys

sys.modules["gradio"] = None  # the framework goes without it; importing it takes seconds
from echo import EchoAction, EchoEnv

with EchoEnv(base_url={server.url!r}).sync() as env:
    print(env.reset().observation.echoed_message)
    for message in ("Hi", "Hello, World!"):
        result = env.step(EchoAction(message=message))
        print(result.observation.echoed_message, result.reward, result.observation.metadata)
    print(env.state().step_count)
""",
        env={"PYTHONPATH": str(stock_template.parent)},
    )
    assert done.stdout.splitlines() == [
        "Echo environment ready!",
        "Hi 0.2 {'original_message': 'Hi', 'step': 1}",
        "Hello, World! 1.3 {'original_message': 'Hello, World!', 'step': 2}",
        "2",
    ], done.stderr
