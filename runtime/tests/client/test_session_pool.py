# SPDX-License-Identifier: BSD-3-Clause
"""Many sessions stepped together: the order of results, and one that fails among others."""

import asyncio
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from waiting import patient

from notes_env.client import NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import (
    CapacityReachedError,
    InvalidActionError,
    ReplyTimeoutError,
    SessionLostError,
    UsageError,
)

_PATIENCE_S = 60.0  # until a hang is called one


@pytest.fixture
def pool(server: Any) -> Iterator[NotesEnvPool]:
    with NotesEnvPool(server.url, num_envs=3) as sessions:
        yield sessions


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return uuid4().hex


def _actions(*messages: str) -> list[NoteAction]:
    return [NoteAction(text=message) for message in messages]


def _echoes(results: Any) -> list[str]:
    return [result.observation.text for result in results]


def test_results_are_in_the_order_of_the_actions(pool: NotesEnvPool) -> None:
    pool.reset()
    assert len(pool) == 3
    assert _echoes(pool.step(_actions("a", "b", "c"))) == ["a", "b", "c"]


def test_a_list_gives_each_session_its_own_value(pool: NotesEnvPool) -> None:
    pool.reset(seed=[1, 2, 3], episode_id="same")
    states = [session.state() for session in pool.sessions]
    assert [(state.episode_id, state.seed) for state in states] == [
        ("same", 1),
        ("same", 2),
        ("same", 3),
    ]


def test_only_some_sessions_are_reset(pool: NotesEnvPool) -> None:
    pool.reset()
    pool.step(_actions("a", "b", "c"))
    assert len(pool.reset(only=[1])) == 1
    assert [session.state().step_count for session in pool.sessions] == [1, 0, 1]


def test_results_as_they_come_in(rendezvous: Any, other: Callable[[str], str], name: str) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
        pool.reset()
        coming = pool.step_as_completed(_actions(f"hold {name}", "at once"))
        index, result = next(coming)
        assert (index, result.observation.text) == (1, "at once")
        other(f"release {name}")
        index, result = next(coming)
        assert (index, result.observation.text) == (0, f"hold {name}")
        assert list(coming) == []


def test_leaving_a_loop_early_loses_only_the_sessions_without_a_reply(
    rendezvous: Any, other: Callable[[str], str], name: str
) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
        pool.reset()
        coming: Any = pool.step_as_completed(_actions(f"hold {name}", "at once"))
        next(coming)
        coming.close()
        left, kept = pool.step(_actions("a", "b"))
        assert isinstance(left.error, SessionLostError)
        assert kept.observation.text == "b"
        pool.reset(only=[0])
        assert _echoes(pool.step(_actions("c", "d"))) == ["c", "d"]
        other(f"release {name}")


def test_a_call_under_way_in_a_suspended_loop_is_not_waited_for(
    rendezvous: Any, other: Callable[[str], str], name: str
) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
        pool.reset()
        held, free = pool.sessions
        coming = pool.step_as_completed(_actions(f"hold {name}", "at once"))
        next(coming)
        for call in (held.state, held.connect, held.reset, pool.reset):
            with pytest.raises(UsageError, match="under way in this thread, in a loop over"):
                call()
        assert free.state().step_count == 1  # nothing was sent to the others
        other(f"release {name}")
        assert _echoes(result for _, result in coming) == [f"hold {name}"]
        assert _echoes(pool.step(_actions("a", "b"))) == ["a", "b"]


def test_a_pool_may_be_closed_while_results_come_in(
    rendezvous: Any, other: Callable[[str], str], name: str
) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
        pool.reset()
        coming = pool.step_as_completed(_actions(f"hold {name}", "at once"))
        next(coming)
        pool.close()
        ((index, result),) = coming
        assert index == 0
        assert isinstance(result.error, SessionLostError)
        other(f"release {name}")
        pool.reset()
        assert _echoes(pool.step(_actions("a", "b"))) == ["a", "b"]


@pytest.mark.slow
def test_a_session_is_stepped_again_while_results_come_in(server: Any) -> None:
    # Without pings, so that no timer reads what is missed.
    endless: Any = {"message_timeout_s": 2 * _PATIENCE_S, "websocket_ping_interval_s": None}
    with NotesEnvPool(server.url, num_envs=3, **endless) as pool, ThreadPoolExecutor(2) as threads:

        def play(number: int) -> int:
            for _, result in pool.step_as_completed(_actions("a", "b", "c")):
                assert result.error is None
            only = [0, 1, 2] if number % 2 else [2, 1, 0]  # no thread waits for the other
            return len(pool.step(_actions("a", "b", "c"), only=only))

        pool.reset()
        for _ in range(20):
            for index, _ in pool.step_as_completed(_actions("a", "b", "c")):
                assert _echoes(pool.step(_actions("again"), only=[index])) == ["again"]
        playing = [threads.submit(play, number) for number in range(40)]
        assert {each.result(_PATIENCE_S) for each in playing} == {3}
        assert {session.state().step_count for session in pool.sessions} == {40 + 80}


_FORK = """
import os, sys
from notes_env.client import NotesEnvPool
from notes_env.models import NoteAction

HELLO = [NoteAction(text="hello")] * 3
url = sys.argv[1]
# Without pings, so that no timer reads what is missed.
with NotesEnvPool(url, 3, message_timeout_s=600, websocket_ping_interval_s=None) as pool:
    pool.reset()
    for _ in pool.step_as_completed(HELLO):
        if not (child := os.fork()):
            break
        os.waitpid(child, 0)
    if not child:
        print([type(result.error).__name__ for result in pool.step(HELLO)])
        pool.reset()
    print([result.reward for result in pool.step(HELLO)], flush=True)
    if not child:
        os._exit(0)
"""


def test_a_fork_may_use_a_pool_of_its_parent(server: Any, run: Any) -> None:
    lost, fine = str(["SessionLostError"] * 3), str([0.5] * 3)
    done = run("-c", _FORK, server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*[lost, fine] * 3, fine]


def test_one_without_a_reply_times_out_and_the_others_do_not(
    rendezvous: Any, other: Callable[[str], str], name: str
) -> None:
    with NotesEnvPool(rendezvous.url, num_envs=2, message_timeout_s=1) as pool:
        with patient(*pool.sessions):
            pool.reset()
        with patient(pool.sessions[1]):  # a busy server may need more than a second
            late, in_time = pool.step(_actions(f"hold {name}", "at once"))
        assert isinstance(late.error, ReplyTimeoutError)
        assert in_time.observation.text == "at once"
        other(f"release {name}")


def test_a_refused_session_does_not_affect_the_one_with_the_slot(
    one_session_server: Any,
) -> None:
    with NotesEnvPool(one_session_server.url, num_envs=2, capacity_wait_s=0) as pool:
        results = pool.reset()
        errors = [result.error for result in results if result.error is not None]
        assert [type(error) for error in errors] == [CapacityReachedError]


class _OpenWhenAllAreHere(socketserver.BaseRequestHandler):
    """Relays to a server, once three clients have connected."""

    def handle(self) -> None:
        together, server = self.server.together, self.server.relays_to  # type: ignore[attr-defined]
        together.wait(_PATIENCE_S)
        with socket.create_connection(("127.0.0.1", server)) as upstream:
            back = threading.Thread(target=self._relay, args=(upstream, self.request))
            back.start()
            self._relay(self.request, upstream)
            back.join()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_sessions_connect_at_the_same_time(server: Any) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OpenWhenAllAreHere) as relay:
        relay.together, relay.relays_to = threading.Barrier(3), server.port  # type: ignore[attr-defined]
        threading.Thread(target=relay.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{relay.server_address[1]}"
        with NotesEnvPool(url, num_envs=3, connect_timeout_s=_PATIENCE_S) as pool:
            assert [result.error for result in pool.reset()] == [None] * 3
            assert _echoes(pool.step(_actions("a", "b", "c"))) == ["a", "b", "c"]
        relay.shutdown()


def test_an_invalid_action_leaves_every_episode_where_it_was(pool: NotesEnvPool) -> None:
    pool.reset()
    invalid: Any = [NoteAction(text="a"), NoteAction(text="b"), 7]
    with pytest.raises(InvalidActionError):
        pool.step(invalid)
    assert [session.state().step_count for session in pool.sessions] == [0, 0, 0]


@pytest.mark.parametrize("only", [[0, 0], [0, -3], [3], [-4], [0.0], ["0"], "0", 0, [None]])
def test_what_names_no_sessions_is_refused(pool: NotesEnvPool, only: Any) -> None:
    pool.reset()
    actions = _actions("a", "b")[: len(only) if isinstance(only, list) else 1]
    for call in (lambda: pool.step(actions, only=only), lambda: pool.reset(only=only)):
        with pytest.raises(UsageError, match="`only` must have indices of 3 sessions"):
            call()
    results = pool.step(_actions("a", "b"), only=[True, -1])
    assert [result.metadata["step"] for result in results] == [1, 1]
    assert [session.state().step_count for session in pool.sessions] == [0, 1, 1]


@pytest.mark.parametrize("actions", [None, NoteAction(text="a"), 7])
def test_what_is_no_list_of_actions_is_refused(pool: NotesEnvPool, actions: Any) -> None:
    text = f"`actions` must have one value for each of 3 sessions, not {type(actions).__name__}"
    for take in (pool.step, pool.step_as_completed):
        with pytest.raises(UsageError, match=text):
            take(actions)
    assert pool.sessions[0].status == "unused"


def test_the_number_of_values_is_that_of_the_sessions(pool: NotesEnvPool) -> None:
    with pytest.raises(UsageError, match=r"`actions` must have .* each of 3 sessions, not 1"):
        pool.step(_actions("a"))
    with pytest.raises(UsageError, match=r"`seed` must have .* each of 3 sessions, not 2"):
        pool.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="1 or more"):
        NotesEnvPool(pool.sessions[0].base_url, num_envs=0)


def test_a_pool_may_be_closed_again_and_used_after_it(pool: NotesEnvPool) -> None:
    pool.reset()
    pool.close()
    pool.close()
    pool.reset()
    assert _echoes(pool.step(_actions("a", "b", "c"))) == ["a", "b", "c"]


def test_a_pool_can_wait_for_a_server_at_capacity(start_server: Callable[..., Any]) -> None:
    url = start_server(env={"MAX_CONCURRENT_ENVS": "2"}).url
    with NotesEnvPool(url, num_envs=3, capacity_wait_s=0.2) as pool:
        errors = [result.error for result in pool.reset()]
        (refused,) = [number for number in range(3) if errors[number] is not None]
        assert isinstance(errors[refused], CapacityReachedError)
        pool.sessions[refused - 1].close()  # any other
        assert pool.reset(only=[refused])[0].error is None


def test_the_repr_of_a_pool_counts_its_sessions_by_state(server: Any) -> None:
    pool = NotesEnvPool(f"{server.url}?key=s3cret", num_envs=3)
    assert repr(pool) == f"<NotesEnvPool {server.url}: sessions 3 unused>"
    pool = NotesEnvPool(server.url, num_envs=3)
    pool.reset(only=[0, 2])
    assert repr(pool) == f"<NotesEnvPool {server.url}: sessions 2 open, 1 unused>"
    pool.close()
    assert repr(pool) == f"<NotesEnvPool {server.url}: sessions 3 closed>"


# On a running loop.


def test_an_awaited_pool_has_the_same_results(server: Any) -> None:
    async def main() -> None:
        async with NotesEnvPool(server.url, num_envs=3) as pool:
            assert [result.reward for result in await pool.reset(seed=[1, 2, 3])] == [0.0] * 3
            results = await pool.step(_actions("a", "b", "c"))
            assert isinstance(results, list)
            assert _echoes(results) == ["a", "b", "c"]
            assert (await pool.step(_actions("d"), only=[1]))[0].metadata["step"] == 2
            came = {
                index: result.observation.text
                async for index, result in pool.step_as_completed(_actions("x", "y", "z"))
            }
            assert came == {0: "x", 1: "y", 2: "z"}

    asyncio.run(main())


def test_awaiting_a_pool_does_not_block_the_loop(
    rendezvous: Any, other: Callable[[str], str], name: str
) -> None:
    async def main() -> None:
        async with NotesEnvPool(rendezvous.url, num_envs=2) as pool:
            step = asyncio.ensure_future(pool.step(_actions(f"hold {name}", "at once")))
            await asyncio.to_thread(other, f"held {name}")
            assert not step.done()
            await asyncio.to_thread(other, f"release {name}")
            assert _echoes(await step) == [f"hold {name}", "at once"]
            coming = pool.step_as_completed(_actions(f"hold 2 {name}", "at once"))
            async for index, result in coming:
                assert (index, result.observation.text) == (1, "at once")
                break
            await asyncio.to_thread(other, f"release 2 {name}")

    asyncio.run(main())


def test_results_of_a_pool_may_be_read_or_left_unread_on_a_loop(server: Any) -> None:
    async def main() -> None:
        pool = NotesEnvPool(server.url, num_envs=3)
        pool.reset()
        unread = pool.step(_actions("a", "b", "c"))
        results = pool.step(_actions("d", "e", "f"))
        assert len(results) == 3
        assert _echoes(results) == ["d", "e", "f"]
        assert [result.metadata["step"] for result in results] == [2, 2, 2]
        assert _echoes(await unread) == _echoes(unread) == ["a", "b", "c"]
        with pool:
            assert isinstance(pool.step(_actions("g", "h", "i")), list)

    asyncio.run(main())


def test_errors_in_an_awaited_pool_stay_in_their_results(one_session_server: Any) -> None:
    async def main() -> None:
        async with NotesEnvPool(one_session_server.url, num_envs=2, capacity_wait_s=0) as pool:
            errors = [result.error for result in await pool.reset()]
            assert [type(error) for error in errors if error] == [CapacityReachedError]

    asyncio.run(main())
