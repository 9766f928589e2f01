# SPDX-License-Identifier: BSD-3-Clause
"""`/ws`, frame by frame, as the wire contract describes it."""

import socket
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

_READY = {"metadata": {}, "text": "Ready for notes", "length": 0}


def _error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "data": {"message": message, "code": code, **more}}


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "reset"},
        {"type": "reset", "data": {}},
        {"type": "reset", "data": {"seed": None, "episode_id": None}},
        {"type": "reset", "data": {"seed": 0, "episode_id": "e", "difficulty": [1, {"a": None}]}},
    ],
    ids=str,
)
def test_reset_answers_with_the_first_observation(conversation: Any, frame: Any) -> None:
    assert conversation.ask(frame) == {
        "type": "observation",
        "data": {"observation": _READY, "reward": 0.0, "done": False},
    }


@pytest.mark.parametrize("more", [{}, {"metadata": {"trace": 1}}], ids=["text", "with metadata"])
def test_step_answers_with_the_observation_and_its_metadata(conversation: Any, more: Any) -> None:
    metadata = {"original_text": "Hi", "step": 1}
    assert conversation.ask({"type": "step", "data": {"text": "Hi", **more}}) == {
        "type": "observation",
        "data": {
            "observation": {"text": "Hi", "length": 2, "metadata": metadata},
            "reward": 0.2,
            "done": False,
            "metadata": metadata,
        },
    }


def test_rewards_are_raw_floats(conversation: Any) -> None:
    conversation.send({"type": "step", "data": {"text": "x" * 12}})
    assert '"reward":1.2000000000000002,' in conversation.connection.recv()


@pytest.mark.parametrize("text", ["", "😀", "nai\u0308ve", "\x00\u2028\n", "x" * 1_000_000])
def test_text_comes_back_unchanged(conversation: Any, text: str) -> None:
    observation = conversation.step(text=text)["data"]["observation"]
    assert observation["text"] == text
    assert observation["length"] == len(text)


def test_state_has_the_episode_and_its_steps(conversation: Any) -> None:
    conversation.ask({"type": "reset", "data": {"episode_id": "mine"}})
    conversation.step(text="Hi")
    assert conversation.ask({"type": "state"}) == {
        "type": "state",
        "data": {"episode_id": "mine", "step_count": 1, "characters": 2},
    }


def test_state_has_the_seed_when_one_was_given(conversation: Any) -> None:
    conversation.ask({"type": "reset", "data": {"seed": 7, "episode_id": "mine"}})
    assert conversation.ask({"type": "state"})["data"] == {
        "episode_id": "mine",
        "step_count": 0,
        "characters": 0,
        "seed": 7,
    }


def test_a_step_before_any_reset_is_step_1_of_an_episode(conversation: Any) -> None:
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 1
    assert conversation.ask({"type": "state"})["data"]["step_count"] == 1


def test_reset_starts_counting_anew(conversation: Any) -> None:
    before = conversation.ask({"type": "state"})["data"]["episode_id"]
    conversation.step(text="Hi")
    conversation.ask({"type": "reset"})
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 1
    assert conversation.ask({"type": "state"})["data"]["episode_id"] != before


def test_each_connection_is_a_session_of_its_own(connect: Any) -> None:
    one, other = connect(), connect()
    for _ in range(3):
        one.step(text="Hi")
    assert other.step(text="Hi")["data"]["metadata"]["step"] == 1
    assert one.step(text="Hi")["data"]["metadata"]["step"] == 4


def test_frames_sent_without_waiting_are_answered_in_order(conversation: Any) -> None:
    for number in range(50):
        conversation.send({"type": "step", "data": {"text": str(number)}})
    observations = [conversation.receive()["data"]["observation"] for _ in range(50)]
    assert [o["text"] for o in observations] == [str(number) for number in range(50)]
    assert [o["metadata"]["step"] for o in observations] == list(range(1, 51))


def test_a_close_frame_is_answered_by_closing_normally(conversation: Any) -> None:
    conversation.send({"type": "close"})
    assert conversation.close_code() == 1000


@pytest.mark.parametrize("path", ["/", "/ws/", "/nope", "/reset"])
def test_a_websocket_of_an_unknown_path_is_refused(connect: Any, server: Any, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.ws_url.removesuffix("/ws") + path)
    assert refused.value.response.status_code == 403


def test_a_frame_above_the_limit_ends_the_session(conversation: Any) -> None:
    # Only the header of a masked text frame: the server need not see more than the length.
    header = b"\x81\xff" + (16 * 1024 * 1024 + 1).to_bytes(8, "big") + b"mask"
    conversation.connection.socket.sendall(header)
    assert conversation.close_code() == 1009


_BAD_FRAMES = [
    pytest.param({"type": "step"}, "missing", ["data"], "Field required", id="no data"),
    pytest.param({"type": "step", "data": 5}, "dict_type", ["data"], "dictionary", id="data no {}"),
    pytest.param({"type": "step", "data": {}}, "missing", ["text"], "required", id="no text"),
    pytest.param(
        {"type": "step", "data": {"text": 5}},
        "string_type",
        ["text"],
        "valid string",
        id="text no string",
    ),
    pytest.param(
        {"type": "step", "data": {"text": "Hi", "loud": 1}},
        "extra_forbidden",
        ["loud"],
        "not permitted",
        id="unknown field",
    ),
    pytest.param(
        {"type": "step", "data": {"text": "Hi"}, "loud": 1},
        "extra_forbidden",
        ["loud"],
        "not permitted",
        id="unknown key beside data",
    ),
    pytest.param(
        {"type": "state", "data": {}}, "extra_forbidden", ["data"], "not", id="state with data"
    ),
    pytest.param(
        {"type": "reset", "data": {"seed": -1}},
        "greater_than_equal",
        ["seed"],
        "greater than or equal to 0",
        id="negative seed",
    ),
    pytest.param(
        {"type": "reset", "data": {"seed": "seven"}}, "int_parsing", ["seed"], "int", id="seed"
    ),
    pytest.param(
        {"type": "reset", "data": {"episode_id": 5}},
        "string_type",
        ["episode_id"],
        "valid string",
        id="episode_id no string",
    ),
    pytest.param(
        {"type": "reset", "data": {"episode_id": "x" * 256}},
        "string_too_long",
        ["episode_id"],
        "at most 255 characters",
        id="long episode_id",
    ),
    pytest.param(
        {"type": "reset", "data": []}, "dict_type", ["data"], "dictionary", id="reset with []"
    ),
    pytest.param({"type": "mcp"}, "missing", ["data"], "required", id="mcp without data"),
    pytest.param(
        {"type": "reset", "data": {}, "loud": 1},
        "extra_forbidden",
        ["loud"],
        "not permitted",
        id="unknown key beside reset's data",
    ),
    pytest.param(
        {"type": "mcp", "data": {}, "loud": 1},
        "extra_forbidden",
        ["loud"],
        "not permitted",
        id="unknown key beside mcp's data",
    ),
    pytest.param([], "dict_type", [], "JSON object", id="a list"),
    pytest.param('"step"', "dict_type", [], "JSON object", id="a string"),
    pytest.param("5", "dict_type", [], "JSON object", id="a number"),
    pytest.param("null", "dict_type", [], "JSON object", id="null"),
    pytest.param(b'{"type":"state"}', "text_type", [], "text frame", id="a binary frame"),
    pytest.param(b"\xff\xfe", "text_type", [], "text frame", id="binary, no text"),
    pytest.param(
        r'{"type":"step","data":{"text":"\ud800"}}',
        "string_unicode",
        ["data", "text"],
        "lone surrogates",
        id="lone surrogate",
    ),
    pytest.param(
        r'{"type":"reset","data":{"\udfff":1}}',
        "string_unicode",
        ["data", "\\udfff"],
        "lone surrogates",
        id="lone surrogate in a key",
    ),
    pytest.param(
        '{"type":"reset","data":{"seed":' + "9" * 5000 + "}}",
        "int_parsing_size",
        ["data", "seed"],
        "4300 digits",
        id="5,000 digits",
    ),
]


@pytest.mark.parametrize(("frame", "kind", "location", "reason"), _BAD_FRAMES)
def test_a_bad_message_is_explained_and_the_session_goes_on(
    conversation: Any, frame: Any, kind: str, location: list[str], reason: str
) -> None:
    conversation.ask({"type": "reset", "data": {"episode_id": "mine"}})
    conversation.step(text="Hi")
    answer = conversation.ask(frame)
    (entry,) = answer["data"].pop("errors")
    assert answer == _error("VALIDATION_ERROR", "Invalid message")
    assert set(entry) == {"type", "loc", "msg", "input"}
    assert (entry["type"], entry["loc"]) == (kind, location)
    assert reason in entry["msg"]
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 2
    state = {"episode_id": "mine", "step_count": 2, "characters": 4}
    assert conversation.ask({"type": "state"})["data"] == state


_DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "frame",
    [
        _DEEP,
        '{"type":"step","data":{"text":"Hi","metadata":{"deep":' + _DEEP + "}}}",
        '{"type":"step","data":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=["a list", "in the metadata", "objects", "deeper than any parser goes"],
)
def test_deep_nesting_is_refused_and_the_session_goes_on(conversation: Any, frame: str) -> None:
    conversation.step(text="Hi")
    answer = conversation.ask(frame)
    (entry,) = answer["data"]["errors"]
    assert answer["data"]["code"] == "VALIDATION_ERROR"
    assert entry["type"] == "json_depth"
    assert entry["msg"] == "JSON may nest 100 levels deep at most (MAX_JSON_DEPTH)"
    assert entry["input"] >= 5000
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 2


def test_nesting_up_to_the_limit_is_fine(conversation: Any) -> None:
    deep = "[" * 97 + "]" * 97  # inside the frame, `data` and `metadata`: 100 levels
    frame = '{"type":"step","data":{"text":"[[[{{{","metadata":{"deep":%s}}}'
    assert conversation.ask(frame % deep)["type"] == "observation"
    assert conversation.ask(frame % f"[{deep}]")["type"] == "error"


@pytest.mark.parametrize(
    "frame", ["", "nope", "{", '{"type":"state"} {}', '{"type":"state",}', "{'type':'state'}"]
)
def test_invalid_json_is_reported_and_the_session_goes_on(conversation: Any, frame: str) -> None:
    conversation.step(text="Hi")
    answer = conversation.ask(frame)
    assert answer["type"] == "error"
    assert set(answer["data"]) == {"message", "code"}
    assert answer["data"]["code"] == "INVALID_JSON"
    assert answer["data"]["message"].startswith("Invalid JSON: ")
    assert "line 1 column" in answer["data"]["message"]
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 2


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ({"type": "dance"}, "'dance'"),
        ({"data": {}}, "None"),
        ({}, "None"),
        ({"type": 5}, "5"),
        ({"type": ["reset"]}, "['reset']"),
        ({"type": "x" * 10_000}, "'" + "x" * 79 + "…"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_unknown_type_is_named_with_the_known_ones(
    conversation: Any, frame: Any, named: str
) -> None:
    conversation.step(text="Hi")
    known = "(known: reset, step, state, close, mcp)"
    message = f"Unknown message type: {named} {known}"
    assert conversation.ask(frame) == _error("UNKNOWN_TYPE", message)
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 2


def test_the_input_quoted_in_an_error_is_shortened(conversation: Any) -> None:
    for frame, location in [
        ({"type": "step", "data": {"text": ["x" * 100_000]}}, "text"),
        ({"type": "step", "data": {"text": "Hi", "x" * 100_000: 1}}, "x" * 500 + "…"),
        ({"type": "reset", "data": {"episode_id": "x" * 100_000}}, "episode_id"),
    ]:
        (entry,) = conversation.ask(frame)["data"]["errors"]
        assert entry["loc"] == [location]
        assert len(str(entry["input"])) <= 501
        assert str(entry["input"]).endswith("…") or entry["input"] == 1


def test_only_the_first_20_errors_are_listed(conversation: Any) -> None:
    data = {"text": "Hi", **{f"key{number}": number for number in range(50)}}
    errors = conversation.ask({"type": "step", "data": data})["data"]["errors"]
    assert [error["loc"] for error in errors[:20]] == [[f"key{n}"] for n in range(20)]
    assert errors[20:] == [
        {"type": "too_many_errors", "loc": [], "msg": "30 further errors are not listed"}
    ]


def test_a_client_that_vanishes_does_not_disturb_the_others(connect: Any, server: Any) -> None:
    staying, vanishing = connect(), connect()
    staying.step(text="Hi")
    for _ in range(20):
        vanishing.send({"type": "step", "data": {"text": "x" * 100_000}})
    vanishing.connection.socket.shutdown(socket.SHUT_RDWR)
    assert staying.step(text="Hi")["data"]["metadata"]["step"] == 2
    assert "Traceback" not in server.log
