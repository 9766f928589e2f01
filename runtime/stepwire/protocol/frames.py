# SPDX-License-Identifier: BSD-3-Clause
"""Plain WebSocket frames (RFC 6455, section 5.2): the only ones that a step needs.

A request and its reply are each one whole text message in one frame. The general parser of
`websockets` reads any frame byte by byte; for plain frames that costs as much as everything else a
side does for a step. The callers leave all other frames to the general parser.
"""

import os
import struct
from collections import deque

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a build of `websockets` without its C extension
    from websockets.utils import apply_mask

__all__ = [
    "ALL",
    "PLAIN",
    "NotPlainError",
    "apply_mask",
    "client_frame",
    "plain_frame",
    "request_size",
    "server_frame",
    "server_header",
]

# First bytes of frames.
_TEXT = 0x81  # a whole text message
_CONTROL = frozenset({0x88, 0x89, 0x8A})  # close, ping, pong
PLAIN = _CONTROL | {_TEXT}
ALL = PLAIN | {0x82, 0x00, 0x01, 0x02, 0x80}  # also binary messages and fragments
_MASKED = 0x80  # bit of the second byte, set by clients
# The sizes that stand for a longer size after them: its length in bytes, and what reads it.
_LENGTHS = {126: (2, struct.Struct("!H").unpack_from), 127: (8, struct.Struct("!Q").unpack_from)}


class NotPlainError(Exception):
    """The next received frame is not plain."""


def plain_frame(
    received: bytes | bytearray,
    begin: int,
    max_size: int | None,
    masked: bool,
    accepted: frozenset[int] = PLAIN,
) -> tuple[bool, int, int] | None:
    """Whether the frame at `begin` is a whole text message, and the begin and end of its payload.

    Returns `None` while the frame is incomplete. `masked` says whether the sender has to mask, as
    clients have; the mask is then the four bytes before the payload. Raises `NotPlainError` for
    frames whose first byte is not in `accepted`, payloads above `max_size`, a mask that is missing
    or not allowed, and invalid frames.
    """
    available = len(received) - begin
    if available < 2:
        if available and received[begin] not in accepted:
            raise NotPlainError
        return None
    first, size = received[begin], received[begin + 1]
    payload = begin + 2
    if masked:
        size -= _MASKED
        payload = begin + 6
    is_text = first == _TEXT
    if not is_text and (first not in accepted or (size > 125 and first in _CONTROL)):
        raise NotPlainError
    if size < 0 or size > 125:
        if size not in _LENGTHS:
            raise NotPlainError
        length_bytes, unpack = _LENGTHS[size]
        if available < 2 + length_bytes:
            return None
        (size,) = unpack(received, begin + 2)
        payload += length_bytes
    if max_size is not None and size > max_size:
        raise NotPlainError
    end = payload + size
    return (is_text, payload, end) if end <= len(received) else None


def request_size(received: bytes | bytearray, begin: int) -> int:
    """Bytes of the payload of a client's frame; 0 while its header is incomplete."""
    if len(received) - begin < 14:
        return 0
    size = received[begin + 1] & 0x7F
    return int(_LENGTHS[size][1](received, begin + 2)[0]) if size in _LENGTHS else size


def server_header(size: int) -> bytes:
    """What a server sends before the payload of a whole text message."""
    return _SHORT(_TEXT, size) if size < 126 else _long_header(size, 0)


def server_frame(payload: bytes) -> bytes:
    """A whole text message from a server."""
    size = len(payload)
    return (_SHORT(_TEXT, size) if size < 126 else _long_header(size, 0)) + payload


def client_frame(payload: bytes) -> bytes:
    """A whole text message from a client, masked as the standard demands."""
    size = len(payload)
    try:  # a supply of random bytes saves most system calls
        mask = _masks.popleft()
    except IndexError:
        random = os.urandom(4096)
        mask = random[:4]
        _masks.extend(random[i : i + 4] for i in range(4, len(random), 4))
    header = _SHORT(_TEXT, _MASKED | size) if size < 126 else _long_header(size, _MASKED)
    return header + mask + apply_mask(payload, mask)


_SHORT = struct.Struct("!BB").pack


def _long_header(size: int, masked: int) -> bytes:
    if size < 65536:
        return struct.pack("!BBH", _TEXT, masked | 126, size)
    return struct.pack("!BBQ", _TEXT, masked | 127, size)


_masks: deque[bytes] = deque()
