# SPDX-License-Identifier: BSD-3-Clause
"""Example values for a JSON Schema."""

from typing import Any

import pytest

from stepwire.protocol.examples import example_of


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
        ({"$ref": "#/$defs/Missing"}, None),
    ],
    ids=str,
)
def test_an_example_keeps_to_type_length_and_bounds(schema: dict[str, Any], example: Any) -> None:
    assert example_of(schema) == example


def test_a_schema_that_refers_to_itself_ends() -> None:
    node = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/N"}}}
    example = example_of({"$ref": "#/$defs/N", "$defs": {"N": node}})
    depth = 0
    while example is not None:
        example, depth = example["next"], depth + 1
    assert 1 <= depth < 10
