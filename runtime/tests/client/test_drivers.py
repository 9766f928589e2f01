# SPDX-License-Identifier: BSD-3-Clause
"""Clients in surroundings that get in the way of waiting: signals, busy threads, unusual loops."""

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import (
    ConnectFailedError,
    ReplyTimeoutError,
    SessionLostError,
    UsageError,
    dialing,
)
from stepwire.client.loops import CallLock, Holder
from stepwire.testing.servers import PATIENCE_S

HELLO = NoteAction(text="hello")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a listener that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# Signals.


@pytest.fixture
def frequent_signals() -> Iterator[None]:
    """A signal that this process handles arrives far more often than any timeout ends."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _blocking(env: NotesEnv) -> Any:
    return env.step(NoteAction(text="hold forever"))


def _awaited(env: NotesEnv) -> Any:
    async def main() -> Any:
        return await env.step(NoteAction(text="hold forever"))

    return asyncio.run(main())


@pytest.mark.parametrize("step", [_blocking, _awaited])
def test_a_reply_is_overdue_whatever_signals_arrive(
    rendezvous: Any, frequent_signals: None, step: Callable[[NotesEnv], Any]
) -> None:
    with pytest.raises(ReplyTimeoutError, match=r"within 0\.3 s"):
        step(NotesEnv(rendezvous.url, message_timeout_s=0.3))


def test_a_pool_and_connecting_keep_their_time_whatever_signals_arrive(
    rendezvous: Any, silent: str, frequent_signals: None
) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
        pool._performers[0].message_timeout_s = 0.3  # a reply to the other may take longer
        results = pool.step([NoteAction(text="hold forever"), HELLO])
        assert isinstance(results[0].error, ReplyTimeoutError)
        assert results[1].observation.text == "hello"
    with pytest.raises(ConnectFailedError, match=r"within 0\.3 s"):
        NotesEnv(silent, connect_timeout_s=0.3).reset()


_INTERRUPTED = """
import inspect, sys
from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction

HELLO = NoteAction(text="hello")
url = sys.argv[1]
env, pool = NotesEnv(url), NotesEnvPool(url, 2)


def interrupted(calls, at):
    "Raise KeyboardInterrupt where a signal's handler may run: at the start of a function."
    left = at

    def trace(frame, *_):
        nonlocal left
        is_generator = frame.f_code.co_flags & inspect.CO_GENERATOR  # ends without its `finally`
        if "stepwire/client" in frame.f_code.co_filename and left and not is_generator:
            left -= 1
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        calls()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return not left


def step():
    env.step(HELLO)


def open_again():
    env.close()
    env.reset()


def step_in_pool():
    pool.step([HELLO] * 2)


for calls in (step, open_again, step_in_pool):
    env.reset()
    pool.reset()
    at = 1
    while interrupted(calls, at):
        at += 1
        env.reset()
        assert env.step(HELLO).reward == 0.5
        assert [result.error for result in pool.reset()] == [None] * 2
        assert [result.reward for result in pool.step([HELLO] * 2)] == [0.5] * 2
    print(at > 20)
"""


@pytest.mark.slow
def test_a_client_is_usable_after_an_interruption_anywhere(server: Any, run: Any) -> None:
    done = run("-W", "ignore", "-c", _INTERRUPTED, server.url)
    assert (done.returncode, done.stdout) == (0, "True\n" * 3), done.stderr


# Threads and connecting.


def test_connecting_needs_no_thread_of_the_loop(server: Any) -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        executor.submit(release.wait)  # takes the only thread
        async with NotesEnv(server.url) as env:
            rewards = [(await env.step(HELLO)).reward]
        local = NotesEnv(f"http://localhost:{server.port}")
        rewards.append((await local.step(HELLO)).reward)
        await local.close()
        release.set()
        return rewards

    release = threading.Event()
    executor = ThreadPoolExecutor(1)
    assert asyncio.run(main()) == [0.5, 0.5]


def test_starting_and_stopping_a_server_need_no_thread_of_the_loop(server: Any) -> None:
    class Provider:
        is_started = False

        def start(self) -> str:
            self.is_started = True
            return str(server.url)

        def wait_for_ready(self) -> None: ...

        def stop(self) -> None:
            self.is_started = False

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(executor)
        executor.submit(release.wait)  # takes the only thread
        async with NotesEnv(provider=provider) as env:
            assert (await env.step(HELLO)).reward == 0.5
            assert provider.is_started
        assert not provider.is_started
        release.set()

    release, executor, provider = threading.Event(), ThreadPoolExecutor(1), Provider()
    asyncio.run(main())


_GEVENT = """
import asyncio, socket, sys
from notes_env.client import NotesEnv
from stepwire.client import UsageError

socket.socket = type("socket", (socket.socket,), {"__module__": "gevent._socket3"})

async def awaited():
    await NotesEnv(sys.argv[1]).reset()

for call in (NotesEnv(sys.argv[1]).reset, lambda: asyncio.run(awaited())):
    try:
        call()
    except UsageError as error:
        print(error)
"""


def test_gevent_is_named(server: Any, run: Any) -> None:
    done = run("-c", _GEVENT, server.url)
    assert done.stdout.count("this client does not support gevent.") == 2


def test_a_name_that_is_never_found_takes_no_longer_than_the_client_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_up(*_: Any, **__: Any) -> Any:
        found.wait(60)
        raise socket.gaierror

    found = threading.Event()
    monkeypatch.setattr(dialing.socket, "getaddrinfo", look_up)
    monkeypatch.setenv("no_proxy", "*")
    env = NotesEnv("http://server.example", connect_timeout_s=0.2)

    async def main() -> None:
        with pytest.raises(ConnectFailedError, match=r"within 0\.2 s"):
            await env.reset()

    asyncio.run(main())
    with pytest.raises(ConnectFailedError, match=r"within 0\.2 s"):
        env.reset()
    found.set()


def test_the_next_address_is_tried_when_one_fails_or_is_slow(
    server: Any, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with ExitStack() as full:
        # Once its queue is full, a listener does not answer any more.
        listener = full.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        found = [(*address, listener.getsockname())]
        found += [(*address, ("127.0.0.1", port)) for port in (free_port, server.port)]
        monkeypatch.setattr(dialing.socket, "getaddrinfo", lambda *_, **__: found)
        for connect in (_connect, _connect_on_a_loop):
            assert connect(30) == server.port
        monkeypatch.setattr(dialing.socket, "getaddrinfo", lambda *_, **__: found[1:2])
        for connect in (_connect, _connect_on_a_loop):
            with pytest.raises(ConnectionRefusedError):
                connect(30)


def _connect(timeout_s: float) -> int:
    with dialing.dial("server.example", 80, dialing.time.monotonic() + timeout_s) as sock:
        return int(sock.getpeername()[1])


def _connect_on_a_loop(timeout_s: float) -> int:
    deadline = dialing.time.monotonic() + timeout_s
    with asyncio.run(dialing.dial_async("server.example", 80, deadline)) as sock:
        return int(sock.getpeername()[1])


_NEVER_ACCEPTED = """
import asyncio, sys, time
from notes_env.client import NotesEnv, NotesEnvPool
from stepwire.client import ConnectFailedError

url = sys.argv[1]

async def main():
    clients = [NotesEnv(url, connect_timeout_s=1) for _ in range(64)]
    failed = await asyncio.gather(*(env.reset() for env in clients), return_exceptions=True)
    assert {type(error) for error in failed} == {ConnectFailedError}
    try:
        await asyncio.wait_for(NotesEnv(url, connect_timeout_s=600).reset(), 0.1)
    except asyncio.TimeoutError:
        print("given up")

asyncio.run(main())  # ends at once: the attempt that was given up holds nothing
with NotesEnvPool(url, num_envs=64, connect_timeout_s=1) as pool:
    assert {type(result.error) for result in pool.reset()} == {ConnectFailedError}
print("done")
"""


@pytest.mark.slow
def test_many_clients_wait_for_a_silent_server_at_the_same_time(silent: str, run: Any) -> None:
    # One after the other they would take two minutes, which is more than `run` waits.
    done = run("-W", "error", "-c", _NEVER_ACCEPTED, silent)
    assert (done.stdout, done.stderr) == ("given up\ndone\n", "")


# Loops.


class _LikeProactor(asyncio.SelectorEventLoop):
    """A loop that cannot watch sockets, as that of Windows; its own methods still can."""

    def _cannot(self, *_: Any) -> Any:
        raise NotImplementedError

    add_reader = add_writer = _cannot


def _episode(url: str) -> Callable[[], Any]:
    large = NoteAction(text="x" * 3_000_000)

    async def main() -> list[Any]:
        async with NotesEnv(url) as env:
            await env.reset()
            lengths = [(await env.step(large)).observation.length]
            lengths += [(await env.step(HELLO)).observation.length for _ in range(3)]
            lengths.append(env.step(HELLO).observation.length)  # read, which blocks
            lengths.append((await env.step(HELLO)).observation.length)
            return lengths

    return main


def test_a_loop_that_cannot_watch_sockets(server: Any) -> None:
    loop = _LikeProactor()
    try:
        assert loop.run_until_complete(_episode(server.url)()) == [3_000_000, *[5] * 5]
    finally:
        loop.close()


def test_faults_on_a_loop_that_cannot_watch_sockets(rendezvous: Any, silent: str) -> None:
    async def main() -> None:
        with pytest.raises(ConnectFailedError, match="no answer"):
            await NotesEnv(silent, connect_timeout_s=0.1).reset()
        env = NotesEnv(rendezvous.url, message_timeout_s=0.2)
        with pytest.raises(ReplyTimeoutError):
            await env.step(NoteAction(text="hold forever"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                NotesEnv(rendezvous.url).step(NoteAction(text="hold forever")), 0.1
            )
        env._session.message_timeout_s = PATIENCE_S
        await env.reset()
        await env.close()

    loop = _LikeProactor()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, _LikeProactor])
@pytest.mark.parametrize("how", ["awaited", "left to the loop"])
def test_a_loop_that_is_closed_during_a_call_leaves_the_client_usable(
    rendezvous: Any,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    env = NotesEnv(rendezvous.url, message_timeout_s=PATIENCE_S)
    word = f"{how} of {make_loop.__name__}"

    async def leave() -> Any:
        await env.reset()
        held = env.step(NoteAction(text=f"hold {word}"))
        task = asyncio.ensure_future(held) if how == "awaited" else None
        async with NotesEnv(rendezvous.url) as other:
            await other.step(NoteAction(text=f"held {word}"))
        return held, task

    loop = make_loop()
    left = loop.run_until_complete(leave())
    loop.close()
    assert env.status == "open"  # the client has not noticed yet
    for call in (env.state, lambda: env.step(HELLO), lambda: left[0].reward):
        with pytest.raises(SessionLostError, match="loop was closed during a call"):
            call()
    env.reset()
    assert env.step(HELLO).observation.length == 5
    assert asyncio.run(_one_step(env)) == 5
    env.close()
    left = None
    gc.collect()
    assert "Task was destroyed" in caplog.text  # by asyncio, when nothing holds it any more


def test_a_call_on_a_loop_that_does_not_run_any_more_is_not_waited_for(rendezvous: Any) -> None:
    env = NotesEnv(rendezvous.url)

    async def leave() -> Any:
        await env.reset()
        held = asyncio.ensure_future(env.step(NoteAction(text="hold what stands still")))
        async with NotesEnv(rendezvous.url) as other:
            await other.step(NoteAction(text="held what stands still"))
        return held

    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(leave())
    for call in (env.state, lambda: asyncio.run(_one_step(env))):
        with pytest.raises(UsageError, match="an event loop that does not run any more"):
            call()
    with NotesEnv(rendezvous.url) as other:
        other.step(NoteAction(text="release what stands still"))
    assert loop.run_until_complete(held).observation.length == len("hold what stands still")
    assert env.state().step_count == 1
    env.close()
    loop.close()


@pytest.mark.slow
def test_waiting_for_a_lock_ends_when_the_loop_of_its_holder_is_closed() -> None:
    taken_over: list[str] = []
    lock = CallLock(lambda: taken_over.append("taken over"))

    async def acquire() -> Holder:
        holder = Holder(asyncio.get_running_loop())
        await lock.acquire(holder)
        return holder

    def acquire_blocking() -> Holder:
        holder = Holder()
        lock.acquire_blocking(holder)
        return holder

    with ThreadPoolExecutor(1) as threads:
        for wait in (lambda: asyncio.run(acquire()), acquire_blocking):
            closed = asyncio.new_event_loop()
            left = closed.run_until_complete(acquire())
            waiting = threads.submit(wait)
            assert not lock.acquire_now(Holder())
            closed.close()
            holder = waiting.result(PATIENCE_S)
            left.is_over = True  # as its coroutine does, when it is collected
            lock.wake_next()
            if holder.loop is None:  # the lock of a thread is not taken over
                assert not lock.acquire_now(Holder())
            holder.is_over = True  # which frees the lock at once
            lock.take_over()
    assert taken_over == ["taken over"] * 2


async def _one_step(env: NotesEnv) -> int:
    length: int = (await env.step(HELLO)).observation.length
    return length


def test_a_call_of_a_thread_between_two_of_a_loop_that_stands_still(server: Any) -> None:
    async def main() -> list[int]:
        endless: Any = {"message_timeout_s": 2 * PATIENCE_S, "websocket_ping_interval_s": None}
        async with NotesEnv(server.url, **endless) as env:  # no timer reads, either
            lengths = [await _one_step(env)]
            thread = threading.Thread(target=lambda: lengths.append(env.state().characters))
            thread.start()
            thread.join()  # so that the loop learns of it during the next call
            return [*lengths, await _one_step(env)]

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == [5, 5, 5]


def test_a_loop_in_debug_mode(server: Any) -> None:
    assert asyncio.run(_episode(server.url)(), debug=True) == [3_000_000, *[5] * 5]


_NESTED = """
import asyncio, sys
import nest_asyncio
from notes_env.client import NotesEnv
from notes_env.models import NoteAction

nest_asyncio.apply()

async def play(env):
    return (await env.step(NoteAction(text="abc"))).observation.length

async def cell():
    env = NotesEnv(sys.argv[1])
    await env.reset()
    lengths = [asyncio.run(play(env)), await play(env)]

    async def deeper():
        return asyncio.run(play(env))

    lengths.append(asyncio.run(deeper()))
    await env.close()
    return lengths

print(asyncio.run(cell()))
"""


def test_loops_inside_loops(server: Any, run: Any) -> None:
    done = run("-c", _NESTED, server.url)
    assert (done.stdout, done.stderr) == ("[3, 3, 3]\n", "")
