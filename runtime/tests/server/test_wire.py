# SPDX-License-Identifier: BSD-3-Clause
"""Decoding and encoding alone; the tests of the endpoints have what clients see of them."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.env_server.types import Action, WSErrorCode
from pydantic import Field

from notes_env.models import NoteAction
from stepwire.server.errors import MessageError
from stepwire.server.wire import (
    CloseMessage,
    MessageDecoder,
    ResetMessage,
    StateMessage,
    StepMessage,
)


class Move(Action):
    """An action with a `type` of its own, which wins over that of tool-style actions."""

    type: Literal["move", "list_tools"]
    path: list[int] = Field(default_factory=list)


@pytest.fixture
def decoder() -> MessageDecoder:
    return MessageDecoder(NoteAction, max_json_depth=10)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"type":"reset"}', ResetMessage),
        ('{"data":{"text":"Hi"},"type":"step"}', StepMessage),
        (' {"type" : "state"}\n', StateMessage),
        ('{"type":"close"}', CloseMessage),
    ],
)
def test_a_frame_becomes_a_typed_message(
    decoder: MessageDecoder, frame: str, expected: type
) -> None:
    assert isinstance(decoder.decode_frame(frame), expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"text":"Hi","metadata":{"a":1}}', NoteAction(text="Hi", metadata={"a": 1})),
        ('{"type":"list_tools"}', ListToolsAction()),
        (
            '{"type":"call_tool","tool_name":"t","arguments":{"a":1}}',
            CallToolAction(tool_name="t", arguments={"a": 1}),
        ),
    ],
)
def test_a_step_carries_the_environments_action_or_a_tool_style_one(
    decoder: MessageDecoder, data: str, expected: Action
) -> None:
    message: Any = decoder.decode_frame(f'{{"type":"step","data":{data}}}')
    assert isinstance(message.data, type(expected))
    assert message.data.model_dump() == expected.model_dump()


def test_an_environments_own_type_field_comes_first() -> None:
    decoder = MessageDecoder(Move, max_json_depth=10)
    message: Any = decoder.decode_frame('{"type":"step","data":{"type":"list_tools"}}')
    assert type(message.data) is Move
    with pytest.raises(MessageError) as caught:
        decoder.decode_frame('{"type":"step","data":{"type":"dance","path":["a"]}}')
    assert caught.value.errors
    assert {entry["loc"] for entry in caught.value.errors} == {("type",), ("path", 0)}


def test_only_arguments_that_were_sent_reach_the_environment(decoder: MessageDecoder) -> None:
    message: Any = decoder.decode_frame('{"type":"reset","data":{"seed":null,"x":1}}')
    assert message.data.model_dump(exclude_unset=True) == {"seed": None, "x": 1}
    assert decoder.decode_reset(b"").model_dump(exclude_unset=True) == {}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 11 + "]" * 11, WSErrorCode.VALIDATION_ERROR),
        ('"' + "[" * 100 + '"', WSErrorCode.VALIDATION_ERROR),
        ("nope", WSErrorCode.INVALID_JSON),
        ('{"type":"dance"}', WSErrorCode.UNKNOWN_TYPE),
    ],
)
def test_a_refused_frame_has_an_error_code(
    decoder: MessageDecoder, text: str, code: WSErrorCode
) -> None:
    with pytest.raises(MessageError) as caught:
        decoder.decode_frame(text)
    assert caught.value.code is code


def test_brackets_inside_strings_are_not_nesting(decoder: MessageDecoder) -> None:
    message: Any = decoder.decode_frame(json.dumps({"type": "step", "data": {"text": "[" * 99}}))
    assert message.data.text == "[" * 99
    assert decoder.decode_json(b'["[[[[[[[[[[[[[[[["]') == ["[" * 16]


_TEXTS = st.text('"\\\\[]{},:é\n', max_size=5)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=20,
)


def _levels(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(_levels, value.values() if isinstance(value, dict) else value), default=0)


@given(value=_VALUES, as_ascii=st.booleans())
def test_exactly_the_levels_are_counted(value: Any, as_ascii: bool) -> None:
    text, limit = json.dumps(value, ensure_ascii=as_ascii), 3
    decoder = MessageDecoder(NoteAction, limit)
    if _levels(value) <= limit:
        assert decoder.decode_json(text.encode()) == value
        return
    with pytest.raises(MessageError) as caught:
        decoder.decode_json(text.encode())
    assert caught.value.errors
    (entry,) = caught.value.errors
    assert (entry["type"], entry["input"]) == ("json_depth", _levels(value))


@pytest.mark.parametrize("number", ["-5", "5" * 4300, "5.5", "1e3"])
def test_numbers_within_the_limit_are_decoded(decoder: MessageDecoder, number: str) -> None:
    assert decoder.decode_json(number.encode()) == json.loads(number)
