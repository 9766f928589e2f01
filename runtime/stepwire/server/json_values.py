# SPDX-License-Identifier: BSD-3-Clause
"""JSON of any value that an environment returns, so that every step gets an answer.

Values that pydantic encodes are sent as the stock servers send them. Arrays, tensors and numbers of
numpy are sent as lists and numbers, other collections as lists and objects, and bytes that are not
UTF-8 as base64. A value that JSON cannot express is replaced by a text with the name of its type;
the log names the field once for each class.
"""

import logging
from base64 import b64encode
from collections.abc import Hashable, ItemsView, KeysView, Mapping, Sequence, Set, ValuesView
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

logger = logging.getLogger("stepwire.server")

_COLLECTIONS = (Sequence, Set, KeysView, ItemsView, ValuesView)
# pydantic-core has a similar limit.
_MOST_LEVELS = 200


def encode(value: Any) -> bytes:
    """JSON of any value."""
    try:
        return encode_strictly(value)
    except Exception:  # noqa: BLE001 - a value may fail in any way
        return encode_strictly(jsonable(value))


def encode_strictly(value: Any, exclude: Any = None) -> bytes:
    """JSON of `value` in one pass; raises an exception of any class where that is impossible."""
    # JSON has no NaN or infinity; the stock servers send null. They also ignore aliases.
    return to_json(value, exclude=exclude, by_alias=False, inf_nan_mode="null", fallback=as_known)


def model_content(value: Any) -> Any:
    """A model as `encode_strictly` takes it to send the stock servers' JSON.

    They encode its `model_dump()`, so settings and serialisers for JSON only do not apply. A model
    without such is encoded as it is, which is faster.
    """
    kind: Any = type(value)
    if _is_same_in_json(kind):
        return value
    return value.model_dump()


@lru_cache
def _is_same_in_json(kind: Hashable) -> bool:
    schema = getattr(kind, "__pydantic_core_schema__", {})
    return not _differs_in_json(schema)


def _differs_in_json(schema: Any) -> bool:
    """Whether a schema, or one inside it, says something about JSON only."""
    if isinstance(schema, list | tuple):
        return any(map(_differs_in_json, schema))
    if not isinstance(schema, dict):
        return False
    if str(schema.get("when_used", "")).startswith("json"):
        return True
    return any(
        key.startswith("ser_json") or key == "serialize_by_alias" or _differs_in_json(part)
        for key, part in schema.items()
        if isinstance(key, str)
    )


def jsonable(value: Any) -> Any:
    """`value` with everything replaced that `encode_strictly` fails for."""
    return _Replacement(type(value)).of(value, "", ())


def find_lone_surrogate(value: Any) -> str | None:
    """Where in `value` a text has a lone surrogate, such as `" in x[]"`; `None` if none has."""
    try:
        _SurrogateSearch(type(value)).of(value, "", ())
    except _LoneSurrogate as found:
        return f" in {found}" if str(found) else ""
    return None


class Padding:
    """A text of that many characters that exists only while it is encoded."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


def as_known(value: Any) -> Any:
    """Convert a value that pydantic does not know into one that it may know."""
    if isinstance(value, Padding):
        return "x" * value.size
    # Of arrays and scalars of numpy, torch, jax and others, `array.array` and `memoryview`.
    if callable(to_list := getattr(value, "tolist", None)):
        known = to_list()
        if not hasattr(known, "tolist"):  # a mock has every attribute, and so has its result
            return known
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, _COLLECTIONS):
        return list(value)
    raise PydanticSerializationError(f"JSON has no value of type {type(value).__name__}")


class _Replacement:
    """Replaces what cannot be encoded in the values of one class."""

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def of(self, value: Any, place: str, inside: tuple[int, ...]) -> Any:
        """`value` or its replacement; `inside` has the ids of the values that contain it."""
        if _is_encodable(value, len(inside)):
            return value
        if id(value) in inside or len(inside) >= _MOST_LEVELS:
            return self._name(value, place, "which contains itself, or nests too deep")
        inside = (*inside, id(value))
        if isinstance(value, str):
            return self._text(value, place)
        if isinstance(value, bytes | bytearray):
            _warn(self._owner, place, "bytes that are not UTF-8, sent as base64")
            return b64encode(value).decode()
        try:
            parts = _parts(value)
        except Exception:  # noqa: BLE001 - a value may fail in any way
            return self._name(value, place)
        if isinstance(parts, dict):
            return self._of_items(parts, place, inside)
        if isinstance(parts, list):
            return [self.of(part, f"{place}[]", inside) for part in parts]
        return self.of(parts, place, inside)

    def _text(self, value: str, place: str) -> str:
        _warn(self._owner, place, "lone surrogates, sent as escapes")
        return value.encode("utf-8", "backslashreplace").decode()

    def _of_items(self, items: dict[Any, Any], place: str, inside: tuple[int, ...]) -> Any:
        replaced: dict[Any, Any] = {}
        for key, part in items.items():
            name = key
            if not _is_encodable({key: None}, 0):
                name = self.of(key, f"a key of {place}" if place else "a key", inside)
                name = name if isinstance(name, str | int | float) else str(name)
            while name in replaced:
                name = f"{name}'"
            replaced[name] = self.of(part, f"{place}.{name}" if place else f"{name}", inside)
        return replaced

    def _name(self, value: Any, place: str, reason: str = "which JSON cannot express") -> str:
        kind = type(value)
        found = f"a {kind.__module__}.{kind.__qualname__}, {reason}; a text is sent instead"
        _warn(self._owner, place, found)
        return f"<not JSON: {kind.__qualname__}>"


class _LoneSurrogate(Exception):
    """The text at this place has one."""


class _SurrogateSearch(_Replacement):
    """Stops at the first lone surrogate; ignores everything else."""

    def _text(self, value: str, place: str) -> str:
        raise _LoneSurrogate(place.encode("utf-8", "backslashreplace").decode())

    def _name(self, value: Any, place: str, reason: str = "") -> str:
        return ""


def _is_encodable(value: Any, levels: int) -> bool:
    """Whether a value can be encoded where it is that many levels deep."""
    for _ in range(levels):
        value = [value]
    try:
        encode_strictly(value)
    except Exception:  # noqa: BLE001 - a value may fail in any way
        return False
    return True


def _parts(value: Any) -> Any:
    """A value's parts, as a dict or a list; or one that is closer to JSON."""
    if isinstance(value, BaseModel):
        return _model_parts(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | Set):
        return list(value)
    return as_known(value)


def _model_parts(model: BaseModel) -> Any:
    try:
        return model.model_dump()
    except Exception:  # noqa: BLE001 - a serialiser of the model may fail in any way
        parts: dict[str, Any] = {}
        for name in _part_names(model):
            try:
                parts |= model.model_dump(include={name})
            except Exception:  # noqa: BLE001
                parts[name] = _attribute(model, name)
        return parts


def _part_names(model: BaseModel) -> list[str]:
    fields = type(model).model_fields
    declared = [name for name, field in fields.items() if not field.exclude]
    return [*declared, *type(model).model_computed_fields, *(model.model_extra or ())]


def _attribute(model: BaseModel, name: str) -> Any:
    try:
        return getattr(model, name)
    except Exception as error:  # noqa: BLE001 - a computed field may fail in any way
        return error  # a text with its type's name stands for it


@lru_cache(maxsize=256)  # once for each of the last 256
def _warn(owner: type, place: str, found: str) -> None:
    logger.warning("%s.%s has %s", owner.__name__, place, found)
