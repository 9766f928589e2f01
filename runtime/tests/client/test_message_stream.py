# SPDX-License-Identifier: BSD-3-Clause
"""The stream of messages, beside the parser of `websockets`, and how much of it is kept."""

import random

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from stepwire.client.message_stream import MessageStream

_LIMIT = 200
_URI = parse_uri("ws://server.example/ws")
_TEXT, _CONT, _BINARY = Opcode.TEXT, Opcode.CONT, Opcode.BINARY


def _protocol() -> ClientProtocol:
    return ClientProtocol(_URI, state=State.OPEN, max_size=_LIMIT)


def _stream() -> MessageStream:
    return MessageStream(_protocol(), _LIMIT)


def _random_frame(dice: random.Random) -> bytes:
    size = dice.choice([0, 1, 5, 60, 125, 126, 199, 200, 201])
    data = dice.randbytes(size)
    match dice.randint(0, 19):
        case 0 | 1 | 2:
            return Frame(Opcode.PING, b"").serialize(mask=False)
        case 3:
            return Frame(Opcode.PONG, b"").serialize(mask=False)
        case 4 if dice.random() < 0.5:
            return Frame(Opcode.CLOSE, b"\x03\xe8bye").serialize(mask=False)
        case 5 if dice.random() < 0.5:
            return bytes([dice.choice([0x83, 0x91, 0xC1, 0x0B, 0x7F]), 0])  # no frame
        case 6 | 7 | 8 | 9:
            return Frame(_CONT, data, fin=dice.random() < 0.5).serialize(mask=False)
        case 10:
            return Frame(_TEXT, data).serialize(mask=dice.random() < 0.3)
        case 11 | 12:
            return Frame(_BINARY, data, fin=dice.random() < 0.5).serialize(mask=False)
        case _:
            return Frame(_TEXT, data, fin=dice.random() < 0.5).serialize(mask=False)


class _Reference:
    """Messages as `websockets` parses them."""

    def __init__(self) -> None:
        self.protocol = _protocol()
        self.messages: list[bytes] = []
        self._parts = b""

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (_TEXT, _CONT, _BINARY):
                self._parts += event.data
                if event.fin:
                    self.messages.append(self._parts)
                    self._parts = b""


@pytest.mark.parametrize("seed", range(4))
def test_it_parses_what_websockets_does(seed: int) -> None:
    for number in range(500):
        dice = random.Random(seed * 500 + number)
        stream, reference = _stream(), _Reference()
        messages: list[bytes] = []
        for _ in range(dice.randint(1, 12)):
            frame = _random_frame(dice)
            while frame:
                size = dice.randint(1, len(frame))
                stream.feed(frame[:size])
                reference.feed(frame[:size])
                frame = frame[size:]
                messages += stream.messages
                stream.messages.clear()
        assert messages == reference.messages
        assert stream.has_ended is (reference.protocol.state is not State.OPEN)


@pytest.mark.parametrize(
    "flood",
    [
        Frame(_TEXT, b"text"),
        Frame(Opcode.PING, b"x" * 125),
        Frame(Opcode.PONG, b""),
        Frame(_TEXT, b"", fin=False),
        Frame(_CONT, b"", fin=False),
    ],
    ids=lambda frame: f"{frame.opcode.name.lower()} of {len(frame.data)}",
)
def test_a_flood_is_not_kept(flood: Frame) -> None:
    stream = _stream()
    if flood.opcode is _CONT:
        stream.feed(Frame(_TEXT, b"", fin=False).serialize(mask=False))
    data = flood.serialize(mask=False) * 1000
    for _ in range(10):
        stream.feed(data)
        answer = stream.outgoing()
        assert len(answer) <= 131  # to the last ping
    assert len(stream.messages) <= 2


def test_websockets_counts_pings_between_fragments_as_part_of_the_message() -> None:
    data = Frame(_TEXT, b"x" * 150, fin=False).serialize(mask=False)
    data += Frame(Opcode.PING, b"x" * 100).serialize(mask=False)
    data += Frame(_CONT, b"").serialize(mask=False)
    stream, reference = _stream(), _Reference()
    stream.feed(data)
    assert [*stream.messages] == [b"x" * 150]
    reference.feed(data)
    assert reference.protocol.close_sent is not None
    assert reference.protocol.close_sent.code == 1009


def test_messages_take_no_more_than_their_limit() -> None:
    stream = _stream()
    stream.feed(b"\x01\x7e\x00\x64" + b"x" * 100)
    assert stream.is_in_message
    stream.feed(b"\x00\x7e\x00\x64" + b"x" * 100)
    assert not stream.has_ended
    stream.feed(b"\x00\x01x")
    assert stream.has_ended
    assert stream.protocol.close_sent is not None
    assert stream.protocol.close_sent.code == 1009


@pytest.mark.parametrize("size", [*range(140), 65534, 65535, 65536, 65537])
def test_a_frame_that_arrives_whole_is_as_one_in_parts(size: int) -> None:
    frame = Frame(_TEXT, b"x" * size).serialize(mask=False)
    for data in (frame, frame[:-1], frame + b"\x81", frame + b"\x89\x00", frame + frame):
        for limit in (size, max(size - 1, 0)):
            whole, parts = (MessageStream(_protocol(), limit) for _ in range(2))
            whole.feed(data)
            parts.feed(data[:1])
            if rest := data[1:]:
                parts.feed(rest)
            assert (whole.messages, whole.is_in_message) == (parts.messages, parts.is_in_message)
            assert whole.has_ended == parts.has_ended
