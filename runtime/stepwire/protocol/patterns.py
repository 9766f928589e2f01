# SPDX-License-Identifier: BSD-3-Clause
"""Texts that match a simple regular expression: literals, classes, groups, `|` and repetitions."""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Choose: TypeAlias = Callable[[int], int]
"""`choose(n)` returns one of 0 … n - 1."""

_LONGEST = 10_000  # characters
_CHOSEN = 3  # repetitions beyond the minimum, at most
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
_CLASSES = {
    "d": string.digits,
    "w": string.ascii_letters + string.digits + "_",
    "s": " ",
}
_CLASSES |= {
    name.upper(): "".join(c for c in _PRINTABLE if c not in characters)
    for name, characters in _CLASSES.items()
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}
_REPEATS = {"?": (0, 1), "*": (0, None), "+": (1, None)}
_COUNTS = re.compile(r"\{(\d+)(,?)(\d*)\}")


class UnsupportedPattern(ValueError):
    """No text can be made for a pattern; the message has the pattern."""


@dataclass(frozen=True)
class _Part:
    """One of `characters`, or one of the `alternatives`, `least` to `most` times."""

    characters: str = ""
    alternatives: "tuple[tuple[_Part, ...], ...]" = ()
    least: int = 1
    most: int | None = 1


def matching_text(
    pattern: str, choose: Choose, shortest: int = 0, longest: int | None = None
) -> str:
    """A text of `shortest` to `longest` characters in which `pattern` is found.

    Raises `UnsupportedPattern` for a pattern with lookarounds, references to groups or the like,
    and for one whose texts are too short or too long.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsupportedPattern(
            f"the pattern {pattern!r:.200} is not understood ({error})"
        ) from None
    reader = _Reader(pattern)
    alternatives = reader.alternatives()
    if reader.rest:
        reader.refuse()
    limit = min(_LONGEST, _LONGEST if longest is None else longest)
    # First a text with any number of repetitions, then texts with more and more of them.
    for more in (None, *range(min(shortest, limit) + 2)):
        text = _text(alternatives, choose, more, limit)
        text += "x" * (shortest - len(text))  # matches if the end of the pattern is open
        if len(text) <= limit and compiled.search(text):
            return text
    raise UnsupportedPattern(
        f"no text of {shortest} to {limit} characters was found for the pattern {pattern!r:.200}"
    )


def _text(
    alternatives: tuple[tuple[_Part, ...], ...], choose: Choose, more: int | None, limit: int
) -> str:
    """A text for one of the alternatives; it may stop early when it exceeds `limit`.

    Each part is repeated `more` times beyond its least, or as `choose` says.
    """
    text = ""
    for part in alternatives[choose(len(alternatives))]:
        spread = _CHOSEN if more is None else more
        if part.most is not None:
            spread = min(spread, part.most - part.least)
        for _ in range(part.least + (choose(spread + 1) if more is None else spread)):
            if len(text) > limit:
                return text
            if part.characters:
                text += part.characters[choose(len(part.characters))]
            else:
                text += _text(part.alternatives, choose, more, limit)
    return text


class _Reader:
    """Reads a pattern from left to right; `re` has already accepted it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.rest = pattern

    def refuse(self) -> None:
        raise UnsupportedPattern(
            f"the pattern {self._pattern!r:.200} is not simple enough, from {self.rest!r:.40}"
        )

    def alternatives(self) -> tuple[tuple[_Part, ...], ...]:
        found: list[list[_Part]] = [[]]
        while self.rest and not self.rest.startswith(")"):
            if self._skip("|"):
                found.append([])
            elif not (self._skip("^") or self._skip("$")):  # the caller searches for the whole
                found[-1].append(self._repeated(self._atom()))
        return tuple(map(tuple, found))

    def _skip(self, text: str) -> bool:
        starts = self.rest.startswith(text)
        if starts:
            self.rest = self.rest[len(text) :]
        return starts

    def _next(self) -> str:
        character, self.rest = self.rest[0], self.rest[1:]
        return character

    def _atom(self) -> _Part:
        if self._skip("(?:") or (not self.rest.startswith("(?") and self._skip("(")):
            part = _Part(alternatives=self.alternatives())
            self._skip(")")
            return part
        if self.rest.startswith("("):
            self.refuse()
        if self._skip("["):
            return _Part(self._class())
        if self._skip("."):
            return _Part(string.ascii_letters + string.digits)
        return _Part(self._escape() if self.rest.startswith("\\") else self._next())

    def _escape(self) -> str:
        name = self.rest[1]
        if name in _CLASSES or name in _CONTROLS or not name.isalnum():
            self.rest = self.rest[2:]
            return _CLASSES.get(name) or _CONTROLS.get(name) or name
        self.refuse()
        return ""

    def _class(self) -> str:
        negated = self._skip("^")
        characters = self._next() if self.rest.startswith("]") else ""
        while not self._skip("]"):
            one = self._escape() if self.rest.startswith("\\") else self._next()
            if len(one) == 1 and re.match(r"-[^]]", self.rest):
                self._next()
                last = self._escape() if self.rest.startswith("\\") else self._next()
                # A range can span all of Unicode; its beginning is enough.
                end = min(ord(last), ord(one) + 255)
                one = "".join(map(chr, range(ord(one), end + 1)))
            characters += one
        if not negated:
            return characters
        others = "".join(c for c in _PRINTABLE if c not in characters)
        if not others:
            self.refuse()
        return others

    def _repeated(self, part: _Part) -> _Part:
        least, most = 1, 1
        if self.rest[:1] in _REPEATS and self.rest:
            least, most = _REPEATS[self._next()]  # type: ignore[assignment]
        elif counts := _COUNTS.match(self.rest):
            self.rest = self.rest[counts.end() :]
            least = int(counts[1])
            most = least if not counts[2] else int(counts[3]) if counts[3] else None  # type: ignore[assignment]
        else:
            return part
        self._skip("?") or self._skip("+")  # lazy or possessive: the same texts
        return _Part(part.characters, part.alternatives, least, most)
