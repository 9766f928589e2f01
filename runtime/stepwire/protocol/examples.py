# SPDX-License-Identifier: BSD-3-Clause
"""Example values for a JSON Schema: the server shows them, the conformance kit sends them."""

import json
from typing import Any

from stepwire.protocol.numbers import example_number
from stepwire.protocol.texts import formatted_text, plain_text

_MOST_PARTS = 10_000
_MOST_TRIES = 100  # to find another item for a list of unique ones


class NoExample(ValueError):
    """No value can be made for a schema; the message names the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"No example of {field or 'the value'}: {reason}")
        self.field = field
        self.reason = reason


class _TooLarge(NoExample):
    """No alternative is tried any more."""


def example_of(
    schema: dict[str, Any], number: int = 0, *, optional: bool = False, length: int = 0
) -> Any:
    """A value that `schema` allows, always the same for the same `number`.

    The schema's own `examples` come first. Objects have their required properties, and with
    `optional` the others too. Arrays have as few items as they may, but `length` where they may.
    Rules that are not in the schema are unknown here: validate the result where they matter.

    Raises `NoExample`, which names the field, when the schema allows nothing, refers to itself
    without end, or has a `pattern` that is not a simple one.
    """
    return _Maker(schema, optional, length).make(schema, number, "")


def schema_at(reference: str, root: dict[str, Any]) -> Any:
    """The schema that `$ref` names, such as `#/$defs/Move`, within `root`; None without one."""
    found: Any = root
    for key in reference.removeprefix("#").split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


class _Maker:
    """Makes an example for a root schema."""

    def __init__(self, root: dict[str, Any], optional: bool, length: int) -> None:
        self._root = root
        self._optional = optional
        self._length = length
        self._open: list[str] = []  # the references that are being followed
        self._parts = 0

    def make(self, schema: Any, number: int, field: str) -> Any:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _TooLarge(field, "the schema is too large")
        if schema is True:
            return None
        if not isinstance(schema, dict):
            raise NoExample(field, "the schema allows no value")
        if "$ref" in schema:
            return self._referred(schema, number, field)
        if schema.get("allOf"):
            return self.make(self._merged(schema, field), number, field)
        examples = schema.get("examples")
        if isinstance(examples, list) and number < len(examples):
            return examples[number]
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][number % len(schema["enum"])]
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {name: value for name, value in schema.items() if name != key}
                return self._first(
                    [rest | one if isinstance(one, dict) else one for one in schema[key]],
                    number,
                    field,
                )
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._first([{**schema, "type": kind} for kind in kinds], number, field)
        return self._of_type(schema, number, field)

    def _referred(self, schema: dict[str, Any], number: int, field: str) -> Any:
        reference = str(schema["$ref"])
        if reference in self._open:
            raise NoExample(field, f"{reference} refers to itself without end")
        target = schema_at(reference, self._root)
        if isinstance(target, dict):
            target = target | {name: value for name, value in schema.items() if name != "$ref"}
        elif target is None:
            raise NoExample(field, f"{reference} is not in the schema")
        self._open.append(reference)
        try:
            return self.make(target, number, field)
        finally:
            self._open.pop()

    def _merged(self, schema: dict[str, Any], field: str) -> dict[str, Any]:
        """`schema` with the keys of all parts of its `allOf`."""
        whole = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            if isinstance(part, dict) and "$ref" in part:
                part = part | (schema_at(str(part["$ref"]), self._root) or {})
                del part["$ref"]
            if not isinstance(part, dict):
                raise NoExample(field, "`allOf` has a part that is not an object")
            properties = whole.get("properties", {}) | part.get("properties", {})
            required = [*whole.get("required", ()), *part.get("required", ())]
            whole |= part
            if properties:
                whole |= {"properties": properties, "required": required}
        return whole

    def _first(self, schemas: list[Any], number: int, field: str) -> Any:
        """An example of the first schema that has one; raises the error of the first."""
        failures = []
        for schema in schemas:
            try:
                return self.make(schema, number, field)
            except _TooLarge:
                raise
            except NoExample as error:
                failures.append(error)
        raise failures[0]

    def _of_type(self, schema: dict[str, Any], number: int, field: str) -> Any:
        try:
            match schema.get("type"):
                case "object":
                    return self._object(schema, number, field)
                case "array":
                    return self._array(schema, number, field)
                case "string":
                    return self._text(schema, number, field)
                case "integer" | "number":
                    return example_number(schema, number)
                case "boolean":
                    return number % 2 == 0
        except NoExample:
            raise
        except ValueError as error:
            raise NoExample(field, str(error)) from None
        return self._object(schema, number, field) if "properties" in schema else None

    def _text(self, schema: dict[str, Any], number: int, field: str) -> str:
        if schema.get("contentMediaType") == "application/json" and "contentSchema" in schema:
            return json.dumps(self.make(schema["contentSchema"], number, field))
        text = formatted_text(schema, lambda count: number % count)
        return plain_text(schema, number) if text is None else text

    def _object(self, schema: dict[str, Any], number: int, field: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        made: dict[str, Any] = {}
        for name in schema.get("required", ()):
            described = properties.get(name, schema.get("additionalProperties", True))
            made[name] = self.make(described, number, _within(field, name))
        if self._optional:
            self._add_optional(properties, made, number, field)
        rest: Any = schema.get("additionalProperties", True)
        names: Any = schema.get("propertyNames", {"type": "string"})
        for pattern, described in schema.get("patternProperties", {}).items():
            rest, names = described, {"type": "string", "pattern": pattern}
        if isinstance(names, dict):
            names = {"type": "string", **names}
        wanted = schema.get("minProperties", 0)
        for attempt in range(_MOST_TRIES):
            if len(made) >= wanted:
                return made
            name = self.make(names, number + attempt, f"{field}[…]")
            made.setdefault(name, self.make(rest, number + attempt, f"{field}[…]"))
        raise NoExample(field, f"no {wanted} different names were found")

    def _add_optional(
        self, properties: dict[str, Any], made: dict[str, Any], number: int, field: str
    ) -> None:
        for name, described in properties.items():
            if name in made:
                continue
            try:
                made[name] = self.make(described, number, _within(field, name))
            except NoExample:
                if isinstance(described, dict) and "default" in described:
                    made[name] = described["default"]

    def _array(self, schema: dict[str, Any], number: int, field: str) -> list[Any]:
        firsts = schema.get("prefixItems", [])
        items = schema.get("items", True)
        least = schema.get("minItems", 0)
        wanted = least
        if items is not False:
            wanted = max(least, min(self._length, schema.get("maxItems", self._length)))
        made: list[Any] = []
        for attempt in range(wanted + _MOST_TRIES):
            if len(made) >= wanted:
                return made
            described = firsts[len(made)] if len(made) < len(firsts) else items
            item = self.make(described, number + attempt, f"{field}[{len(made)}]")
            if not (schema.get("uniqueItems") and item in made):
                made.append(item)
        if len(made) < least:
            raise NoExample(field, f"no {least} different items were found")
        return made


def _within(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
