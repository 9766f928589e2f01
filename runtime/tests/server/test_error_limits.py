# SPDX-License-Identifier: BSD-3-Clause
"""A message with any number of errors: refused early, and explained by its first ones."""

import json
import tracemalloc
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openenv.core.env_server.types import Action
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from stepwire.server.error_limits import ErrorLimit
from stepwire.server.errors import MessageError
from stepwire.server.wire import MessageDecoder


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")

    x: int = 0
    next: "Point | None" = None


class Options(TypedDict, total=False):
    speed: float


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


class Anything(Action):
    numbers: list[int] = Field(default=[], max_length=1000)
    named: dict[str, int] = Field(default={})
    points: list[Point] = Field(default=[])
    either: Point | dict[str, int] | None = None
    kind: Literal["a", "b"] = "a"
    options: Options = Field(default={})
    pair: tuple[int, str] | None = None
    even: Annotated[int, AfterValidator(_even)] = 0
    text: Annotated[str, BeforeValidator(str)] = ""


_LIMIT = ErrorLimit(TypeAdapter(Anything).core_schema)
_SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", "7", ""])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "next", "speed", "other"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_MESSAGES = st.dictionaries(
    st.sampled_from([*Anything.model_fields, "unknown"]), _VALUES, max_size=4
)


@given(message=_MESSAGES)
def test_what_pydantic_accepts_is_accepted_and_what_functions_do_not_decide_is_the_same(
    message: dict[str, Any],
) -> None:
    text = json.dumps(message)
    try:
        Anything.model_validate_json(text)
    except ValueError:
        is_decided_by_functions = not {"even", "text"}.isdisjoint(message)
        assert is_decided_by_functions or not _LIMIT.accepts(text)
    else:
        assert _LIMIT.accepts(text)


def _refusal(decoder: MessageDecoder, data: str) -> MessageError:
    with pytest.raises(MessageError) as refused:
        decoder.decode_frame(f'{{"type":"step","data":{data}}}')
    return refused.value


_MANY = {
    "unknown keys": ("{" + ",".join(f'"k{n}":1' for n in range(20_000)) + "}", "extra_forbidden"),
    "unknown keys after a known one": (
        '{"kind":"a",' + ",".join(f'"k{n}":1' for n in range(20_000)) + "}",
        "extra_forbidden",
    ),
    "items": ('{"points":[' + '"x",' * 20_000 + "1]}", "model_type"),
    "items of items": ('{"points":[' + '{"y":1},' * 20_000 + "1]}", "extra_forbidden"),
    "values": (
        '{"named":{' + ",".join(f'"k{n}":"x"' for n in range(20_000)) + "}}",
        "int_parsing",
    ),
    "a tool's unknown keys": (
        '{"type":"list_tools",' + ",".join(f'"k{n}":1' for n in range(20_000)) + "}",
        "extra_forbidden",
    ),
}


@pytest.mark.parametrize("many", _MANY)
def test_of_many_errors_the_first_are_listed(many: str) -> None:
    data, kind = _MANY[many]
    decoder = MessageDecoder(Anything, 100)
    tracemalloc.start()
    try:
        refusal = _refusal(decoder, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refusal.errors is not None
    assert kind in {error["type"] for error in refusal.errors}
    assert len(refusal.errors) <= 21
    assert peak < 100 * len(data)


def test_one_bad_value_behind_many_good_ones_is_refused() -> None:
    decoder = MessageDecoder(Anything, 100)
    points = '{"x":1},' * 20_000
    assert decoder.decode_frame(f'{{"type":"step","data":{{"points":[{points}{{}}]}}}}')
    refusal = _refusal(decoder, f'{{"points":[{points}{{"y":1}}]}}')
    assert refusal.errors is not None
    assert refusal.errors[0]["type"] == "too_many_errors"


@pytest.mark.parametrize("values", ['{"":0}', "[]", '"",""', "1e9", "{}", '[{"a":[]}]'])
def test_values_of_too_much_memory_are_refused_before_they_are_parsed(values: str) -> None:
    decoder = MessageDecoder(Anything, 100)
    text = ",".join([values] * (16_000_000 // (len(values) + 1)))
    refusal = _refusal(decoder, f'{{"metadata":{{"a":[{text}]}}}}')
    assert refusal.errors is not None
    assert refusal.errors[0]["type"] == "json_size"


def test_the_marks_of_json_in_a_text_do_not_count() -> None:
    decoder = MessageDecoder(Anything, 100)
    text = json.dumps({"type": "step", "data": {"text": '{"a":[1,2]},' * 400_000}})
    assert decoder.decode_frame(text)
