# SPDX-License-Identifier: BSD-3-Clause
"""Faults of the connection. A proxy between client and server breaks one reply in a given way.

The client always reports the fault within its timeout, never takes another call's reply for its
own, and never starts a new episode by itself.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

import stepwire.client.connection
from fault_proxy import (
    FAULTS,
    LIMIT_MB,
    TIMEOUT_S,
    Fault,
    FaultProxy,
    after_a_ping,
    in_two_pieces,
    late,
    silence,
    slow_drip,
    twice,
)
from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import (
    EnvClientError,
    ProtocolViolationError,
    SessionLostError,
)

_PATIENCE_S = 60.0


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
    return NotesEnv(base_url=proxy.url, message_timeout_s=_PATIENCE_S, max_message_size_mb=LIMIT_MB)


@contextmanager
def _limited(session: Any, fault: Fault) -> Iterator[None]:
    """A short limit, and only for a fault that nothing else ends: a busy machine is slow."""
    if fault in (silence, late, slow_drip):
        session.message_timeout_s = TIMEOUT_S
    yield
    session.message_timeout_s = _PATIENCE_S


_each_fault = pytest.mark.parametrize(
    ("fault", "error", "text"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS]
)


@_each_fault
def test_each_fault_raises_its_own_error_and_ends_the_episode(
    proxy: Any, fault: Fault, error: type[EnvClientError], text: str
) -> None:
    with _client(proxy(fault)) as env:
        env.reset()
        with _limited(env._session, fault), pytest.raises(error, match=text):
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
            with _limited(env._session, fault), pytest.raises(error, match=text):
                await env.step(NoteAction(text="fault"))
            with pytest.raises(SessionLostError, match=r"reset\(\)"):
                await env.step(NoteAction(text="next"))
            await env.reset()
            assert (await env.step(NoteAction(text="new"))).observation.metadata["step"] == 1

    run(episode())


@_each_fault
def test_a_fault_in_one_session_of_a_pool_does_not_affect_others(
    proxy: Any, fault: Fault, error: type[EnvClientError], text: str
) -> None:
    url = proxy(fault).url
    options: dict[str, Any] = {
        "message_timeout_s": _PATIENCE_S,
        "max_message_size_mb": LIMIT_MB,
    }
    with NotesEnvPool(url, num_envs=3, **options) as pool:
        pool.reset()
        with _limited(pool._performers[1], fault):
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
    with _client(proxy(twice)) as env:
        env.reset()
        assert env.step(NoteAction(text="fault")).observation.text == "fault"
        with pytest.raises(ProtocolViolationError, match="belongs to no request"):
            env.step(NoteAction(text="next"))
        with pytest.raises(SessionLostError):
            env.state()


def test_pings_are_answered_and_pieces_of_a_reply_are_joined(proxy: Any) -> None:
    for fault, pongs in ((after_a_ping, 1), (in_two_pieces, 0)):
        broken = proxy(fault)
        with _client(broken) as env:
            assert env.step(NoteAction(text="fault")).observation.text == "fault"
            assert env.step(NoteAction(text="next")).observation.metadata["step"] == 2
        assert broken.pongs == pongs


def test_an_awaited_reply_may_come_in_pieces_too(proxy: Any) -> None:
    async def episode() -> None:
        for fault in (after_a_ping, in_two_pieces):
            async with _client(proxy(fault)) as env:
                result = await env.step(NoteAction(text="fault"))
                assert result.observation.text == "fault"

    asyncio.run(episode())


def test_a_loss_while_idle_is_raised_by_the_next_step_but_not_by_reset(proxy: Any) -> None:
    with _client(proxy(twice)) as env:
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


def test_a_line_that_was_cut_while_a_loop_was_idle(proxy: Any) -> None:
    async def episode() -> None:
        async with _client(proxy(twice)) as env:
            await env.reset()
            env._session.connection._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            while env.status == "open":  # noqa: ASYNC110 - the loop finds out by itself
                await asyncio.sleep(0.01)
            for _ in range(2):
                with pytest.raises(SessionLostError, match="without a close frame"):
                    await env.step(NoteAction(text="next"))
            assert (await env.reset()).observation.text == "Ready for notes"

    asyncio.run(episode())


def test_a_connection_is_dropped_by_another_thread_than_its_loop(server: Any) -> None:
    async def episode() -> None:
        for _ in range(20):
            async with NotesEnv(server.url) as env, NotesEnv(server.url) as other:
                await env.reset()
                await other.reset()
                dropped = threading.Thread(target=env._session.connection.drop)  # type: ignore[union-attr]
                dropped.start()
                assert (await other.step(NoteAction(text="Hi"))).reward == 0.2
                dropped.join()
                with pytest.raises(SessionLostError):
                    await env.step(NoteAction(text="next"))
                assert (await env.reset()).done is False
                assert (await env.step(NoteAction(text="Hi"))).reward == 0.2

    asyncio.run(episode())


def _dead_line(**options: Any) -> dict[str, Any]:
    return {"websocket_ping_interval_s": 0.1, "websocket_ping_timeout_s": 0.2, **options}


def test_many_busy_connections_are_waited_for_no_longer_than_one(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waits = 1000.0, []

    class Busy:
        def acquire(self, *, blocking: bool = True, timeout: float = 0.0) -> bool:
            nonlocal now
            now += timeout
            if blocking:
                waits.append(timeout)
            return False

    with NotesEnvPool(server.url, num_envs=3) as pool:
        pool.reset()
        with monkeypatch.context() as patch:
            patch.setattr(stepwire.client.connection, "monotonic", lambda: now)
            for session in pool.sessions:
                patch.setattr(session._session.connection, "in_use", Busy())
            pool.close()
    assert waits == [2.0, 0.0, 0.0]


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
    async def step_async(self, action, **kwargs):
        await asyncio.sleep(float(action.text))
        return self.step(action, **kwargs)

app = create_app(Slow, NoteAction, NoteObservation)
"""
    )
    url = start_server(application=application).url

    def is_alive(timeout_s: float) -> bool:
        """Whether a step of five times the limit for pongs is answered."""
        options = _dead_line(websocket_ping_timeout_s=timeout_s)
        text = str(5 * timeout_s)
        try:
            with NotesEnv(base_url=url, **options) as env:
                return env.step(NoteAction(text=text)).observation.text == text
        except SessionLostError:
            return False

    # A busy machine may miss a short limit, but not the long one.
    assert any(is_alive(timeout_s) for timeout_s in (0.2, 2, 10))

    async def episode() -> None:
        async with NotesEnv(base_url=url, **_dead_line(websocket_ping_timeout_s=None)) as env:
            assert (await env.step(NoteAction(text="1"))).reward == 0.1

    asyncio.run(episode())
