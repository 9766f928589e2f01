# SPDX-License-Identifier: BSD-3-Clause
"""Plain frames against the general parser of `websockets`: what one makes, the other reads."""

import struct
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from stepwire.protocol.frames import NotPlainError, plain_frame, text_frame

_SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]
_PING = b"\x89\x04ping"


def _from_server(text: bytes, **options: Any) -> bytes:
    return Frame(Opcode.TEXT, text, **options).serialize(mask=False)


@pytest.mark.parametrize("size", _SIZES)
def test_the_general_parser_reads_a_request(size: int) -> None:
    server = ServerProtocol(state=OPEN, max_size=None)
    server.receive_data(text_frame(b"a" * size))
    (event,) = server.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, b"a" * size)


def test_each_request_has_a_mask_of_its_own() -> None:
    assert len({text_frame(b"same")[2:6] for _ in range(20)}) > 1


@pytest.mark.parametrize("size", _SIZES)
def test_a_reply_is_found_once_it_is_all_there(size: int) -> None:
    frame = _from_server(b"a" * size)
    header = len(frame) - size
    assert plain_frame(frame, None) == (True, header, len(frame))
    assert plain_frame(frame + _PING, None) == (True, header, len(frame))
    for received in {0, 1, 2, header - 1, header, len(frame) - 1} - {len(frame)}:
        assert plain_frame(frame[:received], None) is None


def test_a_ping_is_plain_and_no_text() -> None:
    assert plain_frame(_PING, None) == (False, 2, len(_PING))
    assert plain_frame(_PING[:4], None) is None


@pytest.mark.parametrize(
    "received",
    [
        b"\x82\x01a",
        b"\x01\x01a",
        b"\x80\x01a",
        b"\xc1\x01a",
        b"\x81\x81maska",
        b"\x81\xfe\x00\x80",
        b"\x89\x7e\x00\x7e",
        b"\x8b\x00",
        b"H",
        _from_server(b"too long"),
        struct.pack("!BBQ", 0x81, 127, 2**40),
    ],
    ids=[
        "binary",
        "fragment",
        "last fragment",
        "extension bit",
        "masked",
        "masked and long",
        "long ping",
        "reserved opcode",
        "no frame",
        "above the limit",
        "far above the limit",
    ],
)
def test_everything_else_is_for_the_general_parser(received: bytes) -> None:
    with pytest.raises(NotPlainError):
        plain_frame(received, 7)
