# SPDX-License-Identifier: BSD-3-Clause
"""Frames in pieces of any size: our protocol and uvicorn's give the same answers.

The transport is a stand-in, because a real one gives a test no control over the pieces.
"""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from stepwire.server import memory
from stepwire.server.uvicorn_host.websocket_limits import BoundedWebSocketProtocol
from stepwire.server.uvicorn_host.websocket_protocol import WebSocketProtocol

_LIMIT = 4096
_LARGE = 20_000
_PROTOCOLS = {
    "ours": WebSocketProtocol,
    "uvicorn's": WebSocketsSansIOProtocol,
    "bounded": BoundedWebSocketProtocol,
}


class _StandInTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_paused = False
        self.is_closed = False

    @property
    def takes_data(self) -> bool:
        return self.is_closed or not self.is_paused

    def write(self, data: Any) -> None:
        if not self.is_closed:
            self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It keeps no bytes."""

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class _Exchange:
    """A client and a server in one process: an application that sends each message back."""

    def __init__(self, protocol_cls: Any, limit: int = _LIMIT) -> None:
        config = uvicorn.Config(
            self._echo,
            interface="asgi3",
            log_level="critical",
            ws_max_size=limit,
            ws_per_message_deflate=False,
        )
        config.load()
        self.most_waiting = 0
        self.ended: dict[str, Any] | None = None
        self.may_take = asyncio.Event()
        self.may_take.set()
        self.transport = _StandInTransport()
        self.protocol = protocol_cls(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.transport)
        self._client = ClientProtocol(parse_uri("ws://127.0.0.1/ws"), max_size=None)
        self._client.send_request(self._client.connect())

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") == "bye":
                await send({"type": "websocket.close", "code": 1000})
                return
            content = {key: event[key] for key in ("text", "bytes") if event.get(key) is not None}
            await send({"type": "websocket.send", **content})
            await self.may_take.wait()
        self.ended = event

    async def begin(self) -> None:
        self.protocol.data_received(b"".join(self._client.data_to_send()))
        await self._turn_until(lambda: bool(self.transport.written))
        (response,) = self.received()
        assert response.status_code == 101

    async def send(self, data: bytes, size: int = _LIMIT, turns: int = 0) -> None:
        """Deliver `data` in pieces of `size` bytes, the event loop turning that often after each.

        As a real transport, it delivers nothing while reading is paused.
        """
        for begin in range(0, len(data), size):
            await self._turn_until(lambda: self.transport.takes_data)
            if self.transport.is_closed:
                return
            self.protocol.data_received(data[begin : begin + size])
            self.most_waiting = max(self.most_waiting, len(self.waiting()))
            for _ in range(turns):
                await asyncio.sleep(0)

    def waiting(self) -> Any:
        queue = self.protocol.queue
        return getattr(queue, "_queue", queue)

    async def settle(self) -> None:
        """Let the application take and answer all that waits."""
        for _ in range(2):
            await self._turn_until(lambda: not self.waiting())
            for _ in range(3):
                await asyncio.sleep(0)

    async def _turn_until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0)
        pytest.fail("the condition does not come true")

    def received(self) -> list[Any]:
        """What the server has written since the last call, as a client reads it."""
        if written := bytes(self.transport.written):
            self.transport.written.clear()
            self._client.receive_data(written)
            assert self._client.parser_exc is None
        return self._client.events_received()


def _run(protocol: str, scenario: Callable[[_Exchange], Any], limit: int = _LIMIT) -> Any:
    async def run() -> Any:
        exchange = _Exchange(_PROTOCOLS[protocol], limit)
        await exchange.begin()
        result = await scenario(exchange)
        exchange.protocol.connection_lost(None)
        return result

    return asyncio.run(run())


def _frame(opcode: int, data: bytes, fin: bool = True, flags: int = 0) -> bytes:
    """A client's frame, possibly an invalid one."""
    size, mask = len(data), b"\x01\x02\x03\x04"
    head = bytes((fin << 7 | flags | opcode, 0x80 | min(126, size)))
    if size > 125:
        head += size.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


_PING = st.binary(max_size=125).map(lambda payload: (Opcode.PING, payload))


@st.composite
def _message(draw: Any) -> list[tuple[int, bytes, bool]]:
    """A message as the frames it is sent in, pings between them."""
    is_text = draw(st.booleans())
    # 125 below the limit: `websockets` also counts the payload of a ping between fragments.
    size = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 1000, _LIMIT - 125]))
    if is_text:
        data = draw(st.text(max_size=60)).encode() * draw(st.sampled_from([1, 1, 1, 8]))
    else:
        data = b"\x00\xff" * (draw(size) // 2)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    edges = [0, *cuts, len(data)]
    frames = []
    for index, (begin, end) in enumerate(pairwise(edges)):
        first = Opcode.TEXT if is_text else Opcode.BINARY
        opcode = first if index == 0 else Opcode.CONT
        frames.append((opcode, data[begin:end], index == len(cuts)))
        if draw(st.booleans()):
            frames.append((*draw(_PING), True))
    return frames


@pytest.mark.parametrize("protocol", _PROTOCOLS)
@given(
    messages=st.lists(_message(), max_size=12),
    size=st.one_of(st.integers(1, 12), st.sampled_from([100, _LIMIT, 10 * _LIMIT])),
    turns=st.integers(0, 3),
)
def test_each_message_and_ping_is_answered_in_order_in_pieces_of_any_size(
    protocol: str, messages: list[list[tuple[int, bytes, bool]]], size: int, turns: int
) -> None:
    frames = [frame for message in messages for frame in message]

    async def scenario(exchange: _Exchange) -> list[Any]:
        stream = b"".join(_frame(opcode, data, fin) for opcode, data, fin in frames)
        await exchange.send(stream, size, turns)
        await exchange.settle()
        answers = exchange.received()
        assert not exchange.transport.is_closed
        assert not exchange.transport.is_paused
        await exchange.send(_frame(Opcode.CLOSE, b"\x03\xe9"), size, turns)
        await exchange.settle()
        (closed,) = exchange.received()
        assert (closed.opcode, bytes(closed.data[:2])) == (Opcode.CLOSE, b"\x03\xe9")
        assert exchange.transport.is_closed
        assert exchange.ended is not None
        assert exchange.ended["code"] == 1001
        return answers

    answers = _run(protocol, scenario)
    pongs = [bytes(frame.data) for frame in answers if frame.opcode is Opcode.PONG]
    assert pongs == [data for opcode, data, _ in frames if opcode is Opcode.PING]
    sent = []
    for message in messages:
        parts = [data for opcode, data, _ in message if opcode is not Opcode.PING]
        sent.append((message[0][0], b"".join(parts)))
    echoes = [(f.opcode, bytes(f.data)) for f in answers if f.opcode is not Opcode.PONG]
    assert echoes == sent


_BROKEN = {
    "without a mask": (1002, b"\x81\x02Hi"),
    "a reserved bit": (1002, _frame(Opcode.TEXT, b"Hi", flags=0x40)),
    "an unknown opcode": (1002, _frame(0x3, b"")),
    "an unknown control opcode": (1002, _frame(0xB, b"")),
    "a long ping": (1002, _frame(Opcode.PING, b"x" * 126)),
    "a ping in fragments": (1002, _frame(Opcode.PING, b"", fin=False)),
    "a continuation of nothing": (1002, _frame(Opcode.CONT, b"Hi")),
    "a message inside another": (
        1002,
        _frame(Opcode.TEXT, b"H", fin=False) + _frame(Opcode.TEXT, b"i"),
    ),
    "invalid UTF-8": (1007, _frame(Opcode.TEXT, b"\xff\xfe")),
    "a lone surrogate": (1007, _frame(Opcode.TEXT, b"\xed\xa0\x80")),
    "too large": (1009, _frame(Opcode.TEXT, b"x" * (_LIMIT + 1))),
    "too large in 64 bits": (1009, bytes((0x81, 0xFF)) + (1 << 40).to_bytes(8, "big") + bytes(4)),
    "too large in fragments": (
        1009,
        _frame(Opcode.TEXT, b"x" * _LIMIT, fin=False) + _frame(Opcode.CONT, b"x"),
    ),
    "an invalid close code": (1002, _frame(Opcode.CLOSE, b"\x00\x01")),
}


@pytest.mark.parametrize("size", [1, 7, 10 * _LIMIT])
@pytest.mark.parametrize("protocol", _PROTOCOLS)
@pytest.mark.parametrize("broken", _BROKEN)
def test_a_broken_frame_ends_the_connection_with_its_code(
    protocol: str, broken: str, size: int
) -> None:
    code, frame = _BROKEN[broken]

    async def scenario(exchange: _Exchange) -> list[Any]:
        await exchange.send(_frame(Opcode.TEXT, b"before"), size)
        await exchange.settle()
        assert [bytes(answer.data) for answer in exchange.received()] == [b"before"]
        await exchange.send(frame + _frame(Opcode.TEXT, b"after"), size)
        await exchange.settle()
        assert exchange.transport.is_closed
        assert exchange.ended is not None
        return exchange.received()

    closed = _run(protocol, scenario)[0]
    assert closed.opcode is Opcode.CLOSE
    assert int.from_bytes(closed.data[:2], "big") == code


@given(data=st.binary(max_size=300), size=st.integers(1, 40))
def test_both_protocols_answer_any_bytes_in_the_same_way(data: bytes, size: int) -> None:
    async def scenario(exchange: _Exchange) -> Any:
        await exchange.send(data, size, turns=3)
        await exchange.settle()
        answers = [(frame.opcode, bytes(frame.data)) for frame in exchange.received()]
        return answers, exchange.transport.is_closed

    assert _run("ours", scenario) == _run("uvicorn's", scenario)


def test_reading_pauses_while_the_application_takes_no_messages() -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        exchange.may_take.clear()
        await exchange.send(b"".join(_frame(Opcode.TEXT, b"%d" % n) for n in range(200)), 10_000)
        assert exchange.transport.is_paused
        assert exchange.most_waiting <= 8
        exchange.may_take.set()
        for _ in range(200):
            await exchange.settle()
        return exchange.received()

    assert [int(answer.data) for answer in _run("ours", scenario)] == list(range(200))


def test_after_its_close_the_application_gets_nothing_more() -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        messages = [b"1", b"bye", *(b"late" for _ in range(20))]
        stream = b"".join(_frame(Opcode.TEXT, message) for message in messages)
        await exchange.send(stream + _frame(Opcode.CLOSE, b"\x03\xe8"), 10_000)
        for _ in range(20):
            await asyncio.sleep(0)
        assert exchange.transport.is_closed
        return exchange.received()

    echo, closed = _run("ours", scenario)
    assert (echo.opcode, bytes(echo.data)) == (Opcode.TEXT, b"1")
    assert (closed.opcode, bytes(closed.data[:2])) == (Opcode.CLOSE, b"\x03\xe8")


def test_only_the_latest_ping_of_a_client_that_reads_nothing_is_answered() -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        exchange.protocol.pause_writing()
        await exchange.send(b"".join(_frame(Opcode.PING, b"%d" % n) for n in range(100)), turns=3)
        assert exchange.received() == []
        exchange.protocol.resume_writing()
        return exchange.received()

    assert [bytes(pong.data) for pong in _run("ours", scenario)] == [b"99"]


_EMPTY = {
    "pongs": _frame(Opcode.PONG, b""),
    "pings": _frame(Opcode.PING, b""),
    "fragments": _frame(Opcode.CONT, b"", fin=False),
}


@pytest.mark.parametrize("protocol", ["ours", "bounded"])
@pytest.mark.parametrize("empty", _EMPTY)
def test_after_many_frames_without_content_nothing_is_read_for_a_while(
    protocol: str, empty: str
) -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        begin = _frame(Opcode.TEXT, b"be", fin=False) if empty == "fragments" else b""
        end = _frame(Opcode.CONT, b"fore") if begin else _frame(Opcode.TEXT, b"before")
        await exchange.send(begin + _EMPTY[empty] * 900 + end, turns=20)
        await exchange.settle()
        first = [bytes(f.data) for f in exchange.received() if f.opcode is Opcode.TEXT]
        begin = begin and _frame(Opcode.TEXT, b"", fin=False)
        exchange.protocol.data_received(begin + _EMPTY[empty] * 5000)
        for _ in range(100):
            await asyncio.sleep(0)
        assert exchange.transport.is_paused
        assert not exchange.transport.is_closed
        return first

    assert _run(protocol, scenario) == [b"before"]


def test_others_have_their_turn_between_the_frames_of_one_client() -> None:
    async def scenario(exchange: _Exchange) -> int:
        exchange.protocol.data_received(_frame(Opcode.PONG, b"") * 900)
        turns = 0
        while exchange.transport.is_paused:
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert _run("ours", scenario) >= 900 // 64


@pytest.mark.parametrize("protocol", ["ours", "bounded"])
def test_a_client_whose_pong_may_wait_behind_its_messages_is_alive(protocol: str) -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        exchange.may_take.clear()
        await exchange.send(b"".join(_frame(Opcode.TEXT, b"%d" % n) for n in range(9)), 10_000)
        assert exchange.transport.is_paused
        exchange.protocol.keepalive_timeout()
        assert not exchange.transport.is_closed
        exchange.protocol.pause_writing()  # it reads no replies either
        exchange.protocol._reading_since = 0.0
        exchange.protocol.ping_timeout = 0.0
        exchange.protocol.keepalive_timeout()
        assert exchange.transport.is_closed
        return exchange.received()

    assert _run(protocol, scenario)[-1].opcode is Opcode.CLOSE


def test_nothing_is_written_between_the_pieces_of_a_slow_frame() -> None:
    async def scenario(exchange: _Exchange) -> list[Any]:
        await exchange.send(_frame(Opcode.TEXT, b"before"))
        await exchange.settle()
        slow = asyncio.create_task(exchange.protocol.write_slowly(b"slow" * 100, 0.05))
        await asyncio.sleep(0)
        await exchange.send(_frame(Opcode.PING, b"p") + _frame(Opcode.TEXT, b"after"))
        exchange.protocol.send_keepalive_ping()
        await slow
        await exchange.settle()
        return exchange.received()

    received = [(frame.opcode, bytes(frame.data)) for frame in _run("ours", scenario)]
    assert received[:2] == [(Opcode.TEXT, b"before"), (Opcode.TEXT, b"slow" * 100)]
    assert sorted(received[2:]) == [(Opcode.TEXT, b"after"), (Opcode.PONG, b"p")]


def test_a_large_message_waits_for_memory_and_gives_it_back() -> None:
    text = b"x" * (_LARGE + 1)

    async def scenario(exchange: _Exchange) -> list[Any]:
        whole = _frame(Opcode.TEXT, text)
        assert memory.RECEIVED.take(memory.RECEIVED.limit)
        exchange.protocol.data_received(whole[:20_000])
        assert exchange.transport.is_paused
        memory.RECEIVED.give_back(memory.RECEIVED.limit)
        await asyncio.sleep(0.1)
        assert not exchange.transport.is_paused
        exchange.protocol.data_received(whole[20_000:])
        for _ in range(5):
            await asyncio.sleep(0)
        assert memory.RECEIVED.take(memory.RECEIVED.limit)  # all of it is free again
        memory.RECEIVED.give_back(memory.RECEIVED.limit)
        return exchange.received()

    assert [bytes(echo.data) for echo in _run("ours", scenario, limit=1 << 20)] == [text]
