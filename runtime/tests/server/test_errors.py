# SPDX-License-Identifier: BSD-3-Clause
"""What a client gets when an environment fails: its author's text, and nothing internal."""

import re
from typing import Any

import pytest

_FIXED = r"The environment failed unexpectedly; the server's log says why \(id ([0-9a-f]{12})\)"


def _failure(answer: Any) -> str:
    assert answer["type"] == "error"
    assert set(answer["data"]) == {"message", "code"}
    assert answer["data"]["code"] == "EXECUTION_ERROR"
    message: str = answer["data"]["message"]
    return message


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"type": "step", "data": {"text": "ValueError"}}, "Messages end with a full stop"),
        ({"type": "step", "data": {"text": "lone surrogate"}}, "not text: \\ud800"),
        ({"type": "reset", "data": {"level": 9}}, "There is no level 9"),
    ],
    ids=["step", "text that cannot be encoded", "reset"],
)
def test_the_text_of_a_value_error_reaches_the_client(
    connect_to: Any, frame: Any, message: str
) -> None:
    conversation = connect_to("failing")
    conversation.step(text="Hi")
    assert _failure(conversation.ask(frame)) == message
    assert conversation.step(text="Hi")["data"]["metadata"]["step"] == 2


@pytest.mark.parametrize(
    ("asked", "logged"),
    [
        ("KeyError", "KeyError: '/secret/path'"),
        ("UnicodeError", "UnicodeEncodeError"),
        ("ValidationError", "ValidationError: 1 validation error for NoteObservation"),
        ("no observation", "AttributeError"),
    ],
)
def test_any_other_failure_gets_an_id_that_leads_to_the_traceback(
    connect_to: Any, environments: Any, asked: str, logged: str
) -> None:
    conversation = connect_to("failing")
    found = re.fullmatch(_FIXED, _failure(conversation.step(text=asked)))
    assert found
    _, _, after = environments.log.partition(f"Environment failed (id {found[1]})")
    traceback = after.partition("Environment failed (id")[0]
    assert "Traceback (most recent call last)" in traceback
    assert logged in traceback
    assert conversation.step(text="Hi")["type"] == "observation"


@pytest.mark.parametrize(
    "name", ["StopIteration", "CancelledError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"]
)
def test_an_exception_that_no_thread_can_pass_on_is_a_failure_like_any_other(
    connect_to: Any, environments: Any, name: str
) -> None:
    conversation = connect_to("in-threads")
    found = re.fullmatch(_FIXED, _failure(conversation.step(text=name)))
    assert found
    _, _, after = environments.log.partition(f"Environment failed (id {found[1]})")
    assert f"{name}: /secret/path" in after
    assert conversation.step(text="Hi")["type"] == "observation"


def test_a_state_that_fails_does_not_end_the_session(connect_to: Any) -> None:
    conversation = connect_to("failing")
    conversation.ask({"type": "reset", "data": {"episode_id": "stateless"}})
    assert re.fullmatch(_FIXED, _failure(conversation.ask({"type": "state"})))
    assert conversation.step(text="Hi")["type"] == "observation"


def test_a_reward_that_json_cannot_represent_is_null(connect_to: Any) -> None:
    assert connect_to("failing").step(text="not a number")["data"]["reward"] is None
