# SPDX-License-Identifier: BSD-3-Clause
"""Spaces that Gymnasium lacks, and conversion between JSON values and elements of a space."""

import json
import re
import string
from collections.abc import Sequence
from copy import deepcopy
from fractions import Fraction
from typing import Any, overload

import numpy as np
from gymnasium import spaces

from stepwire.protocol.texts import formatted_text

_LONGEST_SAMPLE = 40
_MOST_ITEMS = 5  # of a sample, beyond the minimum
_FEW_TRIES, _MOST_TRIES = 20, 1000
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


class FormattedText(AnyText):
    """Text that matches the schema's `pattern` or has its `format`, which is not checked."""

    def __init__(self, schema: dict[str, Any], min_length: int, max_length: int) -> None:
        super().__init__(min_length, max_length)
        self.schema = schema
        deepcopy(self).sample()  # raises `ValueError` when there is no such text

    def contains(self, x: Any) -> bool:
        pattern = self.schema.get("pattern", "")
        return super().contains(x) and re.search(pattern, x) is not None

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        choose = self.np_random.integers
        return formatted_text(self.schema, lambda count: int(choose(count))) or ""

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, FormattedText) and self.schema == other.schema


class Choice(spaces.Discrete):  # type: ignore[type-arg] # generic in the latest releases only
    """One of `choices`; its element is the index."""

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__(len(choices))
        self.choices = choices

    def index(self, value: Any) -> int:
        """Raises `ValueError` when `value` is none of the choices."""
        # True equals 1 but is a different choice.
        for index, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return index
        raise ValueError(f"{value!r:.100} is none of {self.choices!r:.200}")

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and self.choices == getattr(other, "choices", None)


class Multiples(Sequence[Any]):
    """The multiples of `step`, from `first` to `last` times."""

    def __init__(self, step: float, first: int, last: int) -> None:
        self._step = step
        self._factors = range(first, last + 1)

    def __len__(self) -> int:
        return len(self._factors)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        value = self._factors[index] * Fraction(str(self._step))
        return int(value) if isinstance(self._step, int) else float(value)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Multiples) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"Multiples({self._step}, {self._factors.start}, {self._factors.stop - 1})"


class Items(spaces.Sequence):
    """A list of `least` to `most` items, distinct if `unique`. Samples are short."""

    def __init__(
        self, item: spaces.Space[Any], least: int, most: int | None, *, unique: bool = False
    ) -> None:
        super().__init__(item)
        self.least, self.most, self.unique = least, most, unique
        deepcopy(self).sample()  # raises `ValueError` when there are too few different items

    def contains(self, x: Any) -> bool:
        if not super().contains(x) or len(x) < self.least:
            return False
        keys = {self._key(item) for item in x} if self.unique else x
        return (self.most is None or len(x) <= self.most) and len(keys) == len(x)

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        most = self.least + _MOST_ITEMS if self.most is None else self.most
        wanted = int(self.np_random.integers(self.least, min(most, self.least + _MOST_ITEMS) + 1))
        if not self.unique:
            return tuple(self.feature_space.sample() for _ in range(wanted))
        items: dict[str, Any] = {}
        alike = 0  # consecutive samples that are duplicates
        while len(items) < wanted:
            item = self.feature_space.sample()
            key = self._key(item)
            alike = alike + 1 if key in items else 0
            items.setdefault(key, item)
            if alike > _FEW_TRIES and len(items) >= self.least:
                break
            if alike > _MOST_TRIES:
                raise ValueError(f"no {self.least} different items were found")
        return tuple(items.values())

    def _key(self, item: Any) -> str:
        return json.dumps(to_value(self.feature_space, item), sort_keys=True)

    def __eq__(self, other: Any) -> bool:
        limits = (self.least, self.most, self.unique)
        return (
            super().__eq__(other)
            and type(self) is type(other)
            and limits == (other.least, other.most, other.unique)
        )


class Mapping(Items):
    """A dictionary of any keys; its element has a pair for each, a key and a value."""

    def __init__(
        self, key: spaces.Space[Any], value: spaces.Space[Any], least: int, most: int | None
    ) -> None:
        super().__init__(spaces.Tuple((key, value)), least, most, unique=True)

    def _key(self, item: Any) -> str:
        key_space = self.feature_space.spaces[0]  # type: ignore[attr-defined]
        return json.dumps(to_value(key_space, item[0]))


def to_element(space: spaces.Space[Any], value: Any) -> Any:
    """The element of `space` for the value of a field."""
    match space:
        case spaces.Dict():
            return {key: to_element(of, value[key]) for key, of in space.items()}
        case spaces.Tuple():
            return tuple(to_element(of, item) for of, item in zip(space, value, strict=True))
        case Mapping():
            return tuple(to_element(space.feature_space, pair) for pair in value.items())
        case spaces.Sequence():
            return tuple(to_element(space.feature_space, item) for item in value)
        case spaces.OneOf():
            return _one_of(space, value)
        case spaces.Box():
            return np.array(value, space.dtype)
        case Choice():
            return np.int64(space.index(value))
    return value


def _one_of(space: spaces.OneOf, value: Any) -> tuple[Any, Any]:
    """The first alternative that `value` belongs to, and its element there."""
    text = json.dumps(value, sort_keys=True)
    for index, alternative in enumerate(space.spaces):
        try:
            element = to_element(alternative, value)
            if alternative.contains(element):
                back = to_value(alternative, element)
                if json.dumps(back, sort_keys=True) == text:
                    return np.int64(index), element
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            continue
    raise ValueError(f"{value!r:.100} belongs to no alternative of {space!r:.200}")


def to_elements(space: spaces.Space[Any], values: Sequence[Any]) -> Any:
    """The element of the batched space for a value of each session."""
    match space:
        case spaces.Dict():
            return {
                key: to_elements(of, [value[key] for value in values]) for key, of in space.items()
            }
        case spaces.Tuple():
            return tuple(
                to_elements(of, [value[index] for value in values])
                for index, of in enumerate(space.spaces)
            )
        case spaces.Box():
            return np.array(values, space.dtype)
        case Choice():
            return np.array([space.index(value) for value in values], space.dtype)
    return tuple(to_element(space, value) for value in values)


def to_value(space: spaces.Space[Any], element: Any) -> Any:
    """The value of a field for an element of `space`; the reverse of `to_element`.

    A plain value, such as 42 or one of the texts of a `Choice`, stands for itself.
    """
    match space:
        case spaces.Dict():
            return {key: to_value(of, element[key]) for key, of in space.items()}
        case spaces.Tuple():
            return [to_value(of, item) for of, item in zip(space, element, strict=True)]
        case Mapping():
            pairs = [to_value(space.feature_space, pair) for pair in element]
            return {str(key): value for key, value in pairs}
        case spaces.Sequence():
            return [to_value(space.feature_space, item) for item in element]
        case spaces.OneOf():
            if isinstance(element, tuple) and len(element) == 2:
                return to_value(space.spaces[int(element[0])], element[1])
        case spaces.Box():
            return np.asarray(element).tolist()
        case Choice():
            if not isinstance(element, str):
                return space.choices[int(element)]
    return element
