# SPDX-License-Identifier: BSD-3-Clause
"""Validates messages with many values, without an error for each invalid value.

pydantic collects all errors before it raises: for one megabyte of unknown keys, these take 200 MB.
`ErrorLimit` validates with a schema that stops early, and shortens invalid messages, so that their
explanation is short too. Where the author's own functions decide, it accepts the value.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic_core import PydanticCustomError, SchemaError, SchemaValidator, ValidationError
from pydantic_core import core_schema as core

_SEQUENCES = {"list", "tuple", "set", "frozenset"}
_FUNCTIONS = {"function-before", "function-wrap", "function-plain", "generator", "dataclass-args"}
_INSIDE = {"model", "dataclass", "function-after", "custom-error"}  # what they validate counts
_ANY, _STR = core.any_schema(), core.str_schema()  # neither can fail, `_STR` for a key
_NOT_SCHEMAS = {"config", "default", "expected", "metadata", "serialization"}
_KEPT = 20  # parts of a list or an object that are kept, besides the fields of models
_MOST_KEPT = 2000
_LONGEST_TEXT = 64 * 1024


class ErrorLimit:
    """Refuses messages early; made for one pydantic-core schema."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._names: set[str] = set()  # of fields

    def accepts(self, text: str | bytes) -> bool:
        """Whether a JSON text is valid, as far as this finds out."""
        if self._validator is None:
            return True
        try:
            self._validator.validate_json(text)
        except (ValidationError, _Stop):
            return False
        return True

    @cached_property
    def _validator(self) -> SchemaValidator | None:
        try:
            return SchemaValidator(self._stopping(self._schema, "ignore"))
        except SchemaError:  # a schema that cannot be rebuilt
            return None

    def shortened(self, value: Any) -> Any:
        """A value with the first parts of each text, list and object, and all fields of models."""
        return self._shortened(value, iter(range(_MOST_KEPT)))

    def _shortened(self, value: Any, left: Iterator[int]) -> Any:
        if isinstance(value, dict):
            fields = [key for key in islice(value, _MOST_KEPT) if key in self._names]
            others = islice((key for key in value if key not in self._names), _KEPT)
            return {key: self._shortened(value[key], left) for key in (*fields, *others)}
        if isinstance(value, list):
            kept = []
            for part in value[:_KEPT]:
                if next(left, None) is None:
                    break
                kept.append(self._shortened(part, left))
            return kept
        return value[:_LONGEST_TEXT] if isinstance(value, str) else value

    def _stopping(self, schema: Any, extra: str) -> Any:
        """The schema, changed to stop at the first error where many are possible."""
        if isinstance(schema, list):
            return [self._stopping(part, extra) for part in schema]
        if isinstance(schema, tuple):
            return tuple(self._stopping(part, extra) for part in schema)
        if not isinstance(schema, dict):
            return schema
        kind = schema.get("type")
        if not isinstance(kind, str):  # fields or choices by their names
            return {name: self._stopping(part, extra) for name, part in schema.items()}
        if kind in _FUNCTIONS:
            return core.any_schema(ref=schema.get("ref"))
        extra = (schema.get("config") or {}).get("extra_fields_behavior", extra)
        if kind in _INSIDE:
            inner = self._stopping(schema["schema"], extra)
            return {**inner, "ref": schema["ref"]} if "ref" in schema else inner
        made = {
            key: part if key in _NOT_SCHEMAS else self._stopping(part, extra)
            for key, part in schema.items()
            if key != "cls" or kind != "typed-dict"
        }
        if kind in _SEQUENCES:
            made["fail_fast"] = True
        elif kind == "dict":
            for part in ("keys_schema", "values_schema"):
                if made.get(part, _ANY) not in (_ANY, _STR):
                    made[part] = core.no_info_wrap_validator_function(_stop, made[part])
        elif kind == "union":
            made["choices"] = [
                core.no_info_wrap_validator_function(_fail, _choice(choice))
                for choice in made["choices"]
            ]
        elif kind in ("model-fields", "typed-dict"):
            self._names.update(schema["fields"])
            if schema.get("extra_behavior", extra) == "forbid":
                made["extra_behavior"] = "allow"
                made["extras_schema"] = core.no_info_plain_validator_function(_refuse)
        return made


class _Stop(Exception):
    """Stops the validation; pydantic does not collect it."""


def _refuse(_: Any) -> Any:
    raise _Stop


def _stop(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:
        raise _Stop from None


def _fail(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate a choice of a union, whose other choices may be valid."""
    try:
        return validate(value)
    except _Stop:
        raise PydanticCustomError("too_many_errors", "Too many errors") from None


def _choice(choice: Any) -> Any:
    return choice[0] if isinstance(choice, tuple) else choice
