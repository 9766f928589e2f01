# SPDX-License-Identifier: BSD-3-Clause
"""Pools over several servers: where sessions are opened, the queue, and servers that die."""

import asyncio
import resource
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import (
    CapacityReachedError,
    ConnectFailedError,
    InvalidOptionError,
    LostEpisodesError,
    SessionLostError,
    UsageError,
)
from stepwire.client.server_places import places_of
from stepwire.testing.servers import PATIENCE_S

_HERE = Path(__file__).parent
_PLACES = 3
_NOWHERE = "http://127.0.0.1:9"  # where nothing listens

Face = Callable[[Callable[[], Any]], Any]


def _awaited(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await call()

    return asyncio.run(main())


@pytest.fixture(params=[lambda call: call(), _awaited], ids=["blocking", "awaited"])
def perform(request: pytest.FixtureRequest) -> Any:
    """Performs a call of a pool: `perform(lambda: pool.reset())`."""
    return request.param


@pytest.fixture(scope="module")
def ours(start_shared_server: Callable[..., Any]) -> list[Any]:
    """Two of our servers with three places each. Tests end the sessions that they open."""
    return [start_shared_server(env={"MAX_CONCURRENT_ENVS": str(_PLACES)}) for _ in range(2)]


@pytest.fixture(scope="module")
def stock(start_shared_server: Callable[..., Any]) -> Any:
    """The framework's own server with three places, of which it does not tell."""
    application = _HERE / "stock_server.py"
    return start_shared_server(application=application, env={"STOCK_PLACES": str(_PLACES)})


@pytest.fixture
def start_three(start_server: Callable[..., Any]) -> Callable[[], list[Any]]:
    """Starts three servers whose steps can be held."""
    return lambda: [start_server(application=_HERE / "rendezvous_server.py") for _ in range(3)]


@pytest.fixture(autouse=True)
def _no_session_is_left(request: pytest.FixtureRequest, ours: list[Any]) -> Iterator[None]:
    yield
    for server in ours:
        wait_until(lambda server=server: _active(server) == 0)
    for name in {"stock", "stock_server"} & {*request.fixturenames}:
        server = request.getfixturevalue(name)
        wait_until(lambda server=server: _told(server, "taken") == 0)


@pytest.fixture(autouse=True)
def _servers_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwire.client.servers._LOOK_TIMEOUT_S", PATIENCE_S)


def _told(server: Any, name: str) -> Any:
    return requests.get(f"{server.url}/{name}", timeout=PATIENCE_S).json()


def _active(server: Any) -> int:
    active: int = _told(server, "sessions")["active_sessions"]
    return active


def _urls(*servers: Any) -> list[str]:
    return [server.url for server in servers]


def _actions(pool: NotesEnvPool, text: str = "note") -> list[NoteAction]:
    return [NoteAction(text=text)] * len(pool)


def _errors(results: Any) -> list[Any]:
    return [type(result.error) for result in results if result.error is not None]


def _spread(pool: NotesEnvPool) -> Counter[str | None]:
    return Counter(session.base_url for session in pool.sessions if session.status == "open")


# Places.


def test_sessions_are_opened_where_most_places_are_free(ours: list[Any], perform: Face) -> None:
    busy, idle = ours
    with NotesEnvPool(busy.url, 2) as other, closing(NotesEnvPool(_urls(busy, idle), 4)) as pool:
        other.reset()
        assert not _errors(perform(lambda: pool.reset(seed=[1, 2, 3, 4])))
        assert _spread(pool) == {busy.url: 1, idle.url: 3}
        assert not _errors(perform(lambda: pool.step(_actions(pool))))
        assert (_active(busy), _active(idle)) == (3, 3)


def test_a_stock_server_is_filled_and_then_left_alone(
    ours: list[Any], stock: Any, perform: Face
) -> None:
    # It tells nothing, so it is tried: six of nine places are known.
    with closing(NotesEnvPool(_urls(stock, *ours), 9)) as pool:
        assert not _errors(perform(pool.reset))
        assert set(_spread(pool).values()) == {_PLACES}
        assert not _errors(perform(lambda: pool.step(_actions(pool))))


def test_stock_servers_take_turns(stock: Any, stock_server: Any, perform: Face) -> None:
    with closing(NotesEnvPool(_urls(stock, stock_server), 4)) as pool:
        assert not _errors(perform(pool.reset))
        assert _spread(pool) == {stock.url: 2, stock_server.url: 2}


def test_a_server_that_is_not_there_does_not_matter(ours: list[Any], perform: Face) -> None:
    with closing(NotesEnvPool([_NOWHERE, *_urls(*ours)], 4)) as pool:
        assert not _errors(perform(pool.reset))
        assert set(_spread(pool)) == set(_urls(*ours))


@pytest.mark.slow
def test_a_server_that_hangs_gets_no_sessions(
    start_server: Callable[..., Any], ours: list[Any], perform: Face
) -> None:
    hanging = start_server()
    hanging.process.send_signal(signal.SIGSTOP)
    try:
        options = {"connect_timeout_s": 5.0}  # which the look keeps, too
        with closing(NotesEnvPool([hanging.url, ours[0].url], 2, **options)) as pool:
            assert not _errors(perform(pool.reset))
            assert _spread(pool) == {ours[0].url: 2}
    finally:
        hanging.process.send_signal(signal.SIGCONT)


def test_a_stopping_server_gets_no_sessions(
    start_server: Callable[..., Any], ours: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = start_server(env={"SHUTDOWN_GRACE_S": "60"})
    # The server ends once its clients have answered its close frames.
    monkeypatch.setattr("stepwire.client.keepalive.answer_all", lambda: None)
    with (
        NotesEnvPool(stopping.url, 1) as other,
        NotesEnvPool([stopping.url, ours[0].url], 2) as pool,
    ):
        other.reset()
        stopping.process.send_signal(signal.SIGTERM)
        wait_until(lambda: requests.get(f"{stopping.url}/ready", timeout=60).status_code == 503)
        assert not _errors(pool.reset())
        assert _spread(pool) == {ours[0].url: 2}


def test_no_server_at_all_is_an_error_at_once(perform: Face) -> None:
    with closing(NotesEnvPool([_NOWHERE, "http://127.0.0.1:7"], 2)) as pool:
        assert _errors(perform(pool.reset)) == [ConnectFailedError] * 2


def test_the_addresses_are_checked() -> None:
    with pytest.raises(InvalidOptionError, match="base_url"):
        NotesEnvPool([], 2)
    with pytest.raises(InvalidOptionError, match="base_url must be an address"):
        NotesEnvPool(["http://localhost:8000", "ftp://localhost"], 2)
    with pytest.raises(InvalidOptionError, match="max_lost_episodes"):
        NotesEnvPool("http://localhost:8000", 2, max_lost_episodes=-1)
    pool = NotesEnvPool([f"http://user:s3cret@host{i}" for i in range(5)], 2)
    assert repr(pool) == (
        "<NotesEnvPool http://host0, http://host1, http://host2 and 2 more: sessions 2 unused>"
    )


def test_a_server_tells_its_places_to_who_may_know(
    ours: list[Any], stock: Any, server_with_a_token: Any, token: str
) -> None:
    assert places_of(ours[0].ws_url, {}, 60) == (0, _PLACES)
    assert places_of(stock.ws_url, {}, 60) is None
    assert places_of(server_with_a_token.ws_url, {}, 60) is None
    with_token = places_of(server_with_a_token.ws_url, {"Authorization": f"Bearer {token}"}, 60)
    assert with_token is not None
    assert with_token.free > 0
    with pytest.raises(OSError, match="refused"):
        places_of("ws://127.0.0.1:9/ws", {}, 60)


# The queue.


@pytest.mark.parametrize("kinds", ["ours", "stock", "one address"])
def test_sessions_wait_until_places_are_free(
    ours: list[Any], stock: Any, perform: Face, kinds: str
) -> None:
    servers = {"ours": ours, "stock": [stock, ours[0]], "one address": [stock]}[kinds]
    places = _PLACES * len(servers)
    with (
        NotesEnvPool(_urls(*servers), places) as holder,
        closing(NotesEnvPool(_urls(*servers), places)) as pool,
        ThreadPoolExecutor(1) as thread,
    ):
        assert not _errors(holder.reset())
        waiting = thread.submit(perform, pool.reset)
        for session in holder.sessions:
            session.close()
        assert not _errors(waiting.result())
        assert set(_spread(pool).values()) == {_PLACES}


def test_the_wait_has_an_end(ours: list[Any], perform: Face) -> None:
    with NotesEnvPool(_urls(*ours), 2 * _PLACES) as holder:
        holder.reset()
        with closing(NotesEnvPool(_urls(*ours), 2, capacity_wait_s=0.1)) as pool:
            for result in perform(pool.reset):
                assert isinstance(result.error, CapacityReachedError)
                assert (result.error.active_sessions, result.error.max_sessions) == (6, 6)
                assert "within 0.1 s: 6 of 6" in str(result.error)


def test_sessions_that_wait_do_not_hold_up_the_others(stock: Any) -> None:
    with (
        NotesEnvPool(stock.url, _PLACES - 1) as holder,
        NotesEnvPool(stock.url, 2) as pool,
    ):
        holder.reset()
        coming = pool.step_as_completed(_actions(pool))
        next(coming)
        holder.sessions[0].close()
        next(coming)


@pytest.mark.slow
def test_more_sessions_than_places_take_turns(ours: list[Any], stock: Any) -> None:
    refused: list[Any] = []

    def train(_: int) -> None:
        with NotesEnvPool(_urls(stock, *ours), 4, capacity_wait_s=PATIENCE_S) as pool:
            for _ in range(3):
                for index in range(len(pool)):
                    refused.extend(_errors(pool.reset(only=[index])))
                    refused.extend(_errors(pool.step(_actions(pool)[:1], only=[index])))
                    pool.sessions[index].close()

    with ThreadPoolExecutor(12) as threads:  # nine places
        list(threads.map(train, range(12)))
    assert refused == []


# Servers that die.


def _kill_once_held(server: Any) -> None:
    with NotesEnv(server.url) as other:
        other.reset()
        other.step(NoteAction(text="held x"))
        server.process.kill()


@pytest.mark.slow
def test_a_killed_server_loses_its_own_sessions_only(
    start_three: Callable[[], list[Any]], perform: Face
) -> None:
    servers = start_three()
    seeds = [10, 11, 12, 13, 14, 15]
    with closing(NotesEnvPool(_urls(*servers), 6)) as pool:
        perform(lambda: pool.reset(seed=seeds, episode_id=[f"e{seed}" for seed in seeds]))
        perform(lambda: pool.step(_actions(pool)))
        dead = servers[1]
        on_dead = [i for i, each in enumerate(pool.sessions) if each.base_url == dead.url]
        # Their steps are under way and would never end.
        texts = ["hold x" if i in on_dead else "note" for i in range(6)]
        with ThreadPoolExecutor(1) as thread:
            killing = thread.submit(_kill_once_held, dead)
            results = perform(lambda: pool.step([NoteAction(text=text) for text in texts]))
            killing.result()
        errors = [result.error for result in results]
        assert [i for i in range(6) if errors[i]] == on_dead == pool.lost
        assert all(isinstance(errors[i], SessionLostError) for i in on_dead)
        told = sorted(pool.lost_episodes, key=lambda lost: lost.index)
        for i, lost in zip(on_dead, told, strict=True):
            assert (lost.index, lost.server, lost.seed, lost.steps) == (i, dead.url, seeds[i], 1)
            assert lost.episode_id == f"e{seeds[i]}"
            assert lost.reason
        again = perform(lambda: pool.reset(only=pool.lost, seed=[seeds[i] for i in on_dead]))
        assert not _errors(again)
        assert pool.lost == []
        assert set(_spread(pool)) == {servers[0].url, servers[2].url}
        results = perform(lambda: pool.step(_actions(pool)))
        steps = [result.metadata["step"] for result in results]
        assert steps == [1 if i in on_dead else 3 for i in range(6)]
        assert [session.state().seed for session in pool.sessions] == seeds
        assert len(pool.lost_episodes) == len(on_dead)


@pytest.mark.slow
def test_a_loss_between_two_calls_is_noticed(start_three: Callable[[], list[Any]]) -> None:
    servers = start_three()
    with NotesEnvPool(_urls(*servers), 3, max_lost_episodes=1) as pool:
        pool.reset()
        assert pool.lost == []
        servers[0].process.kill()
        wait_until(lambda: pool.lost)
        (lost,) = pool.lost_episodes
        assert (lost.server, lost.steps) == (servers[0].url, 0)
        assert _errors(pool.step(_actions(pool))) == [SessionLostError]
        assert not _errors(pool.reset(only=pool.lost))
        for server in servers[1:]:
            server.process.kill()
        wait_until(lambda: len(pool.lost) == 3)
        with pytest.raises(LostEpisodesError, match="max_lost_episodes=1") as raised:
            pool.reset(only=pool.lost)
        assert (raised.value.limit, raised.value.episodes) == (1, pool.lost_episodes)


@pytest.mark.slow
def test_a_server_that_restarts_is_waited_for(
    start_server: Callable[..., Any], perform: Face
) -> None:
    first = start_server()
    with (
        closing(NotesEnvPool(first.url, 2, capacity_wait_s=PATIENCE_S)) as pool,
        ThreadPoolExecutor(1) as thread,
    ):
        perform(pool.reset)
        first.process.kill()
        first.process.wait()
        assert _errors(perform(lambda: pool.step(_actions(pool)))) == [SessionLostError] * 2
        waiting = thread.submit(perform, lambda: pool.reset(only=pool.lost))
        start_server(port=first.port)
        assert not _errors(waiting.result())
        assert not _errors(perform(lambda: pool.step(_actions(pool))))


def test_reading_while_another_session_looks_for_a_place_is_an_error() -> None:
    async def main(addresses: list[str]) -> None:
        pool = NotesEnvPool(addresses, 2, connect_timeout_s=2)
        unread = pool.reset(only=[0])
        looking = asyncio.ensure_future(_of(pool.reset(only=[1])))
        await asyncio.sleep(0.1)  # also after the time in which the loop performs what is unread
        with pytest.raises(UsageError, match="Await the result instead"):
            _ = unread[0]
        (result,) = await looking
        assert isinstance(result.error, ConnectFailedError)

    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        asyncio.run(main([f"ws://127.0.0.1:{one.getsockname()[1]}" for one in silent]))


async def _of(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.load
def test_eighteen_thousand_sessions_on_two_servers(start_server: Callable[..., Any]) -> None:
    """None is refused up to the last place, and none is lost."""
    each, several_minutes = 9000, 300.0
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 < files < 2 * each + 500:
        pytest.skip(f"a process may have {files} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # the servers inherit it
    variables = {"MAX_CONCURRENT_ENVS": str(each), "LOG_LEVEL": "warning"}
    variables["WS_PING_TIMEOUT_S"] = "300"
    servers = [start_server(env=variables) for _ in range(2)]
    with NotesEnvPool(
        [server.url for server in servers],
        2 * each,
        connect_timeout_s=several_minutes,
        message_timeout_s=several_minutes,
        capacity_wait_s=several_minutes,
    ) as pool:
        assert Counter(type(result.error) for result in pool.reset()) == {type(None): 2 * each}
        assert [_active(server) for server in servers] == [each, each]
        results = pool.step([NoteAction(text=str(index)) for index in range(2 * each)])
        assert [result.observation.text for result in results] == list(map(str, range(2 * each)))
    for server in servers:
        wait_until(lambda server=server: _active(server) == 0, several_minutes)
        assert "Traceback" not in server.log
