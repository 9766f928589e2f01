# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium spaces for pydantic models, and conversion between values and elements of a space."""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from openenv.core.env_server.types import Action, Observation

INHERITED = {*Action.model_fields, *Observation.model_fields}  # `metadata`, `done`, `reward`
_INTEGERS = np.iinfo(np.int64)
_LONGEST_TEXT = 1_000_000  # characters, if the model has no limit
_LONGEST_SAMPLE = 40
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


class AnyText(spaces.Text):
    """Text of any characters. Samples are short and have printable ASCII only."""

    def __init__(self, min_length: int, max_length: int) -> None:
        super().__init__(max_length, min_length=min_length, charset=_PRINTABLE)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is None and probability is None:
            longest = min(self.max_length, self.min_length + _LONGEST_SAMPLE)
            mask = (self.np_random.integers(self.min_length, longest + 1), None)
        return super().sample(mask, probability)


class Choice(spaces.Discrete):  # type: ignore[type-arg] # generic in the latest releases only
    """One of `choices`; its element is the index."""

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__(len(choices))
        self.choices = tuple(choices)


def space_of(model: type[Action | Observation]) -> spaces.Dict:
    """The space of the fields that a model adds to those of OpenEnv.

    Fields may be text, numbers, booleans, `Literal`s, and lists and models of these. Raises
    `TypeError`, which names the field, for any other.
    """
    schema = model.model_json_schema()
    own = {name: field for name, field in schema["properties"].items() if name not in INHERITED}
    return spaces.Dict(
        {name: _space(field, schema, f"{model.__name__}.{name}") for name, field in own.items()}
    )


def _space(schema: dict[str, Any], root: dict[str, Any], name: str) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return Choice(schema["enum"])
    match schema.get("type"):
        case "string":
            return AnyText(schema.get("minLength", 0), schema.get("maxLength", _LONGEST_TEXT))
        case "integer":
            low, high = schema.get("minimum", _INTEGERS.min), schema.get("maximum", _INTEGERS.max)
            return spaces.Box(low, high, shape=(), dtype=np.int64)
        case "number":
            low, high = schema.get("minimum", -np.inf), schema.get("maximum", np.inf)
            return spaces.Box(low, high, shape=(), dtype=np.float64)
        case "boolean":
            return Choice((False, True))
        case "array" if "items" in schema:
            return spaces.Sequence(_space(schema["items"], root, f"{name}[]"))
        case "object" if "properties" in schema:
            fields = schema["properties"].items()
            return spaces.Dict({key: _space(of, root, f"{name}.{key}") for key, of in fields})
    raise TypeError(f"There is no Gymnasium space for {name}: {schema}")


def to_element(space: spaces.Space[Any], value: Any) -> Any:
    """The element of `space` for the value of a field."""
    match space:
        case spaces.Dict():
            return {key: to_element(of, value[key]) for key, of in space.items()}
        case spaces.Sequence():
            return tuple(to_element(space.feature_space, item) for item in value)
        case spaces.Box():
            return np.array(value, space.dtype)
        case Choice():
            return np.int64(space.choices.index(value))
    return value


def to_elements(space: spaces.Space[Any], values: Sequence[Any]) -> Any:
    """The element of the batched space for a value of each session."""
    match space:
        case spaces.Dict():
            return {
                key: to_elements(of, [value[key] for value in values]) for key, of in space.items()
            }
        case spaces.Box():
            return np.array(values, space.dtype)
        case Choice():
            return np.array([space.choices.index(value) for value in values], space.dtype)
    return tuple(to_element(space, value) for value in values)


def to_value(space: spaces.Space[Any], element: Any) -> Any:
    """The value of a field for an element of `space`; the reverse of `to_element`."""
    match space:
        case spaces.Dict():
            return {key: to_value(of, element[key]) for key, of in space.items()}
        case spaces.Sequence():
            return [to_value(space.feature_space, item) for item in element]
        case spaces.Box():
            return element.item()
        case Choice():
            return space.choices[int(element)]
    return element
