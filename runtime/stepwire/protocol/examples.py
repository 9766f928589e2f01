# SPDX-License-Identifier: BSD-3-Clause
"""Example values for a JSON Schema: the server shows them, the conformance check sends them."""

from typing import Any

_WORDS = ("Hello", "Hi", "Hello, World!")
_MAX_DEPTH = 8  # a schema may refer to itself


def example_of(schema: dict[str, Any], number: int = 0) -> Any:
    """A value that `schema` allows, always the same for the same `number`.

    Objects get their required properties only. The schema's own `examples` come first. Constraints
    beyond type, length and bounds, such as `pattern`, are ignored: validate the result.
    """
    return _example(schema, schema.get("$defs", {}), number, 0)


def _example(schema: Any, definitions: dict[str, Any], number: int, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        schema = definitions.get(str(schema["$ref"]).rpartition("/")[2])
        return _example(schema, definitions, number, depth + 1)
    examples = schema.get("examples")
    if isinstance(examples, list) and number < len(examples):
        return examples[number]
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][number % len(schema["enum"])]
    for alternatives in ("anyOf", "oneOf", "allOf"):
        if schema.get(alternatives):
            return _example(schema[alternatives][0], definitions, number, depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            return {
                name: _example(properties.get(name), definitions, number, depth + 1)
                for name in schema.get("required", ())
            }
        case "array":
            items = schema.get("items", {})
            count = schema.get("minItems", 0)
            return [_example(items, definitions, number + i, depth + 1) for i in range(count)]
        case "string":
            return _text(schema, number)
        case "integer":
            return int(_number(schema, 1))
        case "number":
            return _number(schema, 0.5)
        case "boolean":
            return number % 2 == 0
    return None


def _text(schema: dict[str, Any], number: int) -> str:
    text = _WORDS[number % len(_WORDS)]
    minimum, maximum = schema.get("minLength", 0), schema.get("maxLength", len(text))
    return text.ljust(minimum, "x")[: max(minimum, maximum)]


def _number(schema: dict[str, Any], margin: float) -> float:
    """The lower bound if there is one; `margin` is the distance kept from an exclusive bound."""
    if "minimum" in schema:
        return float(schema["minimum"])
    if "exclusiveMinimum" in schema:
        return float(schema["exclusiveMinimum"]) + margin
    if "maximum" in schema:
        return float(min(schema["maximum"], 0))
    if "exclusiveMaximum" in schema:
        return float(min(schema["exclusiveMaximum"] - margin, 0))
    return 0.0
