# SPDX-License-Identifier: BSD-3-Clause
"""The plain kind of WebSocket frames (RFC 6455, section 5.2), which is all that a step needs.

A request and its reply are each one whole text message in one frame. For these the general parser
of `websockets`, which takes any frame byte by byte, costs as much as everything else a client does
for a step. Whatever is not plain is left to it: see `Connection`.
"""

import os
import struct
from collections import deque

try:
    from websockets.speedups import apply_mask
except (
    ImportError
):  # pragma: no cover - where `websockets` has no compiled part, the same in Python
    from websockets.utils import apply_mask

_TEXT = 0x81  # the first byte of a text message that is whole
_CONTROL = frozenset({0x88, 0x89, 0x8A})  # close, ping, pong


def text_frame(payload: bytes) -> bytes:
    """A whole text message from a client, masked as those have to be."""
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", _TEXT, 0x80 | size)
    elif size < 65536:
        header = struct.pack("!BBH", _TEXT, 0xFE, size)
    else:
        header = struct.pack("!BBQ", _TEXT, 0xFF, size)
    mask = _new_mask()
    return header + mask + apply_mask(payload, mask)


_masks: deque[bytes] = deque()


def _new_mask() -> bytes:
    """Four random bytes; the system is asked for many at once."""
    try:
        return _masks.popleft()
    except IndexError:
        random = os.urandom(4096)
        _masks.extend(random[i : i + 4] for i in range(4, len(random), 4))
        return random[:4]


class NotPlainError(Exception):
    """What was received begins with a frame of another kind."""


def plain_frame(received: bytes | bytearray, max_size: int | None) -> tuple[bool, int, int] | None:
    """Whether the first frame is text, where its payload begins and where it ends.

    `None` while it is not all there. Raises `NotPlainError` for fragments, binary and masked
    frames, payloads above `max_size`, and what is no frame at all.
    """
    available = len(received)
    if available < 2:
        if available and received[0] != _TEXT and received[0] not in _CONTROL:
            raise NotPlainError
        return None
    first, size = received[0], received[1]
    is_text = first == _TEXT
    if not is_text and (first not in _CONTROL or size > 125):
        raise NotPlainError
    begin = 2
    if size > 125:
        if size > 127:
            raise NotPlainError
        begin = 4 if size == 126 else 10
        if available < begin:
            return None
        size = int.from_bytes(received[2:begin], "big")
    if max_size is not None and size > max_size:
        raise NotPlainError
    end = begin + size
    return (is_text, begin, end) if available >= end else None
