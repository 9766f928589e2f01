# SPDX-License-Identifier: BSD-3-Clause
"""The exchange as a state machine: no socket, and a clock that the test moves.

The other side is the server's half of `websockets`, which does no I/O either. Schedules say how
bytes are cut, when they arrive, and what goes wrong. Whatever happens, a call ends in time with its
own reply or with one of the client's errors, and the server's pings are answered.
"""

import math
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

import fault_proxy
from fault_proxy import FAULTS, LIMIT_MB, TIMEOUT_S, Fault, after_a_ping, in_two_pieces, twice
from notes_env.client import NotesEnv
from stepwire.client.errors import (
    ConnectFailedError,
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
)
from stepwire.client.exchange import Exchange
from stepwire.client.messages import Episode, read_result

_URL = "ws://server.example/ws"
_LIMIT = int(LIMIT_MB * 2**20)
_REPLY = (
    b'{"type":"observation","data":{"observation":{"text":"fault","length":5},'
    b'"reward":0.5,"done":false}}'
)


class Peer:
    """The server's end: what it received, and the bytes it sends."""

    def __init__(self) -> None:
        self._protocol = ServerProtocol()
        self.requests: list[bytes] = []
        self.pongs: list[bytes] = []

    def receive(self, data: bytes) -> bytes:
        """Take what the client sent; returns what the server sends by itself."""
        if data:
            self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
            elif not isinstance(event, Frame):
                pytest.fail(f"{event}")
            elif event.opcode is Opcode.TEXT:
                self.requests.append(bytes(event.data))
            elif event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
        return self.sent()

    def send(self, text: bytes) -> bytes:
        self._protocol.send_text(text)
        return self.sent()

    def ping(self, data: bytes) -> bytes:
        self._protocol.send_ping(data)
        return self.sent()

    def close(self, code: int) -> bytes:
        self._protocol.send_close(code)
        return self.sent()

    def sent(self) -> bytes:
        return b"".join(self._protocol.data_to_send())


def carry(exchange: Exchange, peer: Peer, now: float = 0.0) -> None:
    """Carry bytes both ways until both sides are silent."""
    while exchange.out:
        data, exchange.out = exchange.out, b""
        if answer := peer.receive(data):
            exchange.receive(answer, now)


def opened(
    peer: Peer, *, limit: int = _LIMIT, ping: tuple[float | None, float | None] = (None, None)
) -> Exchange:
    exchange = Exchange(_URL, limit, ping)
    exchange.open({}, 0.0, 10.0)
    exchange.start()
    carry(exchange, peer)
    assert not exchange.is_pending
    return exchange


def finish(exchange: Exchange, arriving: list[tuple[float, bytes | OSError]], now: float) -> bytes:
    """Let bytes arrive at their times; returns the reply, or raises what a driver would."""
    events = iter([*arriving, (math.inf, b"")])
    due, event = next(events)
    while exchange.is_pending:
        exchange.out = b""
        now = min(due, exchange.wake_at)
        if due > now:
            exchange.tick(now)
            continue
        if isinstance(event, OSError):
            exchange.fail(event)
        exchange.receive(event, now)
        due, event = next(events)
    return exchange.take()


# The faults of the table, replayed.


class _Recorder:
    """What a fault does to a socket, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.events: list[tuple[float, bytes | OSError]] = []
        # Not `time.sleep` itself: other threads of this process use it.
        monkeypatch.setattr(fault_proxy, "time", SimpleNamespace(sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def sendall(self, data: bytes) -> None:
        self.events.append((self.now, bytes(data)))

    def recv(self, *_: Any) -> bytes:
        return b""

    def shutdown(self, how: int) -> None:
        self.events.append((self.now, b""))

    def setsockopt(self, *_: Any) -> None:
        self.events.clear()

    def close(self) -> None:
        self.events.append((self.now, ConnectionResetError(104, "Connection reset by peer")))


def _replay(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> tuple[Exchange, Any]:
    peer = Peer()
    exchange = opened(peer, limit=_LIMIT)
    exchange.ask(b"{}", 0.0, TIMEOUT_S)
    peer.receive(exchange.out)
    wire: Any = _Recorder(monkeypatch)
    fault(wire, peer.send(_REPLY))
    reply = finish(exchange, wire.events, 0.0)
    return exchange, read_result(NotesEnv(_URL)._parse_result, _URL, Episode(), reply)


@pytest.mark.parametrize(
    ("fault", "error", "text"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS]
)
def test_each_fault_raises_its_own_error(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, error: type[EnvClientError], text: str
) -> None:
    with pytest.raises(error, match=text):
        _replay(fault, monkeypatch)


@pytest.mark.parametrize("fault", [after_a_ping, in_two_pieces, twice])
def test_what_looks_like_a_fault_but_is_not(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    exchange, result = _replay(fault, monkeypatch)
    assert result.observation.text == "fault"
    if fault is twice:
        with pytest.raises(ProtocolViolationError, match="belongs to no request"):
            exchange.ask(b"{}", 1.0, TIMEOUT_S)


# Times.


def test_a_ping_goes_out_after_a_silence_and_must_be_answered() -> None:
    peer = Peer()
    exchange = opened(peer, ping=(20.0, 5.0))
    exchange.ask(b"{}", 0.0, 60.0)
    peer.receive(exchange.out)
    exchange.out = b""
    assert exchange.wake_at == 20.0
    exchange.tick(20.0)
    pong = peer.receive(exchange.out)
    assert pong
    exchange.receive(pong, 21.0)
    assert exchange.wake_at == 41.0
    exchange.tick(41.0)
    assert exchange.wake_at == 46.0
    with pytest.raises(SessionLostError, match=r"within 5 s.*`websocket_ping_timeout_s=None`"):
        exchange.tick(46.0)


def test_without_a_ping_timeout_pings_go_out_and_need_no_answer() -> None:
    exchange = opened(Peer(), ping=(20.0, None))
    exchange.ask(b"{}", 0.0, 60.0)
    for _ in range(2):
        exchange.tick(exchange.wake_at)
    assert exchange.wake_at == 60.0
    with pytest.raises(ReplyTimeoutError, match="within 60 s"):
        exchange.tick(60.0)


def test_an_early_or_repeated_tick_changes_nothing() -> None:
    exchange = opened(Peer(), ping=(20.0, 5.0))
    exchange.ask(b"{}", 0.0, 60.0)
    before = exchange.out
    for now in (0.0, 1.0, 1.0, 19.9):
        exchange.tick(now)
    assert (exchange.out, exchange.wake_at) == (before, 20.0)


def test_an_opening_that_takes_too_long() -> None:
    exchange = Exchange(_URL, _LIMIT, (1.0, 1.0))  # pings are for open WebSockets
    exchange.open({}, 100.0, 10.0)
    exchange.start()
    exchange.out = b""
    exchange.receive(b"HTTP/1.1 101 Switch", 105.0)
    exchange.tick(109.0)
    assert (exchange.out, exchange.wake_at) == (b"", 110.0)
    with pytest.raises(ConnectFailedError, match="no answer within 10 s"):
        exchange.tick(110.0)


def test_closing_takes_the_time_it_is_given_and_no_longer() -> None:
    peer = Peer()
    exchange = opened(peer)
    exchange.close(b"bye", 0.0, 2.0)
    peer.receive(exchange.out)
    assert peer.requests == [b"bye"]
    exchange.receive(peer.send(b"late"), 1.0)
    assert exchange.is_pending
    exchange.tick(2.0)
    assert not exchange.is_pending

    exchange = opened(peer := Peer())
    exchange.close(b"bye", 0.0, 2.0)
    exchange.receive(peer.close(1000), 1.0)
    assert not exchange.is_pending


# Openings: cut anywhere, through TLS and proxies.


class _TlsPeer:
    """A peer behind as many proxies and layers of TLS as the test has."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def receive(self, data: bytes, inside: Callable[[bytes], bytes]) -> bytes:
        self._in.write(data)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            while plain := self._tls.read(65536):
                if answer := inside(plain):
                    self._tls.write(answer)
        return self._out.read()


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("server.example", "proxy.example").configure_cert(made)
    return made


authority = trustme.CA()


class _Proxy:
    """Answers `CONNECT` and then passes on what it gets."""

    def __init__(self, then: Callable[[bytes], bytes]) -> None:
        self.head = b""
        self._then = then

    def receive(self, data: bytes) -> bytes:
        if b"\r\n\r\n" in self.head:
            return self._then(data)
        self.head += data
        return b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n" if b"\r\n\r\n" in self.head else b""


@pytest.mark.parametrize("proxy", ["", "http://proxy.example:3128", "https://me:pw@proxy.example"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_an_opening_that_is_cut_anywhere(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    context: ssl.SSLContext,
    scheme: str,
    proxy: str,
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "https_proxy", "HTTPS_PROXY", "ws_proxy"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("https_proxy", proxy)
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    for seed in range(20):
        cut = random.Random(seed)
        peer = Peer()
        receive: Callable[[bytes], bytes] = peer.receive
        if scheme == "wss":
            tls = _TlsPeer(context)
            receive = lambda data, tls=tls, then=receive: tls.receive(data, then)  # type: ignore[misc] # noqa: E731
        if proxy:
            receive = _Proxy(receive).receive
        if proxy.startswith("https"):
            outer = _TlsPeer(context)
            receive = lambda data, tls=outer, then=receive: tls.receive(data, then)  # type: ignore[misc] # noqa: E731
        exchange = Exchange(f"{scheme}://server.example/ws", _LIMIT, (None, None))
        route = exchange.open({"X-Team": "a"}, 0.0, 10.0)
        assert route.host == ("proxy.example" if proxy else "server.example")
        exchange.start()
        _carry_in_pieces(exchange, receive, cut)
        exchange.ask(b"one", 1.0, 10.0)
        _carry_in_pieces(exchange, receive, cut)
        assert peer.requests == [b"one"]


def _carry_in_pieces(
    exchange: Exchange, receive: Callable[[bytes], bytes], cut: random.Random
) -> None:
    while exchange.out:
        sent = cut.randint(1, len(exchange.out))
        data, exchange.out = exchange.out[:sent], exchange.out[sent:]
        answer = receive(data)
        while answer:
            size = cut.randint(1, len(answer))
            exchange.receive(answer[:size], 0.5)
            answer = answer[size:]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy proxy.example .*407"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "proxy proxy.example answered 'SSH"),
        (b"x" * 70_000, "the proxy is too long"),
        (b"", "refused|HTTP"),
    ],
)
def test_a_proxy_that_does_not_lead_to_the_server(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, text: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:s3cret@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    exchange = Exchange(_URL, _LIMIT, (None, None))
    exchange.open({}, 0.0, 10.0)
    exchange.start()
    assert exchange.out.startswith(b"CONNECT server.example:80 HTTP/1.1\r\n")
    with pytest.raises(ConnectFailedError, match=text) as caught:
        exchange.receive(answer, 1.0)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:s3cret@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    exchange = Exchange(_URL, _LIMIT, (None, None))
    exchange.open({}, 0.0, 10.0)
    text = r"to ws://server\.example/ws through the proxy proxy\.example:3128: refused\."
    with pytest.raises(ConnectFailedError, match=text):
        exchange.fail(ConnectionRefusedError("refused"))


@pytest.mark.parametrize("rest", ["℀@proxy", "@[::1", "@proxy:99999", "/@proxy", "#@proxy", "@p:x"])
def test_the_address_of_a_proxy_may_be_anything(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:s3cret{rest}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConnectFailedError, match="has an address that is not valid") as caught:
        Exchange(_URL, _LIMIT, (None, None)).open({}, 0.0, 10.0)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["h..x", ".x", "x" * 64])
def test_a_name_that_no_certificate_can_have(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    exchange = Exchange(f"wss://{host}/ws", _LIMIT, (None, None))
    exchange.open({}, 0.0, 10.0)
    exchange.start()
    with pytest.raises(ConnectFailedError, match=rf"to wss://{host}/ws through the proxy"):
        exchange.receive(b"HTTP/1.1 200 OK\r\n\r\n", 1.0)


def test_a_socks_proxy_is_named() -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("https_proxy", "socks5://127.0.0.1:1080")
        environment.setenv("no_proxy", "")
        exchange = Exchange("wss://server.example/ws", _LIMIT, (None, None))
        with pytest.raises(ConnectFailedError, match=r"kind 'socks5'.*`https_proxy`"):
            exchange.open({}, 0.0, 10.0)


# Random schedules.


def _schedule(seed: int) -> None:
    """A connection with some calls, during which anything may happen at any time."""
    dice = random.Random(seed)
    peer = Peer()
    interval = dice.choice([None, 0.5, 2.0])
    exchange = opened(peer, limit=_LIMIT, ping=(interval, dice.choice([None, 1.0])))
    now = 0.0
    pings = 0
    wire = bytearray()  # on its way to the client
    has_ended = False
    for number in range(dice.randint(1, 4)):
        timeout = dice.choice([0.5, 3.0, 30.0])
        try:
            exchange.ask(b"request %d" % number, now, timeout)
        except EnvClientError:
            return  # what arrived before the request ended the connection
        deadline = now + timeout
        try:
            while exchange.is_pending:
                assert exchange.wake_at <= deadline
                now = min(exchange.wake_at, now + dice.expovariate(2))
                before = len(peer.requests)
                if exchange.out:
                    size = dice.randint(1, len(exchange.out))
                    wire += peer.receive(exchange.out[:size])
                    exchange.out = exchange.out[size:]
                match dice.randint(0, 11):
                    case 0 if not has_ended:
                        wire += peer.ping(b"%d" % pings)
                        pings += 1
                    case 1 if dice.random() < 0.3 and not has_ended:
                        wire += peer.close(dice.choice([1000, 1001, 1011, 1012, 4000]))
                        has_ended = True
                    case 2 if dice.random() < 0.1:
                        wire.clear()  # lost on the way
                        has_ended = True
                        exchange.receive(b"", now)
                    case 3 if dice.random() < 0.1:
                        wire += dice.randbytes(dice.randint(1, 20))
                        has_ended = True
                    case 4 if dice.random() < 0.05:
                        exchange.fail(ConnectionResetError(104, "Connection reset by peer"))
                    case _:
                        pass
                if len(peer.requests) > before and not has_ended:
                    text = b"reply %d" % number * dice.choice([1, 1, 1, 50])
                    if dice.random() < 0.2:  # in fragments
                        for frame in (
                            Frame(Opcode.TEXT, text[:3], fin=False),
                            Frame(Opcode.CONT, text[3:], fin=True),
                        ):
                            wire += frame.serialize(mask=False)
                    else:
                        wire += peer.send(text)
                if wire and dice.random() < 0.7:
                    size = dice.randint(1, len(wire))
                    data = bytes(wire[:size])
                    del wire[:size]
                    exchange.receive(data, now)
                if exchange.is_pending:
                    was = exchange.wake_at
                    exchange.tick(now)
                    assert exchange.wake_at > now or was > now
        except EnvClientError:
            assert now <= deadline
            return
        reply = exchange.take()
        assert reply.startswith(b"reply %d" % number) or has_ended
        if not has_ended:
            assert peer.requests == [b"request %d" % n for n in range(number + 1)]
            if wire:
                exchange.receive(bytes(wire), now)
                wire.clear()
            peer.receive(exchange.out)
            exchange.out = b""
            # Of pings that arrive together, only the last is answered.
            assert sorted(set(peer.pongs), key=int) == peer.pongs
            assert peer.pongs[-1:] == [b"%d" % (pings - 1)] * bool(pings)


def _hostile_schedule(seed: int) -> None:
    """A server that sends anything at any time, and does not always read."""
    dice = random.Random(seed)
    limit = 1000
    exchange = opened(Peer(), limit=limit, ping=(dice.choice([None, 0.5]), None))
    frames = [
        Frame(Opcode.PING, b"x" * 125).serialize(mask=False),
        Frame(Opcode.PONG, b"").serialize(mask=False),
        Frame(Opcode.TEXT, b"text").serialize(mask=False),
        Frame(Opcode.TEXT, b"x" * 300, fin=False).serialize(mask=False),
        Frame(Opcode.CONT, b"x" * 300, fin=False).serialize(mask=False),
        Frame(Opcode.CONT, b"").serialize(mask=False),
        Frame(Opcode.TEXT, b"x" * limit).serialize(mask=False)[:-1],
        b"\x81\x7f" + b"\x7f" * 8,
        b"\xff",
    ]
    weights = [9, 9, *dice.choices([0, 0, 0.1, 1], k=7)]

    def sent() -> bytes:
        return b"".join(dice.choices(frames, weights, k=50))[:4096]

    now = 0.0
    for _ in range(3):
        with suppress(EnvClientError):
            for _ in range(dice.randint(0, 5)):
                if not exchange.receive_unrequested(sent(), now):
                    break
        deadline = now + 3.0
        try:
            exchange.ask(b"request", now, 3.0)
            while exchange.is_pending:
                now += dice.expovariate(20)
                exchange.receive(sent(), now)
                assert not exchange.is_pending or now < deadline
                if dice.random() < 0.5:
                    exchange.tick(now)
                if dice.random() < 0.2:
                    exchange.out = b""
                assert len(exchange.out) < 100_000
            exchange.take()
        except EnvClientError:
            return


def test_random_schedules_of_a_hostile_server() -> None:
    for seed in range(100):
        _hostile_schedule(seed)


def test_random_schedules() -> None:
    for seed in range(500):
        _schedule(seed)


@pytest.mark.slow
def test_100_000_random_schedules() -> None:
    for seed in range(500, 100_500):
        _schedule(seed)
    for seed in range(100, 5_100):
        _hostile_schedule(seed)
