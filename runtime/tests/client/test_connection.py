# SPDX-License-Identifier: BSD-3-Clause
"""What a client makes of a broken line. Between it and a real server sits a proxy that breaks one
reply in a given way; whatever it does, the client says so within its timeout, takes no other
call's reply for its own, and starts no new episode by itself.
"""

import asyncio
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import (
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
)

_TIMEOUT_S = 0.4
_LIMIT_MB = 0.01

Fault = Callable[[socket.socket, bytes], Any]


def _text_frame(text: str) -> bytes:
    return struct.pack("!BB", 0x81, len(text)) + text.encode()


def _silence(client: socket.socket, reply: bytes) -> None:
    """The reply is lost, or the other end is half-open."""


def _late(client: socket.socket, reply: bytes) -> None:
    time.sleep(_TIMEOUT_S * 1.5)
    with suppress(OSError):
        client.sendall(reply)


def _slow_drip(client: socket.socket, reply: bytes) -> None:
    with suppress(OSError):
        for byte in reply:
            client.sendall(bytes([byte]))
            time.sleep(_TIMEOUT_S / 20)


def _cut(client: socket.socket, reply: bytes) -> None:
    client.shutdown(socket.SHUT_RDWR)


def _cut_in_mid_frame(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply[: len(reply) // 2])
    client.shutdown(socket.SHUT_RDWR)


def _abort(client: socket.socket, reply: bytes) -> None:
    client.shutdown(socket.SHUT_RD)  # or the relay's own `recv` would keep the connection
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _close_with_reason(client: socket.socket, reply: bytes) -> None:
    client.sendall(struct.pack("!BBH", 0x88, 2 + len("restarting"), 1012) + b"restarting")


def _broken_json(client: socket.socket, reply: bytes) -> None:
    client.sendall(_text_frame('{"type":"observation","data":{'))


def _not_utf8(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\x81\x02\xff\xff")


def _wrong_type(client: socket.socket, reply: bytes) -> None:
    client.sendall(_text_frame('{"type":"state","data":{"step_count":1}}'))


def _no_object(client: socket.socket, reply: bytes) -> None:
    client.sendall(_text_frame("[]"))


def _error_without_data(client: socket.socket, reply: bytes) -> None:
    client.sendall(_text_frame('{"type":"error","data":"boom"}'))


def _missing_field(client: socket.socket, reply: bytes) -> None:
    client.sendall(_text_frame('{"type":"observation","data":{"observation":{}}}'))


def _no_websocket_frame(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\xff\xff\xff\xff")


def _oversized(client: socket.socket, reply: bytes) -> None:
    client.sendall(struct.pack("!BBQ", 0x81, 127, int(_LIMIT_MB * 2**21)))


def _twice(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply * 2)


def _after_a_ping(client: socket.socket, reply: bytes) -> None:
    client.sendall(b"\x89\x04ping" + reply)


def _in_two_pieces(client: socket.socket, reply: bytes) -> None:
    client.sendall(reply[:7])
    time.sleep(_TIMEOUT_S / 10)
    client.sendall(reply[7:])


class FaultProxy(socketserver.ThreadingTCPServer):
    """Relays to a server; breaks the reply to a frame that contains the word "fault"."""

    def __init__(self, target: int, fault: Fault) -> None:
        self.target = target
        self.fault = fault
        self.pongs = 0
        super().__init__(("127.0.0.1", 0), _Relay)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Relay(socketserver.BaseRequestHandler):
    server: FaultProxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            replies = threading.Thread(target=self._relay_replies, args=(upstream,))
            replies.start()
            with suppress(OSError):
                while data := self.request.recv(65536):
                    self.server.pongs += data[:1] == b"\x8a"
                    upstream.sendall(data)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            replies.join()

    def _relay_replies(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while reply := upstream.recv(65536):  # small replies: one each
                if b'"text":"fault"' in reply:
                    self.server.fault(self.request, reply)
                else:
                    self.request.sendall(reply)
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(server: Any) -> Iterator[Callable[[Fault], FaultProxy]]:
    proxies: list[FaultProxy] = []

    def start(fault: Fault) -> FaultProxy:
        proxy = FaultProxy(server.port, fault)
        threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
        proxies.append(proxy)
        return proxy

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


def _client(proxy: FaultProxy) -> NotesEnv:
    return NotesEnv(base_url=proxy.url, message_timeout_s=_TIMEOUT_S, max_message_size_mb=_LIMIT_MB)


# fault, the error it raises, and what the error says
_FAULTS: list[tuple[Fault, type[EnvClientError], str]] = [
    (_silence, ReplyTimeoutError, "no reply within 0.4 s"),
    (_late, ReplyTimeoutError, "no reply within 0.4 s"),
    (_slow_drip, ReplyTimeoutError, "no reply within 0.4 s"),
    (_cut, SessionLostError, "without a close frame"),
    (_cut_in_mid_frame, SessionLostError, "without a close frame"),
    (_abort, SessionLostError, "is lost"),
    (_close_with_reason, SessionLostError, r"code 1012 \(restarting\)"),
    (_oversized, SessionLostError, "code 1009 .*`max_message_size_mb` sets"),
    (_no_websocket_frame, SessionLostError, "code 1002"),
    (_broken_json, ProtocolViolationError, "no observation reply"),
    (_not_utf8, ProtocolViolationError, "no observation reply"),
    (_wrong_type, ProtocolViolationError, "no observation reply"),
    (_no_object, ProtocolViolationError, "no observation reply"),
    (_error_without_data, ProtocolViolationError, "no observation reply"),
    (_missing_field, ProtocolViolationError, "no valid reply"),
]
_each_fault = pytest.mark.parametrize(
    ("fault", "error", "text"), _FAULTS, ids=[fault.__name__[1:] for fault, _, _ in _FAULTS]
)


@_each_fault
def test_a_fault_is_an_error_of_its_own_and_ends_the_episode(
    proxy: Any, fault: Fault, error: type[EnvClientError], text: str
) -> None:
    with _client(proxy(fault)) as env:
        env.reset()
        with pytest.raises(error, match=text):
            env.step(NoteAction(text="fault"))
        for _ in range(2):
            with pytest.raises(SessionLostError, match=r"reset\(\)"):
                env.step(NoteAction(text="next"))
        env.reset()
        assert env.step(NoteAction(text="new")).metadata == {
            "original_text": "new",
            "step": 1,
        }


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@_each_fault
def test_a_fault_is_the_same_error_when_awaited(
    proxy: Any, fault: Fault, error: type[EnvClientError], text: str, run: Any
) -> None:
    async def episode() -> None:
        async with _client(proxy(fault)) as env:
            await env.reset()
            with pytest.raises(error, match=text):
                await env.step(NoteAction(text="fault"))
            with pytest.raises(SessionLostError, match=r"reset\(\)"):
                await env.step(NoteAction(text="next"))
            await env.reset()
            assert (await env.step(NoteAction(text="new"))).observation.metadata["step"] == 1

    run(episode())


@_each_fault
def test_a_fault_in_one_session_of_a_pool_harms_no_other(
    proxy: Any, fault: Fault, error: type[EnvClientError], text: str
) -> None:
    url = proxy(fault).url
    options: dict[str, Any] = {
        "message_timeout_s": _TIMEOUT_S,
        "max_message_size_mb": _LIMIT_MB,
    }
    with NotesEnvPool(url, num_envs=3, **options) as pool:
        pool.reset()
        results = pool.step([NoteAction(text=text) for text in ("a", "fault", "c")])
        assert isinstance(results[1].error, error)
        with pytest.raises(error, match=text):
            assert results[1].observation
        assert [results[i].observation.text for i in (0, 2)] == ["a", "c"]
        again = pool.step([NoteAction(text="next")] * 3)
        assert isinstance(again[1].error, SessionLostError)
        assert [again[i].observation.metadata["step"] for i in (0, 2)] == [2, 2]
        pool.reset(only=[1])
        last = pool.step([NoteAction(text="last")] * 3)
        assert [result.observation.metadata["step"] for result in last] == [3, 1, 3]


def test_a_second_reply_is_never_taken_for_the_next_call(proxy: Any) -> None:
    with _client(proxy(_twice)) as env:
        env.reset()
        assert env.step(NoteAction(text="fault")).observation.text == "fault"
        with pytest.raises(ProtocolViolationError, match="belongs to no request"):
            env.step(NoteAction(text="next"))
        with pytest.raises(SessionLostError):
            env.state()


def test_pings_are_answered_and_replies_put_together(proxy: Any) -> None:
    for fault, pongs in ((_after_a_ping, 1), (_in_two_pieces, 0)):
        broken = proxy(fault)
        with _client(broken) as env:
            assert env.step(NoteAction(text="fault")).observation.text == "fault"
            assert env.step(NoteAction(text="next")).observation.metadata["step"] == 2
        assert broken.pongs == pongs


def test_an_awaited_reply_may_come_in_pieces_too(proxy: Any) -> None:
    async def episode() -> None:
        for fault in (_after_a_ping, _in_two_pieces):
            async with _client(proxy(fault)) as env:
                result = await env.step(NoteAction(text="fault"))
                assert result.observation.text == "fault"

    asyncio.run(episode())


def test_lost_while_idle_is_said_by_the_next_step_and_forgotten_by_reset(proxy: Any) -> None:
    with _client(proxy(_twice)) as env:
        env.reset()
        connection = env._session.connection
        assert connection is not None
        sock = connection._sock
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(SessionLostError):
            env.step(NoteAction(text="next"))
        env.reset()
        sock = env._session.connection._sock  # type: ignore[union-attr]
        sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        assert env.reset().observation.text == "Ready for notes"


def _dead_line(**options: Any) -> dict[str, Any]:
    return {"websocket_ping_interval_s": 0.1, "websocket_ping_timeout_s": 0.2, **options}


def test_a_dead_line_is_noticed_long_before_the_reply_is_overdue(proxy: Any) -> None:
    def half_open(client: socket.socket, reply: bytes) -> None:
        halted.wait(60)

    halted = threading.Event()
    url = proxy(half_open).url
    try:
        env = NotesEnv(base_url=url, **_dead_line())
        with env, pytest.raises(SessionLostError, match="did not answer a ping"):
            env.step(NoteAction(text="fault"))

        async def episode() -> None:
            async with NotesEnv(base_url=url, **_dead_line()) as env:
                with pytest.raises(SessionLostError, match="did not answer a ping"):
                    await env.step(NoteAction(text="fault"))

        asyncio.run(episode())
    finally:
        halted.set()


def test_a_server_that_only_takes_long_answers_pings_meanwhile(
    start_server: Any, tmp_path: Any
) -> None:
    application = tmp_path / "slow_server.py"
    application.write_text(
        """
import asyncio
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app
from notes_env.environment import NotesEnvironment

class Slow(NotesEnvironment):
    async def step_async(self, *args, **kwargs):
        await asyncio.sleep(1)
        return self.step(*args, **kwargs)

app = create_app(Slow, NoteAction, NoteObservation)
"""
    )
    url = start_server(application=application).url
    with NotesEnv(base_url=url, **_dead_line()) as env:
        assert env.step(NoteAction(text="Hi")).reward == 0.2

    async def episode() -> None:
        async with NotesEnv(base_url=url, **_dead_line(websocket_ping_timeout_s=None)) as env:
            assert (await env.step(NoteAction(text="Hi"))).reward == 0.2

    asyncio.run(episode())
