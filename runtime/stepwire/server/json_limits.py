# SPDX-License-Identifier: BSD-3-Clause
"""Checks the memory that a JSON text would take, before it is parsed.

Each byte of text can take more than a hundred bytes of memory: `{"":0}` takes about 700.
"""

import re
from itertools import accumulate
from typing import Any

from stepwire.server.errors import MessageError
from stepwire.server.memory import DECODED, LARGE, size_in_memory

# Peak bytes of a parsed value, by the character that the text has for it.
_BYTES_OF = (("{", 500), ("[", 100), (":", 150), (",", 64))
_BYTES_OF_STRING = 60
_MANY = 256 * 1024
_FEW = 100

_STRING = re.compile(rb'"[^"]*"?')
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))
_ONE_UP_OR_DOWN = bytes.maketrans(b"[{]}", b"\2\2\0\0")


def check_limits(text: str | bytes, most_levels: int) -> None:
    """Raise `MessageError` for JSON that nests too deep or whose values take too much memory."""
    if len(text) <= most_levels:
        return
    if len(text) > LARGE:
        _check_size(text)
    # Counting brackets is much cheaper than `_depth`, and rules out almost every message.
    if _count(text, "{") + _count(text, "[") <= most_levels:
        return
    depth = _depth(text)
    if depth > most_levels:
        reason = f"JSON may nest {most_levels} levels deep at most (MAX_JSON_DEPTH)"
        raise MessageError.invalid("json_depth", (), reason, depth)


def size_of_values(text: str | bytes) -> int:
    """An upper bound of the bytes that the parsed values take, without their texts.

    It counts what stands in strings too.
    """
    return sum(_count(text, mark) * size for mark, size in _BYTES_OF)


def has_many_values(text: str | bytes) -> bool:
    """Whether a text may have so many values that an error for each would be too much."""
    return len(text) > LARGE and size_of_values(text) > _MANY


def _check_size(text: str | bytes) -> None:
    texts, _ = size_in_memory(text)
    limit = DECODED.limit
    if texts + size_of_values(text) <= limit:
        return
    plain = _unescaped(text)
    size = texts + plain.count(b'"') // 2 * _BYTES_OF_STRING
    if size <= limit:
        size += size_of_values(_STRING.sub(b"", plain))
    if size > limit:
        reason = (
            f"The values of a message may take at most {limit} bytes of memory (three times "
            "MAX_MESSAGE_BYTES): they are too many, or a character beyond U+FFFF makes each "
            "character of a long text take four bytes"
        )
        raise MessageError.invalid("json_size", (), reason, size)


def _count(text: str | bytes, mark: str) -> int:
    sought: Any = mark if isinstance(text, str) else mark.encode()
    if len(text) <= LARGE:
        return text.count(sought)
    # `find` is ten times as fast as `count` where there is little to find.
    begin = 0
    for number in range(_FEW):
        begin = text.find(sought, begin) + 1
        if not begin:
            return number
    return text.count(sought)


def _unescaped(text: str | bytes) -> bytes:
    """The text as UTF-8 without escaped quotes, so that each quote begins or ends a string."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
    if b"\\" in text:  # most texts have none, and need no copies
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text


def _depth(text: str | bytes) -> int:
    """How deep the text nests. A parser is not used, because it has a limit of its own.

    Only brackets are looped over in Python, so megabytes of code or prose cost little.
    """
    brackets = _STRING.sub(b"", _unescaped(text)).translate(_ONE_UP_OR_DOWN, _OTHERS)
    return max(accumulate(step - 1 for step in brackets), default=0)
