# SPDX-License-Identifier: BSD-3-Clause
"""Example values for a JSON Schema."""

import re
from copy import deepcopy
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, strategies
from jsonschema import Draft202012Validator
from pydantic import (
    UUID1,
    AwareDatetime,
    Base64Str,
    BaseModel,
    Field,
    HttpUrl,
    Json,
    TypeAdapter,
)

from stepwire.protocol.examples import NoExample, example_of
from stepwire.protocol.patterns import UnsupportedPattern, matching_text


def test_the_schemas_own_examples_come_first() -> None:
    schema = {"type": "string", "examples": ["one", "two"]}
    assert [example_of(schema, number) for number in range(3)] == ["one", "two", "Hello, World!"]


def test_an_object_has_its_required_properties_only() -> None:
    properties = {"text": {"type": "string"}, "seed": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["text"]}
    assert example_of(schema) == {"text": "Hello"}


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"const": 5}, 5),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["integer", "null"], "minimum": 3}, 3),
        ({"type": "number", "exclusiveMinimum": 3}, 3.5),
        ({"type": "integer", "exclusiveMaximum": -3}, -4),
        ({"type": "string", "minLength": 8}, "Helloxxx"),
        ({"type": "string", "maxLength": 2}, "He"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, False]),
        ({"examples": {"of": "another form"}, "type": "boolean"}, True),
    ],
    ids=str,
)
def test_an_example_keeps_to_type_length_and_bounds(schema: dict[str, Any], example: Any) -> None:
    assert example_of(schema) == example


class _Inner(BaseModel):
    name: str
    again: "_Inner | None"


class _Colour(Enum):
    RED = "red"
    BLUE = "blue"


_TYPES: dict[str, Any] = {
    "optional": int | None,
    "union": int | str,
    "any": Any,
    "nothing": None,
    "enum": _Colour,
    "literal": Literal["a", 1, None],
    "literal of one": Literal["only"],
    "nested": _Inner,
    "list": Annotated[list[_Inner], Field(min_length=2)],
    "fixed list": Annotated[list[float], Field(min_length=6, max_length=6)],
    "tuple": tuple[int, str, bool],
    "tuple of any length": tuple[float, ...],
    "set": Annotated[set[int], Field(min_length=4)],
    "set of words": Annotated[frozenset[str], Field(min_length=5)],
    "set of choices": Annotated[set[Literal["a", "b", "c"]], Field(min_length=3)],
    "dict": Annotated[dict[str, int], Field(min_length=2)],
    "dict of choices": dict[Literal["x", "y"], int],
    "dict of patterns": Annotated[
        dict[Annotated[str, Field(pattern="^k[0-9]+$")], int], Field(min_length=2)
    ],
    "above": Annotated[int, Field(gt=3)],
    "below": Annotated[int, Field(lt=-3)],
    "between": Annotated[float, Field(gt=0, lt=1e-3)],
    "multiple": Annotated[int, Field(multiple_of=7, gt=20, lt=43)],
    "multiple of a float": Annotated[float, Field(multiple_of=0.1, ge=0.25)],
    "decimal": Decimal,
    "length": Annotated[str, Field(min_length=5, max_length=5)],
    "no length": Annotated[str, Field(max_length=0)],
    "move": Annotated[str, Field(pattern=r"^[a-h][1-8][a-h][1-8][qrbn]?$")],
    "phone": Annotated[str, Field(pattern=r"^\+?\d{3}-\d{4,}$", min_length=12)],
    "route": Annotated[str, Field(pattern=r"^(?:GET|POST) /\w+(\.[^.]{2})*$", max_length=10)],
    "somewhere": Annotated[str, Field(pattern="[x-z]+", min_length=20)],
    "uuid": UUID,
    "version of uuid": UUID1,
    "date-time": AwareDatetime,
    "date": date,
    "time": time,
    "duration": timedelta,
    "address": IPv4Address,
    "network": IPv6Network,
    "url": HttpUrl,
    "json": Json[list[int]],
    "base64": Base64Str,
    "path": Path,
    "bytes": bytes,
}


@pytest.mark.parametrize("name", _TYPES)
def test_an_example_of_a_type_is_valid(name: str) -> None:
    adapter = TypeAdapter[Any](_TYPES[name])
    schema = adapter.json_schema()
    unchanged = deepcopy(schema)
    for optional, length in ((False, 0), (True, 3)):
        for number in range(5):
            example = example_of(schema, number, optional=optional, length=length)
            Draft202012Validator(schema).validate(example)
            adapter.validate_python(example)
            assert example_of(schema, number, optional=optional, length=length) == example
    assert schema == unchanged


def test_optional_properties_and_longer_arrays_on_request() -> None:
    properties = {
        "values": {"type": "array", "items": {"type": "number"}},
        "pair": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
        "odd": {"type": "string", "pattern": "(?=x)"},
        "known": {"type": "string", "pattern": "(?=x)", "default": "x"},
    }
    schema = {"type": "object", "properties": properties, "required": ["values"]}
    assert example_of(schema) == {"values": []}
    complete = {"values": [0.0, 1.0, 2.0], "pair": [0, 1], "known": "x"}
    assert example_of(schema, optional=True, length=3) == complete


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "string", "pattern": "(?=a)b"}, r"pattern '\(\?=a\)b' is not simple enough"),
        ({"type": "string", "pattern": r"(a)\1"}, "is not simple enough, from"),
        ({"type": "string", "pattern": "["}, "is not understood"),
        ({"type": "string", "pattern": "^ab$", "minLength": 3}, "no text of 3 to"),
        ({"type": "string", "format": "uuid", "maxLength": 3}, "no text of the format 'uuid'"),
        ({"type": "string", "format": "file-path"}, "depends on more than the schema"),
        ({"type": "integer", "minimum": 1, "maximum": 0}, "no number is between its bounds"),
        ({"type": "integer", "multipleOf": 5, "minimum": 1, "maximum": 4}, "no number is between"),
        ({"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2}, "no 2 diff"),
        ({"$ref": "#/$defs/Missing"}, "#/\\$defs/Missing is not in the schema"),
        ({"$ref": "#/properties/field"}, "refers to itself without end"),
        (False, "allows no value"),
    ],
    ids=str,
)
def test_a_field_without_example_is_named_with_the_reason(schema: Any, reason: str) -> None:
    whole = {
        "type": "object",
        "properties": {"fine": {"type": "integer"}, "field": schema},
        "required": ["fine", "field"],
    }
    with pytest.raises(NoExample, match=rf"^No example of field(\[1\])?: .*{reason}"):
        example_of(whole)
    either = {"anyOf": [schema, {"const": "fine"}], "$defs": {}}
    assert example_of(either) == "fine" or schema == {"$ref": "#/properties/field"}


def test_all_parts_of_allof_count() -> None:
    part = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    other = {"properties": {"b": {"const": 2}}, "required": ["b"]}
    schema = {"allOf": [{"$ref": "#/$defs/Part"}, other], "$defs": {"Part": part}}
    assert example_of(schema) == {"a": 0, "b": 2}


def test_a_hostile_schema_ends() -> None:
    names = [f"N{number}" for number in range(12)]
    fields = {name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]} for name in names}
    node = {"type": "object", "properties": fields, "required": names}
    with pytest.raises(NoExample, match="too large"):
        example_of({"$ref": "#/$defs/N0", "$defs": dict.fromkeys(names, node)})
    with pytest.raises(NoExample):
        example_of({"type": "string", "pattern": "((((a{99}){99}){99}){99}){99}"})


_ATOMS = strategies.sampled_from(
    ["a", "[a-c]", r"\d", r"\w", ".", "[^x]", r"\.", "(ab|c)", "(?:x)"]
)
_REPEATS = strategies.sampled_from(["", "?", "*", "+", "{2}", "{1,3}", "{0,}", "+?"])
_PATTERNS = strategies.lists(strategies.tuples(_ATOMS, _REPEATS).map("".join), max_size=6)


@given(_PATTERNS, strategies.integers(0, 100), strategies.integers(0, 12))
def test_texts_match_their_pattern(parts: list[str], number: int, shortest: int) -> None:
    pattern = f"^{''.join(parts)}$"
    try:
        text = matching_text(pattern, lambda count: number % count, shortest)
    except UnsupportedPattern:
        assert shortest > 0
    else:
        assert re.search(pattern, text)
        assert len(text) >= shortest


@given(
    strategies.floats(-1e6, 1e6),
    strategies.floats(0, 1e6),
    strategies.booleans(),
    strategies.sampled_from(["integer", "number"]),
    strategies.integers(0, 9),
)
def test_numbers_are_within_their_bounds(
    low: float, width: float, exclusive: bool, kind: str, number: int
) -> None:
    names = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    schema = {"type": kind, names[0]: low, names[1]: low + width}
    try:
        value = example_of(schema, number)
    except NoExample:
        assert width < 2
    else:
        Draft202012Validator(schema).validate(value)
