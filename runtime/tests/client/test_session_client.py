# SPDX-License-Identifier: BSD-3-Clause
"""One client, used synchronously and asynchronously, from threads, forks and event loops."""

import asyncio
import select
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
from openenv.core.client_types import StepResult
from waiting import wait_until
from websockets.asyncio.server import ServerConnection as AsyncServerConnection
from websockets.asyncio.server import serve as serve_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import (
    CapacityReachedError,
    ConnectFailedError,
    ReplyTimeoutError,
    ServerError,
    SessionLostError,
    UsageError,
)
from stepwire.testing.servers import PATIENCE_S

HELLO = NoteAction(text="hello")
_REPLY = (
    '{"type":"observation","data":{"observation":'
    '{"text":"hello","length":5},"reward":0.5,"done":false}}'
)


_CLOSE_REQUEST = '{"type":"close"}'


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return uuid4().hex


def call_blocking(client: NotesEnv, calls: Callable[[NotesEnv], Any]) -> Any:
    return calls(client)


def call_on_a_loop(client: NotesEnv, calls: Callable[[NotesEnv], Any]) -> Any:
    async def main() -> Any:
        return await calls(client)

    return asyncio.run(main())


either_way = pytest.mark.parametrize("call", [call_blocking, call_on_a_loop])


# Ways to open a session.


@contextmanager
def closed_at_the_end(client: NotesEnv) -> Iterator[NotesEnv]:
    yield client
    client.close()


@pytest.mark.parametrize(
    "opened",
    [
        lambda url: NotesEnv(base_url=url),
        lambda url: NotesEnv(base_url=url).sync(),
        lambda url: closed_at_the_end(NotesEnv(base_url=url)),
        lambda url: closed_at_the_end(NotesEnv(base_url=url).sync()),
        lambda url: closed_at_the_end(NotesEnv(base_url=url).connect()),
    ],
    ids=["with", "with sync()", "bare", "bare sync()", "connect()"],
)
def test_synchronous_use(either_server: Any, opened: Any) -> None:
    with opened(either_server.url) as env:
        assert env.reset().observation.text
        assert [env.step(HELLO).reward for _ in range(3)] == [0.5, 0.5, 0.5]
        assert env.state().step_count == 3


async def _awaited(client: NotesEnv) -> NotesEnv:
    return await client


async def _connected(client: NotesEnv) -> NotesEnv:
    return await client.connect()


async def _as_it_is(client: NotesEnv) -> NotesEnv:
    return client


@pytest.mark.parametrize("opened", [_awaited, _connected, _as_it_is, NotesEnv.__aenter__])
def test_asynchronous_use(either_server: Any, opened: Any) -> None:
    async def main() -> None:
        client = NotesEnv(base_url=either_server.url)
        env = await opened(client)
        assert env is client
        assert (await env.reset()).observation.text
        assert [(await env.step(HELLO)).reward for _ in range(3)] == [0.5, 0.5, 0.5]
        assert (await env.state()).step_count == 3
        await env.close()

    asyncio.run(main())


def test_async_with_closes_the_session(server: Any) -> None:
    async def main() -> NotesEnv:
        async with NotesEnv(base_url=server.url) as env:
            await env.step(HELLO)
        return env

    with asyncio.run(main()) as again:
        assert again.state().step_count == 0


def test_with_and_sync_block_on_a_running_loop_too(server: Any) -> None:
    async def main() -> None:
        with NotesEnv(base_url=server.url) as env:
            results = [env.reset(), env.step(HELLO)]
        client = NotesEnv(base_url=server.url).sync()
        results.append(client.step(HELLO))
        client.close()
        # Such a result is there; awaiting it is harmless.
        assert [(await result).reward for result in results] == [0.0, 0.5, 0.5]

    asyncio.run(main())


def test_one_client_works_on_several_loops_in_turn_and_without_one(server: Any) -> None:
    async def step() -> Any:
        return (await env.step(HELLO)).metadata["step"]

    env = NotesEnv(base_url=server.url)
    steps = [asyncio.run(step()), env.step(HELLO).metadata["step"], asyncio.run(step())]
    env.close()
    assert steps == [1, 2, 3]


# Many at once.


def test_clients_that_were_never_entered_overlap_on_one_loop(rendezvous: Any, name: str) -> None:
    # None of these steps is answered before all eight have arrived.
    meeting = NoteAction(text=f"meet 8 {name}")

    async def main() -> list[Any]:
        clients = [NotesEnv(base_url=rendezvous.url) for _ in range(8)]
        results = await asyncio.gather(*(client.step(meeting) for client in clients))
        await asyncio.gather(*(client.close() for client in clients))
        return results

    assert [result.observation.text for result in asyncio.run(main())] == [meeting.text] * 8


def test_connecting_does_not_block_the_loop() -> None:
    async def answer(connection: AsyncServerConnection) -> None:
        async for request in connection:
            if request == _CLOSE_REQUEST:
                break
            await connection.send(_REPLY)

    async def main() -> Any:
        # The server is on the client's own loop: it can only answer while the client waits.
        async with serve_async(answer, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with NotesEnv(base_url=f"http://127.0.0.1:{port}") as env:
                return (await env.step(HELLO)).reward

    assert asyncio.run(main()) == 0.5


def test_replies_are_never_mixed_between_the_threads_of_one_client(either_server: Any) -> None:
    def steps(thread: int) -> bool:
        messages = [f"{thread}:{step}" for step in range(25)]
        echoes = [env.step(NoteAction(text=message)) for message in messages]
        return [echo.observation.text for echo in echoes] == messages

    with NotesEnv(base_url=either_server.url) as env, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(steps, range(8)))
        assert env.state().step_count == 200


def test_replies_are_never_mixed_between_threads_and_a_loop(server: Any) -> None:
    env = NotesEnv(base_url=server.url)

    def in_thread(number: int) -> bool:
        message = f"thread {number}"
        return bool(env.step(NoteAction(text=message)).observation.text == message)

    async def on_loop(number: int) -> bool:
        message = f"loop {number}"
        result = await env.step(NoteAction(text=message))
        return bool(result.observation.text == message)

    async def main() -> list[bool]:
        threads = [asyncio.to_thread(in_thread, number) for number in range(50)]
        return await asyncio.gather(*threads, *map(on_loop, range(50)))

    assert all(asyncio.run(main()))
    assert env.state().step_count == 100
    env.close()


@pytest.mark.parametrize("flush_after_s", [0.02, 0.001])
def test_replies_are_never_mixed_between_two_loops(
    server: Any, flush_after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loop performs calls that nothing awaits after this time, and the other loop's with them.
    monkeypatch.setattr("stepwire.client.loops._FLUSH_AFTER_S", flush_after_s)

    async def steps(env: NotesEnv, loop: int) -> bool:
        messages = [f"{loop}:{step}" for step in range(25)]
        results = await asyncio.gather(*(env.step(NoteAction(text=m)) for m in messages))
        return [result.observation.text for result in results] == messages

    for _ in range(10):
        with NotesEnv(base_url=server.url) as env, ThreadPoolExecutor(2) as threads:
            assert all(threads.map(lambda loop: asyncio.run(steps(env, loop)), range(2)))
            assert env.state().step_count == 50


# Waiting for each other.


def _run_while_held(
    rendezvous: Any, other: Any, name: str, act: Callable[[NotesEnv, Any], Coroutine[Any, Any, Any]]
) -> Any:
    """Run `act(env, task)` while `task` awaits a step of `env` that another session holds up."""

    async def main() -> Any:
        env = NotesEnv(base_url=rendezvous.url)
        await env.reset()
        task = asyncio.ensure_future(_step(env, f"hold {name}"))
        await asyncio.to_thread(other, f"held {name}")
        try:
            return await act(env, task)
        finally:
            await asyncio.to_thread(other, f"release {name}")
            await env.close()

    return asyncio.run(main())


async def _step(env: NotesEnv, message: str) -> str:
    return str((await env.step(NoteAction(text=message))).observation.text)


def test_reading_a_result_that_would_block_forever_is_an_error(
    rendezvous: Any, other: Any, name: str
) -> None:
    async def act(env: NotesEnv, task: Any) -> None:
        with pytest.raises(UsageError, match="Await the result instead"):
            _ = env.step(HELLO).reward
        await asyncio.to_thread(other, f"release {name}")
        assert await task == f"hold {name}"
        # Neither the held call nor the one that was not read suffered from it.
        assert (await env.state()).step_count == 2

    _run_while_held(rendezvous, other, name, act)


def test_a_cancelled_call_ends_the_episode_until_reset(
    rendezvous: Any, other: Any, name: str
) -> None:
    async def act(env: NotesEnv, task: Any) -> None:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(2):
            with pytest.raises(SessionLostError, match=r"reset\(\)"):
                await env.step(HELLO)
        assert (await env.reset()).reward == 0.0
        assert (await env.step(HELLO)).metadata == {"original_text": "hello", "step": 1}

    _run_while_held(rendezvous, other, name, act)


def test_calls_after_a_cancelled_one_raise_that_the_session_is_lost(
    rendezvous: Any, other: Any, name: str
) -> None:
    async def act(env: NotesEnv, task: Any) -> None:
        behind = [asyncio.ensure_future(_step(env, "next")) for _ in range(3)]
        await asyncio.sleep(0)
        task.cancel()
        errors = await asyncio.gather(*behind, return_exceptions=True)
        assert [type(error) for error in errors] == [SessionLostError] * 3

    _run_while_held(rendezvous, other, name, act)


def test_cancelling_a_call_that_has_not_begun_does_not_affect_others(
    rendezvous: Any, other: Any, name: str
) -> None:
    async def act(env: NotesEnv, task: Any) -> None:
        waiting = [asyncio.ensure_future(_step(env, f"{number}")) for number in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.to_thread(other, f"release {name}")
        assert await task == f"hold {name}"
        assert await waiting[1] == "1"
        assert await waiting[3] == "3"

    _run_while_held(rendezvous, other, name, act)


def test_wait_for_raises_timeout_and_the_next_call_session_lost(rendezvous: Any, name: str) -> None:
    async def main() -> None:
        env = NotesEnv(base_url=rendezvous.url)
        await env.reset()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(env.step(NoteAction(text=f"hold {name}")), 0.05)
        with pytest.raises(SessionLostError):
            await env.step(HELLO)
        await env.close()

    asyncio.run(main())


@either_way
def test_a_reply_that_does_not_come_in_time(rendezvous: Any, name: str, call: Any) -> None:
    env = NotesEnv(base_url=rendezvous.url, message_timeout_s=0.1)
    hold = NoteAction(text=f"hold {name}")
    with pytest.raises(ReplyTimeoutError, match=r"within 0\.1 s") as caught:
        call(env, lambda env: env.step(hold))
    assert isinstance(caught.value, asyncio.TimeoutError)
    with pytest.raises(SessionLostError, match=r"within 0\.1 s"):
        call(env, lambda env: env.step(HELLO))
    env.close()


def test_closing_cuts_a_call_that_is_being_awaited(rendezvous: Any, other: Any, name: str) -> None:
    async def act(env: NotesEnv, task: Any) -> None:
        await env.close()
        with pytest.raises(SessionLostError):
            await task

    _run_while_held(rendezvous, other, name, act)


# Closing.


@pytest.mark.parametrize("close", ["close", "disconnect"])
@either_way
def test_closing_any_number_of_times_and_going_on_in_a_new_session(
    either_server: Any, call: Any, close: str
) -> None:
    env = NotesEnv(base_url=either_server.url)
    for _ in range(2):
        call(env, lambda env: env.step(HELLO))
        for _ in range(3):
            call(env, lambda env: getattr(env, close)())
        assert env.state().step_count == 0
    env.close()


@either_way
@pytest.mark.parametrize("method", ["connect", "reset"])
def test_closing_while_the_session_is_being_opened_leaves_none_open(call: Any, method: str) -> None:
    asked, may_open, ended = (threading.Event() for _ in range(3))

    def wait(*_: Any) -> None:
        asked.set()
        may_open.wait(PATIENCE_S)

    def answer(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while connection.recv() != _CLOSE_REQUEST:
                connection.send(_REPLY)
        ended.set()

    def use(env: NotesEnv) -> Any:
        return env if method == "connect" and call is call_on_a_loop else getattr(env, method)()

    with ExitStack() as stack:
        server = stack.enter_context(serve(answer, "127.0.0.1", 0, process_request=wait))
        threads = stack.enter_context(ThreadPoolExecutor(2))
        threads.submit(server.serve_forever)
        stack.callback(server.shutdown)
        port = server.socket.getsockname()[1]
        env = NotesEnv(f"http://127.0.0.1:{port}", connect_timeout_s=PATIENCE_S)
        opening = threads.submit(call, env, use)
        assert asked.wait(PATIENCE_S)
        env.close()
        may_open.set()
        with pytest.raises(SessionLostError, match="closed during the call"):
            opening.result(PATIENCE_S)
        assert env.status == "closed"
        assert ended.wait(PATIENCE_S)
        assert call(env, lambda env: env.reset()).reward == 0.5
        env.close()


def test_closing_a_client_that_was_never_used_connects_to_nothing() -> None:
    NotesEnv(base_url="http://127.0.0.1:1").close()
    asyncio.run(_close(NotesEnv(base_url="http://127.0.0.1:1")))


async def _close(env: NotesEnv) -> None:
    assert await env.close() is None
    assert await env.disconnect() is None


def test_closing_frees_the_servers_slot_at_once(one_session_server: Any) -> None:
    for _ in range(20):
        with NotesEnv(base_url=one_session_server.url) as env:
            env.step(HELLO)


# Addresses, headers and limits.


@contextmanager
def recording_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A WebSocket server that answers every frame alike and notes the handshakes' headers."""
    handshakes: list[dict[str, str]] = []

    def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        handshakes.append(
            {"path": connection.request.path, **dict(connection.request.headers.raw_items())}
        )
        for request in connection:
            if request == _CLOSE_REQUEST:
                break
            connection.send(_REPLY)

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.socket.getsockname()[1]}", handshakes
        server.shutdown()
        thread.join()


@either_way
def test_headers_and_token_go_out_with_the_handshake(call: Any) -> None:
    with recording_server() as (address, handshakes):
        env = NotesEnv(base_url=f"ws://{address}/", headers={"X-Team": "a"}, token="s3cret")
        call(env, lambda env: env.step(HELLO))
        env.close()
    assert handshakes[0]["path"] == "/ws"
    assert handshakes[0]["X-Team"] == "a"
    assert handshakes[0]["Authorization"] == "Bearer s3cret"


@pytest.fixture(scope="module")
def server_with_a_token(start_shared_server: Any) -> Any:
    return start_shared_server(env={"API_TOKEN": "s3cret-and-long-enough"})


@either_way
def test_a_server_with_a_token_accepts_only_that_token(server_with_a_token: Any, call: Any) -> None:
    for token in (None, "another"):
        refused = NotesEnv(base_url=server_with_a_token.url, token=token)
        with pytest.raises(ConnectFailedError, match=r"HTTP 401 \(.*[Tt]oken.*\)\. .*`token=`"):
            call(refused, lambda env: env.reset())
    env = NotesEnv(base_url=server_with_a_token.url, token="s3cret-and-long-enough")
    assert call(env, lambda env: env.step(HELLO)).reward == 0.5
    env.close()


@either_way
def test_a_server_that_refuses_foreign_pages(server_with_a_token: Any, call: Any) -> None:
    headers = {"Origin": "https://elsewhere.example"}
    token = "s3cret-and-long-enough"
    env = NotesEnv(base_url=server_with_a_token.url, headers=headers, token=token)
    with pytest.raises(ConnectFailedError, match=r"HTTP 403 \(.*elsewhere.*\)\. Check the path"):
        call(env, lambda env: env.reset())


@pytest.mark.parametrize("base_url", ["http://{0}", "http://{0}/", "ws://{0}", "ws://{0}/"])
def test_addresses(server: Any, base_url: str) -> None:
    given = base_url.format(f"127.0.0.1:{server.port}")
    with NotesEnv(base_url=given) as env:
        assert env.step(HELLO).reward == 0.5
        assert env.base_url == env._base_url == given.rstrip("/")


def test_a_path_in_the_address_is_kept() -> None:
    with (
        recording_server() as (address, handshakes),
        NotesEnv(base_url=f"http://{address}/spaces/echo"),
    ):
        wait_until(lambda: handshakes)
    assert handshakes[0]["path"] == "/spaces/echo/ws"


@pytest.mark.parametrize("options", [{}, {"connect_timeout_s": 30, "message_timeout_s": 120}])
def test_arbitrary_keywords_of_reset(either_server: Any, options: dict[str, Any]) -> None:
    with NotesEnv(base_url=either_server.url, **options) as env:
        assert env.reset(seed=3, task_name="town", nested={"a": [1, None]}).done is False


# The repr.


def test_the_repr_shows_address_session_and_episode(server: Any) -> None:
    def shown(what: str) -> bool:
        return repr(env) == f"<NotesEnv {server.url}: session {what}>" and env.status in what

    env = NotesEnv(base_url=server.url, token="s3cret", headers={"X-Key": "s3cret"})
    assert shown("unused")
    env.step(HELLO)
    assert shown("open")
    env.reset(episode_id="mine")
    assert shown("open, episode 'mine'")
    env.reset()
    assert shown("open")
    episode = env.state().episode_id
    assert shown(f"open, episode {episode!r}")
    assert env._session.connection is not None
    env._session.connection.drop()
    assert shown(f"lost, episode {episode!r}")
    with pytest.raises(SessionLostError):
        env.step(HELLO)
    assert shown(f"lost, episode {episode!r}")
    env.reset()
    assert shown("open")
    env.close()
    assert shown("closed")


def test_the_repr_shows_no_password() -> None:
    env = NotesEnv(base_url="http://me:s3cret@localhost:8000/notes?key=s3cret#s3cret")
    assert repr(env) == "<NotesEnv http://localhost:8000/notes: session unused>"


def test_the_repr_of_a_pending_call_performs_nothing(server: Any) -> None:
    async def main() -> str:
        env = NotesEnv(base_url=server.url)
        env.reset()
        shown = repr(env)
        await env.close()
        return shown

    assert asyncio.run(main()).endswith("session unused>")


# Failures.


@either_way
def test_an_address_where_no_server_listens(call: Any, free_port: int) -> None:
    env = NotesEnv(base_url=f"http://127.0.0.1:{free_port}")
    for _ in range(2):
        with pytest.raises(ConnectFailedError, match=r"127\.0\.0\.1:.*Is the server running"):
            call(env, lambda env: env.reset())
    with pytest.raises(ConnectFailedError):
        call(env, lambda env: env.connect())


@either_way
def test_a_server_that_refuses_the_websocket(server: Any, call: Any) -> None:
    env = NotesEnv(base_url=f"{server.url}/no-such-environment")
    with pytest.raises(ConnectFailedError, match=r"refused the WebSocket: HTTP 40[34]"):
        call(env, lambda env: env.reset())


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, '{"detail":"A token is missing"}', r"HTTP 401 \(A token is missing\)\. .*`token=`"),
        (403, "{}", r"HTTP 403 \(.*rejected.*\)\. Check the path"),
        (404, "Not Found", r"HTTP 404 \(.*\)\. Check the path of the address\. .*`token=`"),
        (503, '{"detail":"draining"}', r"HTTP 503 \(draining\)\. .* try again later\.$"),
        (418, '["detail"]', r"HTTP 418 \([^()]*\)\.$"),
        (429, "{}", r"HTTP 429 \(.*\)\. .*fewer sessions.* asks to wait: 30 s\.$"),
        (502, "<html>Bad gateway", r"HTTP 502 \(a web page\)\. .* try again later\.$"),
        (200, " <!DOCTYPE html>", r"HTTP 200 \(a web page\)\. .*https://OWNER-NAME\.hf\.space"),
    ],
)
@either_way
def test_a_refusal_says_why_and_what_to_do(call: Any, status: int, body: str, text: str) -> None:
    def refuse(connection: ServerConnection, _: Any) -> Any:
        response = connection.respond(HTTPStatus(status), body)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response.headers["Retry-After"] = "30"
            response.headers["Retry-After"] = "60"
        return response

    with serve(lambda _: None, "127.0.0.1", 0, process_request=refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        env = NotesEnv(base_url=f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        with pytest.raises(ConnectFailedError, match=text):
            call(env, lambda env: env.reset())
        server.shutdown()
        thread.join()


_IDLE_ERROR = '{"type":"error","data":{"message":"Idle for 60 s","code":"SESSION_ERROR"}}'


@pytest.mark.parametrize(
    ("when", "code", "reason", "last_words", "text"),
    [
        ("idle", 1001, "", _IDLE_ERROR, r"Idle for 60 s.*code 1001\. .*call it more often"),
        ("idle", 1001, "idle", "", r"closed it with code 1001 \(idle\)\. .*call it more often"),
        ("in a call", 1009, "16 MiB at most", "", r"1009 \(16 MiB at most\).*send less at once"),
        ("idle", 1012, "", "", r"closed it with code 1012\. It has stopped"),
        ("in a call", 1012, "restart", "", r"1012 \(restart\)\. It has stopped"),
        ("in a call", 4000, "bye", "", r"4000 \(bye\)\. The episode ended"),
    ],
)
@either_way
def test_the_code_that_closes_a_session_says_what_to_do(
    call: Any, when: str, code: int, reason: str, last_words: str, text: str
) -> None:
    def answer(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(_REPLY)
        if when == "in a call":
            connection.recv()
        if last_words:
            connection.send(last_words)
        connection.close(code, reason)
        closed.set()

    closed = threading.Event()
    with serve(answer, "127.0.0.1", 0, close_timeout=0.1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        env = NotesEnv(base_url=f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        call(env, lambda env: env.step(HELLO))
        if when == "idle":
            closed.wait()
        with pytest.raises(SessionLostError, match=text) as caught:
            call(env, lambda env: env.step(HELLO))
        assert (caught.value.close_code, caught.value.reason) == (code, reason)
        env.close()
        server.shutdown()
        thread.join()


@either_way
def test_a_listener_that_never_answers(call: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        env = NotesEnv(base_url=f"http://127.0.0.1:{port}", connect_timeout_s=0.2)
        with pytest.raises(ConnectFailedError, match=r"no answer within 0\.2 s"):
            call(env, lambda env: env.reset())


@pytest.mark.parametrize("connected", [False, True])
@either_way
def test_a_server_at_capacity(one_session_server: Any, call: Any, connected: bool) -> None:
    refused = NotesEnv(base_url=one_session_server.url)
    with NotesEnv(base_url=one_session_server.url) as holder:
        assert holder.step(HELLO).metadata["step"] == 1
        for _ in range(2):
            if connected:  # then the refusal is there before the first request
                call(refused, lambda env: env.connect())
                refused_connection = refused._session.connection
                assert refused_connection is not None
                select.select([refused_connection], [], [])
            with pytest.raises(CapacityReachedError, match="1/1") as caught:
                call(refused, lambda env: env.reset())
            error = caught.value
            assert (error.code, error.active_sessions, error.max_sessions) == (
                "CAPACITY_REACHED",
                1,
                1,
            )
        assert holder.step(HELLO).metadata["step"] == 2
    assert call(refused, lambda env: env.reset()).reward == 0.0
    refused.close()


def test_a_stock_server_at_capacity(stock_server: Any) -> None:
    with ExitStack() as sessions:
        clients = [sessions.enter_context(NotesEnv(base_url=stock_server.url)) for _ in range(65)]
        with pytest.raises(CapacityReachedError) as caught:
            [client.step(HELLO) for client in clients]
    assert (caught.value.active_sessions, caught.value.max_sessions) == (64, 64)


def test_waiting_for_a_server_at_capacity(one_session_server: Any) -> None:
    url = one_session_server.url

    async def main() -> Any:
        holder = await NotesEnv(base_url=url)
        await holder.reset()
        patient = NotesEnv(base_url=url, capacity_wait_s=60)
        reset = asyncio.ensure_future(_reset(patient))
        await asyncio.sleep(0.1)  # long enough to be refused; the outcome is the same if it was not
        await holder.close()
        result = await reset
        await patient.close()
        return result.reward

    assert asyncio.run(main()) == 0.0


async def _reset(env: NotesEnv) -> StepResult[Any]:
    return await env.reset()


@either_way
def test_an_error_of_the_server_leaves_the_episode_as_it_is(rendezvous: Any, call: Any) -> None:
    env = NotesEnv(base_url=rendezvous.url)
    call(env, lambda env: env.reset())
    with pytest.raises(
        ServerError, match=r"Server error: .*no such word.*EXECUTION_ERROR"
    ) as caught:
        call(env, lambda env: env.step(NoteAction(text="fail no such word")))
    assert (caught.value.code, caught.value.errors) == ("EXECUTION_ERROR", [])
    assert "no such word" in caught.value.message
    assert call(env, lambda env: env.step(HELLO)).metadata["step"] == 2
    env.close()


@either_way
def test_a_validation_error_says_what_is_wrong_with_which_argument(server: Any, call: Any) -> None:
    env = NotesEnv(base_url=server.url)
    with pytest.raises(ServerError, match=r"VALIDATION_ERROR.*seed") as caught:
        call(env, lambda env: env.reset(seed=-1))
    assert caught.value.code == "VALIDATION_ERROR"
    assert "seed" in caught.value.errors[0]["loc"]
    env.close()


@either_way
def test_an_error_that_only_quotes_the_code_of_capacity_keeps_the_session(
    server: Any, call: Any
) -> None:
    env = NotesEnv(base_url=server.url)
    call(env, lambda env: env.step(HELLO))
    with pytest.raises(ServerError, match="VALIDATION_ERROR"):
        call(env, lambda env: env.reset(seed="CAPACITY_REACHED"))
    assert call(env, lambda env: env.step(HELLO)).metadata["step"] == 2
    env.close()


@either_way
def test_a_server_that_dies_ends_the_episode_and_reset_finds_its_successor(
    start_server: Any, call: Any
) -> None:
    server = start_server()
    env = NotesEnv(base_url=server.url)
    call(env, lambda env: env.step(HELLO))
    server.process.kill()
    server.process.wait()
    for _ in range(2):
        with pytest.raises(SessionLostError, match=r"reset\(\)"):
            call(env, lambda env: env.step(HELLO))
    with pytest.raises(ConnectFailedError):
        call(env, lambda env: env.reset())

    start_server(port=server.port)
    with pytest.raises(SessionLostError):  # no new episode in disguise
        call(env, lambda env: env.step(HELLO))
    call(env, lambda env: env.reset())
    assert call(env, lambda env: env.step(HELLO)).metadata["step"] == 1
    env.close()


@pytest.fixture(scope="module")
def server_for_the_busy(start_shared_server: Any) -> Any:
    return start_shared_server(env={"SESSION_IDLE_TIMEOUT_S": "1"})


@either_way
def test_a_server_that_closes_idle_sessions_says_so(server_for_the_busy: Any, call: Any) -> None:
    env = NotesEnv(base_url=server_for_the_busy.url)
    call(env, lambda env: env.step(HELLO))

    def is_lost() -> bool:
        env._session.answer_pings()  # reads what has arrived
        return env.status == "lost"

    def goes_on() -> bool:
        call(env, lambda env: env.reset())
        with suppress(SessionLostError):  # on a busy machine, a second passes between two calls
            assert call(env, lambda env: env.step(HELLO)).metadata["step"] == 1
            return True
        return False

    wait_until(is_lost)  # not only for the error, which comes before the close frame
    with pytest.raises(SessionLostError, match=r"code 1001.*call it more often") as caught:
        call(env, lambda env: env.step(HELLO))
    assert caught.value.close_code == 1001
    wait_until(goes_on)
    env.close()


def test_a_server_that_shuts_down_says_so(start_server: Any) -> None:
    server = start_server()
    env = NotesEnv(base_url=server.url)
    env.step(HELLO)
    server.process.terminate()
    server.process.wait()
    with pytest.raises(SessionLostError, match="code 1012") as caught:
        env.step(HELLO)
    assert caught.value.close_code == 1012
    env.close()


# Processes and garbage.


def test_a_fork_cannot_disturb_its_parents_episode(server: Any, run: Any) -> None:
    done = run("-c", _FORK, server.url)
    assert (done.returncode, done.stdout) == (0, "child 1\nparent 2\n"), done.stderr


_FORK = """
import os, sys
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import SessionLostError

env = NotesEnv(base_url=sys.argv[1])
env.reset()
env.step(NoteAction(text="parent"))
child = os.fork()
if child == 0:
    try:
        env.step(NoteAction(text="child"))
    except SessionLostError as error:
        assert "forked" in str(error)
        env.reset()
        print("child", env.step(NoteAction(text="child")).metadata["step"], flush=True)
        env.close()
        os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
print("parent", env.step(NoteAction(text="parent")).metadata["step"])
env.close()
"""


def test_a_fork_does_not_wait_for_a_thread_that_it_does_not_have(
    rendezvous: Any, other: Any, name: str, run: Any
) -> None:
    done = run("-W", "ignore", "-c", _FORK_IN_MID_CALL, rendezvous.url, name)
    assert (done.returncode, done.stdout) == (0, "child lost\nparent goes on\n"), done.stderr


_FORK_IN_MID_CALL = """
import os, sys, threading
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import SessionLostError

url, name = sys.argv[1:]
env, other = NotesEnv(base_url=url).connect(), NotesEnv(base_url=url)
held = threading.Thread(target=env.step, args=(NoteAction(text=f"hold {name}"),))
held.start()
other.step(NoteAction(text=f"held {name}"))
child = os.fork()
if child == 0:
    try:
        env.step(NoteAction(text="child"))
    except SessionLostError:
        print("child lost", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
other.step(NoteAction(text=f"release {name}"))
held.join()
print("parent", env.step(NoteAction(text="goes on")).observation.text)
env.close()
other.close()
"""


@pytest.fixture(scope="module")
def two_session_server(start_shared_server: Any) -> Any:
    return start_shared_server(env={"MAX_CONCURRENT_ENVS": "2"})


@pytest.mark.parametrize(
    "use", ["env.step(hello)", "asyncio.run(step(env))", "asyncio.run(read(env))"]
)
def test_clients_dropped_without_closing_free_their_slots_without_a_warning(
    two_session_server: Any, execute: Any, use: str
) -> None:
    execute(_DROP.replace("USE", use), two_session_server.url)


_DROP = """
import asyncio, sys
from notes_env.client import NotesEnv
from notes_env.models import NoteAction

hello = NoteAction(text="hello")

async def step(env):
    assert (await env.step(hello)).reward == 0.5

async def read(env):
    env.reset()
    assert env.step(hello).reward == 0.5

for _ in range(10):
    env = NotesEnv(base_url=sys.argv[1], capacity_wait_s=30)
    USE
"""


def test_an_awaited_message_may_be_larger_than_the_sockets_buffer(server: Any) -> None:
    large = NoteAction(text="x" * 8_000_000)

    async def send() -> int:
        async with NotesEnv(server.url) as client:
            return (await client.step(large)).observation.length

    assert asyncio.run(send()) == len(large.text)
