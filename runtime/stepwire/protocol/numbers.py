# SPDX-License-Identifier: BSD-3-Clause
"""The numbers that a JSON Schema allows."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_MOST_TRIES = 20


@dataclass(frozen=True)
class NumberRange:
    """`low` and `high` are inclusive; None is no bound. Numbers are multiples of `step`."""

    low: float | None
    high: float | None
    step: float | None

    @property
    def multiples(self) -> tuple[int | None, int | None]:
        """The smallest and the largest factor of `step` in the range."""
        step = Fraction(str(self.step))
        low, high = self.low, self.high
        return (
            None if low is None else math.ceil(_fraction(low) / step),
            None if high is None else math.floor(_fraction(high) / step),
        )


def _fraction(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(str(number))


def number_range(schema: dict[str, Any]) -> NumberRange:
    """The range of a schema of type integer or number; raises `ValueError` when it is empty."""
    integer = schema.get("type") == "integer"
    lows = [_finite(schema.get("minimum")), _above(schema.get("exclusiveMinimum"), integer)]
    highs = [_finite(schema.get("maximum")), _below(schema.get("exclusiveMaximum"), integer)]
    low = max((low for low in lows if low is not None), default=None)
    high = min((high for high in highs if high is not None), default=None)
    step = schema.get("multipleOf")
    if integer:
        low = None if low is None else math.ceil(low)
        high = None if high is None else math.floor(high)
        # The integers among the multiples of p/q are the multiples of p.
        step = 1 if step is None else Fraction(str(step)).numerator
    found = NumberRange(low, high, step)
    first, last = found.multiples if step else (low, high)
    if first is not None and last is not None and first > last:
        raise ValueError("no number is between its bounds")
    return found


def _finite(bound: Any) -> float | None:
    return bound if isinstance(bound, int | float) and math.isfinite(bound) else None


def _above(bound: Any, integer: bool) -> float | None:
    bound = _finite(bound)
    if bound is None:
        return None
    return math.floor(bound) + 1 if integer else math.nextafter(bound, math.inf)


def _below(bound: Any, integer: bool) -> float | None:
    above = _above(None if _finite(bound) is None else -bound, integer)
    return None if above is None else -above


def example_number(schema: dict[str, Any], number: int) -> float:
    """A number that the schema allows, near its lower bound; different for each `number`."""
    found = number_range(schema)
    if found.step is None:
        return _example_float(schema, found, number)
    tries = (_multiple(found, number + attempt) for attempt in range(_MOST_TRIES))
    # Validators divide floats, so that 0.3 is no multiple of 0.1.
    exact = (value for value in tries if float(value / found.step).is_integer())
    return next(exact, _multiple(found, number))


def _multiple(found: NumberRange, number: int) -> float:
    first, last = found.multiples
    if first is not None:
        factor = first + (number if last is None else number % (last - first + 1))
    elif last is not None and last < number:
        factor = min(last, 0) - number
    else:
        factor = number
    value = factor * Fraction(str(found.step))
    return int(value) if isinstance(found.step, int) else float(value)


def _example_float(schema: dict[str, Any], found: NumberRange, number: int) -> float:
    low, high = found.low, found.high
    # Half a unit away from an exclusive bound, if there is room.
    if low is not None:
        value = float(low) if low == schema.get("minimum") else schema["exclusiveMinimum"] + 0.5
        value += number
        return value if high is None or value <= high else low + (high - low) / (number + 2)
    if high is not None:
        value = float(high) if high == schema.get("maximum") else schema["exclusiveMaximum"] - 0.5
        return float(number) if number <= value else min(value, 0.0) - number
    return float(number)
