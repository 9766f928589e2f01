# SPDX-License-Identifier: BSD-3-Clause
"""Actions to take: read from a file, or made up from a JSON Schema.

Those made up are always the same, and enough for an environment to take a step. What a schema
cannot say (a legal move, an existing tool) has to be in a file.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WORDS = ("Hello", "Hi", "Hello, World!")
_DEEPEST = 8  # of a schema that refers to itself


def read_actions(path: Path) -> list[dict[str, Any]]:
    """One JSON object a line; raises `ValueError` for anything else, and where there is none."""
    actions = [parse_action(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not actions:
        raise ValueError(f"{path} has no actions")
    return actions


def parse_action(text: str) -> dict[str, Any]:
    """Raises `ValueError` for what is no JSON object."""
    action = json.loads(text)
    if not isinstance(action, dict):
        raise ValueError(f"An action is a JSON object, not {text[:80]}")  # noqa: TRY004
    return action


def example_actions(schema: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """A few actions that `schema`, that of an object, allows."""
    definitions = schema.get("$defs", {})
    examples = [_example(schema, definitions, number, 0) for number in range(len(_WORDS))]
    return [example if isinstance(example, dict) else {} for example in examples]


def _example(schema: Any, definitions: dict[str, Any], number: int, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        schema = definitions.get(str(schema["$ref"]).rpartition("/")[2])
        return _example(schema, definitions, number, depth + 1)
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
    least, most = schema.get("minLength", 0), schema.get("maxLength", len(text))
    return text.ljust(least, "x")[: max(least, most)]


def _number(schema: dict[str, Any], margin: float) -> float:
    """The smallest that is allowed; `margin` keeps off a bound that is not itself allowed."""
    if "minimum" in schema:
        return float(schema["minimum"])
    if "exclusiveMinimum" in schema:
        return float(schema["exclusiveMinimum"]) + margin
    if "maximum" in schema:
        return float(min(schema["maximum"], 0))
    if "exclusiveMaximum" in schema:
        return float(min(schema["exclusiveMaximum"] - margin, 0))
    return 0.0
