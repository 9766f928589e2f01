# SPDX-License-Identifier: BSD-3-Clause
"""Texts for a JSON Schema of type string: by its format, its pattern or its length."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from stepwire.protocol.patterns import Choose, matching_text

_WORDS = ("Hello", "Hi", "Hello, World!")


def _uuid(version: str) -> Callable[[int], str]:
    return lambda number: f"00000000-0000-{version}000-8000-{number:012x}"


_BY_FORMAT: dict[str, Callable[[int], str]] = {
    "date-time": lambda number: f"2025-01-{number % 28 + 1:02}T12:00:00Z",
    "date": lambda number: f"2025-01-{number % 28 + 1:02}",
    "time": lambda number: f"{number % 24:02}:00:00Z",
    "duration": lambda number: f"PT{number + 1}S",
    "uuid": _uuid("4"),
    **{f"uuid{version}": _uuid(version) for version in "1345678"},
    "email": lambda number: f"user{number}@example.com",
    "name-email": lambda number: f"User <user{number}@example.com>",
    "hostname": lambda number: f"host{number}.example.com",
    "uri": lambda number: f"https://example.com/{number}",
    "ipv4": lambda number: f"192.0.2.{number % 256}",
    "ipv6": lambda number: f"2001:db8::{number % 65536:x}",
    "ipvanyaddress": lambda number: f"192.0.2.{number % 256}",
    "ipv4network": lambda number: f"10.{number % 256}.0.0/16",
    "ipv6network": lambda number: f"2001:db8:{number % 65536:x}::/48",
    "ipvanynetwork": lambda number: f"10.{number % 256}.0.0/16",
    "ipv4interface": lambda number: f"192.0.2.{number % 256}/24",
    "ipv6interface": lambda number: f"2001:db8::{number % 65536:x}/64",
    "ipvanyinterface": lambda number: f"192.0.2.{number % 256}/24",
    "base64": lambda number: b64encode(str(number).encode()).decode(),
    "base64url": lambda number: b64encode(str(number).encode()).decode(),
    "regex": lambda number: f"x{number}",
}
IMPOSSIBLE_FORMATS = frozenset({"file-path", "directory-path", "multi-host-uri"})
"""Formats that a schema alone cannot check."""


def formatted_text(schema: dict[str, Any], choose: Choose) -> str | None:
    """A text for the schema's `format` or `pattern`; None if it has neither.

    Raises `ValueError`, whose message is the reason, when there is none.
    """
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    form = schema.get("format")
    if form in IMPOSSIBLE_FORMATS:
        raise ValueError(f"the format {form!r} depends on more than the schema")
    if form in _BY_FORMAT:
        text = _BY_FORMAT[form](choose(1000))
        if len(text) < shortest or (longest is not None and len(text) > longest):
            raise ValueError(f"no text of the format {form!r} was found with this length")
        return text
    if isinstance(schema.get("pattern"), str):
        return matching_text(schema["pattern"], choose, shortest, longest)
    return None


def plain_text(schema: dict[str, Any], number: int) -> str:
    """A word of the schema's length; different for each `number` if the length allows it."""
    shortest = schema.get("minLength", 0)
    longest = max(shortest, schema.get("maxLength", 1_000_000))
    suffix = "" if number < len(_WORDS) else f" {number}"
    if len(suffix) > longest:
        suffix = chr(ord("a") + number % 26) * min(longest, 1)
    text = _WORDS[number % len(_WORDS)].ljust(shortest - len(suffix), "x")
    return text[: longest - len(suffix)] + suffix
