# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium spaces for pydantic models.

| Field | Space | Element |
|---|---|---|
| `str` | `AnyText`, or `FormattedText` of a simple pattern or format | the text |
| `int`, `float`, with bounds | `Box` of shape () | an array of shape () |
| a multiple of a number | `Choice` of the multiples | the index |
| `bool`, `Literal`, an enum, `None` | `Choice` | the index |
| a list, a set | `Items` | a tuple |
| a list of numbers of fixed length, at any depth | `Box` | an array |
| another list of fixed length, a tuple | `Tuple` | a tuple |
| a model | `Dict` | a dictionary |
| `dict[str, …]` | `Mapping` | a tuple of pairs |
| `Optional`, a union | `OneOf` | index and element of the alternative |

A space for actions has only what the schema allows. A space for observations has all of it: a
`pattern`, a `format` and a `multiple_of` are not checked.
"""

import json
import math
from copy import deepcopy
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from openenv.core.env_server.types import Action, Observation
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from stepwire.integrations.gymnasium_elements import (
    AnyText,
    Choice,
    FormattedText,
    Items,
    Mapping,
    Multiples,
    to_element,
    to_elements,
    to_value,
)
from stepwire.protocol.examples import schema_at
from stepwire.protocol.numbers import NumberRange, number_range

__all__ = ["INHERITED", "AnyText", "Spaces", "space_of", "to_element", "to_elements", "to_value"]

INHERITED = {*Action.model_fields, *Observation.model_fields}  # `metadata`, `done`, `reward`
_INTEGERS = np.iinfo(np.int64)
_LONGEST_TEXT = 1_000_000  # characters, if the model has no limit
_MOST_FACTORS = 1 << 31  # of a multiple, if the model has no bound
_SAMPLES = 30  # to validate
_TEXT_RULES = {"pattern", "format", "contentMediaType"}


class NoSpace(TypeError):
    """A field cannot be expressed as a Gymnasium space; the message names it and says why."""


def validated(model: type[BaseModel], fields: dict[str, Any]) -> Any:
    """An instance of the model for JSON values; raises `ValidationError`."""
    return model.model_validate_json(json.dumps(fields))


def space_of(model: type[BaseModel]) -> spaces.Dict:
    """The space of the fields that a model adds to those of OpenEnv.

    Raises `TypeError`, which names the field, for one that has no space.
    """
    found = Spaces(model)
    for refusal in found.refused.values():
        raise refusal
    return found.space


class _AllThatIsSent(GenerateJsonSchema):
    """All fields of a model are in its dump; only a `TypedDict` may lack some."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        if field["type"] == "typed-dict-field":
            return bool(field.get("required", total))
        return True


class Spaces:
    """`space` has a space for each field of a model, but for those that are `refused`.

    Every sample of a space for actions is valid: a field whose samples are not, such as one with a
    validator of its own, is refused too.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._is_action = not issubclass(model, Observation)
        if self._is_action:
            self._root = model.model_json_schema()
        else:
            self._root = model.model_json_schema(
                mode="serialization", schema_generator=_AllThatIsSent
            )
        self.required = set(self._root.get("required", ()))
        self.refused: dict[str, NoSpace] = {}
        self.rule = ""  # a rule across fields that some samples break
        fields: dict[str, spaces.Space[Any]] = {}
        for name, schema in self._root.get("properties", {}).items():
            if name not in INHERITED:
                try:
                    fields[name] = self._space(schema, f"{model.__name__}.{name}", ())
                except NoSpace as refusal:
                    self.refused[name] = refusal
        self.space = spaces.Dict(fields)
        if self._is_action:
            self._validate_samples()

    def _validate_samples(self) -> None:
        space: Any = deepcopy(self.space)
        space.seed(0)
        for _ in range(_SAMPLES):
            try:
                validated(self._model, to_value(space, space.sample()))
            except ValidationError as error:
                for fault in error.errors(include_url=False):
                    name = str(fault["loc"][0]) if fault["loc"] else ""
                    if name in self.space.spaces:
                        self._refuse(name, f"a sample is not valid: {fault['msg']}")
                    elif not name:
                        self.rule = fault["msg"]

    def _refuse(self, name: str, reason: str) -> None:
        field = f"{self._model.__name__}.{name}"
        self.refused[name] = NoSpace(f"There is no Gymnasium space for {field}: {reason}")
        rest = {key: of for key, of in self.space.items() if key != name}
        self.space = spaces.Dict(rest)

    def _space(self, schema: Any, name: str, within: tuple[str, ...]) -> Any:
        if not isinstance(schema, dict):
            _no_space(name, f"its schema is {schema}")
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in within:
                _no_space(name, "it contains itself")
            target = schema_at(reference, self._root)
            return self._space(target, name, (*within, reference))
        if len(schema.get("allOf", ())) == 1:
            return self._space({**schema, **schema["allOf"][0], "allOf": []}, name, within)
        if "const" in schema:
            return Choice((schema["const"],))
        if "enum" in schema:
            return Choice(tuple(schema["enum"]))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._one_of(schema[key], name, within)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._one_of([{**schema, "type": each} for each in kind], name, within)
        try:
            return self._of_type(kind, schema, name, within)
        except NoSpace:
            raise
        except ValueError as error:
            _no_space(name, str(error))

    def _of_type(self, kind: Any, schema: dict[str, Any], name: str, within: Any) -> Any:
        match kind:
            case "null":
                return Choice((None,))
            case "boolean":
                return Choice((False, True))
            case "string":
                return self._text(schema)
            case "integer" | "number":
                return self._number(schema)
            case "array":
                return self._array(schema, name, within)
            case "object" if "properties" in schema:
                return self._object(schema, name, within)
            case "object":
                return self._mapping(schema, name, within)
        return _no_space(name, "it may be anything")

    def _one_of(self, alternatives: list[Any], name: str, within: tuple[str, ...]) -> Any:
        found, refused = [], []
        for alternative in alternatives:
            try:
                found.append(self._space(alternative, name, within))
            except NoSpace as refusal:
                refused.append(refusal)
        # Actions may leave out alternatives, but need one besides None.
        something = [each for each in found if not (isinstance(each, Choice) and each.n == 1)]
        if refused and (not self._is_action or not something):
            raise refused[0]
        return found[0] if len(found) == 1 else spaces.OneOf(found)

    def _text(self, schema: dict[str, Any]) -> Any:
        least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST_TEXT)
        rules = _TEXT_RULES & set(schema)
        if not self._is_action or not rules or schema.get("format") in {"binary", "path"}:
            return AnyText(least, most)
        if "contentMediaType" in rules:
            raise ValueError("it is text in another form")
        return FormattedText(schema, least, most)

    def _number(self, schema: dict[str, Any]) -> Any:
        found = number_range(schema)
        if self._is_action and schema.get("multipleOf") is not None:
            return _multiples(found)
        low, high = found.low, found.high
        if schema["type"] == "integer":
            low = _INTEGERS.min if low is None else max(low, _INTEGERS.min)
            high = _INTEGERS.max if high is None else min(high, _INTEGERS.max)
            return spaces.Box(low, high, shape=(), dtype=np.int64)
        low, high = -np.inf if low is None else low, np.inf if high is None else high
        if math.isinf(high - low) and math.isfinite(low) and math.isfinite(high):
            raise ValueError("its bounds are too far apart")
        return spaces.Box(low, high, shape=(), dtype=np.float64)

    def _array(self, schema: dict[str, Any], name: str, within: tuple[str, ...]) -> Any:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        unique = bool(schema.get("uniqueItems"))
        if "prefixItems" in schema:
            firsts = schema["prefixItems"]
            if least != len(firsts) or most != len(firsts):
                _no_space(name, "it is a tuple of any length")
            return spaces.Tuple(
                [self._space(of, f"{name}[{i}]", within) for i, of in enumerate(firsts)]
            )
        if most is not None and least > most:
            raise ValueError("it has no length")
        item = self._space(schema.get("items"), f"{name}[]", within)
        if least != most or unique:
            return Items(item, least, most, unique=unique)
        if isinstance(item, spaces.Box):
            low, high = (np.broadcast_to(of, (least, *item.shape)) for of in (item.low, item.high))
            return spaces.Box(low, high, dtype=item.dtype)  # type: ignore[arg-type]
        return spaces.Tuple([deepcopy(item) for _ in range(least)])

    def _object(self, schema: dict[str, Any], name: str, within: tuple[str, ...]) -> Any:
        fields = {}
        for key, of in schema["properties"].items():
            if not self._is_action and key not in schema.get("required", ()):
                _no_space(f"{name}.{key}", "it may be missing")
            fields[key] = self._space(of, f"{name}.{key}", within)
        return spaces.Dict(fields)

    def _mapping(self, schema: dict[str, Any], name: str, within: tuple[str, ...]) -> Any:
        names, values = schema.get("propertyNames", {}), schema.get("additionalProperties")
        for pattern, of in schema.get("patternProperties", {}).items():
            names, values = {"pattern": pattern}, of
        if not isinstance(values, dict):
            _no_space(name, "its values may be anything")
        key = self._space({"type": "string", **names}, f"{name}[key]", within)
        value = self._space(values, f"{name}[]", within)
        return Mapping(key, value, schema.get("minProperties", 0), schema.get("maxProperties"))


def _no_space(name: str, reason: str) -> NoReturn:
    raise NoSpace(f"There is no Gymnasium space for {name}: {reason}")


def _multiples(found: NumberRange) -> Choice:
    first, last = found.multiples
    if first is None:
        first = -_MOST_FACTORS if last is None else last - _MOST_FACTORS
    last = first + 2 * _MOST_FACTORS if last is None else min(last, first + 2 * _MOST_FACTORS)
    return Choice(Multiples(found.step or 1, first, last))
