# SPDX-License-Identifier: BSD-3-Clause
"""Plain frames against the general parser of `websockets`: what one writes, the other reads."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from stepwire.protocol.frames import (
    NotPlainError,
    apply_mask,
    client_frame,
    plain_frame,
    server_frame,
)

_SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]
_PING = b"\x89\x04ping"


def _from_server(text: bytes, **options: Any) -> bytes:
    return Frame(Opcode.TEXT, text, **options).serialize(mask=False)


def test_the_mask_of_websockets_is_where_it_was() -> None:
    assert apply_mask(b"\x01\x02\x03\x04\x05", b"\x01\x02\x03\x04") == b"\x00\x00\x00\x00\x04"


@pytest.mark.parametrize("size", _SIZES)
def test_the_general_parser_reads_a_request(size: int) -> None:
    server = ServerProtocol(state=OPEN, max_size=None)
    server.receive_data(client_frame(b"a" * size))
    (event,) = server.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, b"a" * size)


@pytest.mark.parametrize("size", _SIZES)
def test_the_general_parser_reads_a_reply(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=OPEN, max_size=None)
    client.receive_data(server_frame(b"a" * size))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, b"a" * size)


def test_each_request_has_a_mask_of_its_own() -> None:
    assert len({client_frame(b"same")[2:6] for _ in range(20)}) > 1


@pytest.mark.parametrize("size", _SIZES)
def test_a_reply_is_found_once_it_is_complete(size: int) -> None:
    frame = _from_server(b"a" * size)
    header = len(frame) - size
    assert plain_frame(frame, 0, None, masked=False) == (True, header, len(frame))
    assert plain_frame(frame + _PING, 0, None, masked=False) == (True, header, len(frame))
    for received in {0, 1, 2, header - 1, header, len(frame) - 1} - {len(frame)}:
        assert plain_frame(frame[:received], 0, None, masked=False) is None


def test_a_ping_is_plain_and_no_text() -> None:
    assert plain_frame(_PING, 0, None, masked=False) == (False, 2, len(_PING))
    assert plain_frame(_PING[:4], 0, None, masked=False) is None


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
        "not a frame",
        "above the limit",
        "far above the limit",
    ],
)
def test_everything_else_is_left_to_the_general_parser(received: bytes) -> None:
    with pytest.raises(NotPlainError):
        plain_frame(received, 0, 7, masked=False)


_LIMIT = 4096


@given(before=st.binary(max_size=20), payload=st.binary(max_size=300), opcode=st.integers(0, 15))
def test_a_request_is_found_once_it_is_complete(before: bytes, payload: bytes, opcode: int) -> None:
    head = bytes((0x80 | opcode, 0x80 | min(len(payload), 126)))
    head += len(payload).to_bytes(2, "big") if len(payload) > 125 else b""
    frame = head + bytes(4) + payload
    whole = bytearray(before + frame + b"more")
    is_control = opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG)
    if opcode != Opcode.TEXT and not (is_control and len(payload) <= 125):
        with pytest.raises(NotPlainError):
            plain_frame(whole, len(before), _LIMIT, masked=True)
        return
    begin, end = len(before) + len(head) + 4, len(before) + len(frame)
    found = plain_frame(whole, len(before), _LIMIT, masked=True)
    assert found == (opcode == Opcode.TEXT, begin, end)
    for missing in range(1, len(frame) + 1):
        assert plain_frame(whole[: end - missing], len(before), _LIMIT, masked=True) is None


def test_a_request_without_a_mask_is_left_to_the_general_parser() -> None:
    with pytest.raises(NotPlainError):
        plain_frame(b"\x81\x02Hi", 0, _LIMIT, masked=True)
