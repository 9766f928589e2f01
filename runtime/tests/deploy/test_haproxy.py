# SPDX-License-Identifier: BSD-3-Clause
"""`stepwire.deploy.haproxy`: real HAProxy programs with its configuration, before real servers."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from waiting import wait_until

from behind_haproxy import Cluster
from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import ConnectFailedError, EnvClientError, SessionLostError
from stepwire.conformance.conversation import Conversation
from stepwire.deploy.haproxy import Options, configuration, main
from stepwire.server import Settings
from stepwire.testing.servers import Server

_SERVERS, _PLACES = 4, 5
_NOTE = NoteAction(text="Hi")
_PATIENCE_S = 60.0


def test_the_command_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    main(["10.0.0.1:8000", "[fd00::2]:8000", "--places", "200", "--queue-timeout", "5"])
    expected = Options(["10.0.0.1:8000", "[fd00::2]:8000"], places=200, queue_timeout=5)
    assert capsys.readouterr().out == configuration(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "HOST:PORT, --places"),
        (["10.0.0.1", "--places", "1"], "must be HOST:PORT, not '10.0.0.1'"),
        (["a:1\n b", "--places", "1"], r"must be HOST:PORT, not 'a:1\n b'"),
        (["a:1", "--places", "0"], "must be 1 to 9999999, not '0'"),
        (["a:1", "--places", "1", "--prefix", "echo"], "must be a path such as /echo, not 'echo'"),
        (["a:1", "--places", "1", "--certificate", "a b"], "without spaces, not 'a b'"),
        (["a:1", "--places", "1", "--listen", "80"], "must be HOST:PORT, not '80'"),
    ],
)
def test_a_bad_value_is_refused_by_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_idle_connections_are_purged_before_the_server_closes_them() -> None:
    purged_s = int(configuration(Options(["a:1"], 1)).split("pool-purge-delay ")[1].split("s")[0])
    assert 2 * purged_s < Settings.model_fields["keep_alive_timeout_s"].default


def _received(server: Server) -> float:
    """How many bytes of messages a server has received."""
    metrics = requests.get(f"{server.url}/metrics", timeout=_PATIENCE_S).text
    return float(metrics.partition("\nstepwire_received_bytes_total ")[2].partition("\n")[0])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four servers with five places each. Tests leave all of them running, without sessions."""
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, _SERVERS, _PLACES) as cluster:
        yield cluster


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[NotesEnvPool]:
    """As many sessions as there are places, opened at once."""
    with NotesEnvPool(cluster.url, cluster.places, connect_timeout_s=_PATIENCE_S) as pool:
        for result in pool.reset():
            assert result.error is None
        yield pool
    wait_until(lambda: cluster.sessions() == [0] * _SERVERS)


@pytest.mark.operating
class TestBehindHaproxy:
    def test_one_by_one_no_session_is_refused_while_a_place_is_free(self, cluster: Cluster) -> None:
        with NotesEnvPool(cluster.url, cluster.places, connect_timeout_s=_PATIENCE_S) as pool:
            for count in range(1, cluster.places + 1):
                (result,) = pool.reset(only=[count - 1])
                assert result.error is None
                assert max(cluster.sessions()) == -(-count // _SERVERS)

    def test_beyond_the_last_place_clients_wait(self, cluster: Cluster, pool: NotesEnvPool) -> None:
        assert cluster.sessions() == [_PLACES] * _SERVERS
        with NotesEnvPool(cluster.url, cluster.places, connect_timeout_s=_PATIENCE_S) as later:
            with ThreadPoolExecutor() as thread:
                results = thread.submit(later.reset)
                wait_until(lambda: cluster.waiting == cluster.places)
                pool.close()
                assert [result.error for result in results.result()] == [None] * cluster.places
            for result in later.step([_NOTE] * cluster.places):
                assert result.observation.text == "Hi"

    def test_a_client_that_stops_waiting_leaves_the_queue(
        self, cluster: Cluster, pool: NotesEnvPool
    ) -> None:
        with pytest.raises(ConnectFailedError, match=r"no answer within 0\.5 s"):
            NotesEnv(cluster.url, connect_timeout_s=0.5).sync().reset()
        wait_until(lambda: cluster.waiting == 0)

    def test_requests_are_answered_while_all_places_are_taken(
        self, cluster: Cluster, pool: NotesEnvPool
    ) -> None:
        for _ in range(2 * _SERVERS):
            answer = requests.post(f"{cluster.url}/reset", json={}, timeout=_PATIENCE_S)
            assert answer.status_code == 200

    def test_with_churn_no_session_is_refused(self, cluster: Cluster) -> None:
        """Twice as many clients as places, which leave in either way and come back at once."""

        async def one(number: int) -> int:
            done = 0
            for episode in range(10):
                env = NotesEnv(cluster.url, connect_timeout_s=_PATIENCE_S)
                await env.reset()
                await env.step(_NOTE)
                if (number + episode) % 2:
                    await env.close()
                else:
                    await env.disconnect()
                done += 1
            return done

        async def all_of_them() -> list[int]:
            return await asyncio.gather(*map(one, range(2 * cluster.places)))

        assert set(asyncio.run(all_of_them())) == {10}

    def test_a_server_that_is_killed_loses_only_its_own_sessions(
        self, cluster: Cluster, pool: NotesEnvPool
    ) -> None:
        pool.reset(scenario={"delay_s": 10.0})
        killed = cluster.servers[1]
        before = _received(killed)
        with ThreadPoolExecutor() as thread:
            results = thread.submit(pool.step, [_NOTE] * cluster.places)
            wait_until(lambda: _received(killed) > before)  # a step
            killed.process.kill()
            errors = [result.error for result in results.result()]
        assert Counter(map(type, errors)) == {
            type(None): cluster.places - _PLACES,
            SessionLostError: _PLACES,
        }
        lost = [index for index, error in enumerate(errors) if error]
        # Their places are gone with the server: they come back when it does.
        with ThreadPoolExecutor() as thread:
            again = thread.submit(pool.reset, only=lost)
            cluster.restart(1)
            assert [result.error for result in again.result()] == [None] * _PLACES

    def test_a_server_that_falls_silent_loses_only_its_own_sessions(
        self, cluster: Cluster, pool: NotesEnvPool
    ) -> None:
        """As when its machine is lost: its connections stay open, and nothing answers."""
        process = cluster.servers[2].process
        os.kill(process.pid, signal.SIGSTOP)
        errors = [result.error for result in pool.step([_NOTE] * cluster.places)]
        assert Counter(map(type, errors)) == {
            type(None): cluster.places - _PLACES,
            SessionLostError: _PLACES,
        }
        process.kill()
        cluster.restart(2)

    def test_a_rolling_restart_under_load_has_no_untyped_error(self, cluster: Cluster) -> None:
        """Each server stops and starts again, while all clients play."""
        clients = cluster.places - _PLACES
        stop = threading.Event()
        episodes, errors = 0, Counter[str]()

        async def one() -> None:
            nonlocal episodes
            env = NotesEnv(cluster.url, connect_timeout_s=_PATIENCE_S)
            while not stop.is_set():
                try:
                    await env.reset(scenario={"delay_s": 0.02})
                    for _ in range(10):
                        await env.step(_NOTE)
                    episodes += 1
                except EnvClientError as error:
                    errors[f"{type(error).__name__}: {error}"] += 1
            await env.close()

        async def play() -> None:
            await asyncio.gather(*(one() for _ in range(clients)))

        with ThreadPoolExecutor() as thread:
            playing = thread.submit(asyncio.run, play())
            try:
                for index in range(_SERVERS):
                    cluster.restart(index)
            finally:
                stop.set()
            playing.result()
        assert episodes > clients
        # Each client may lose the session that it has on a server which stops, and no other.
        others = [text for text in errors if not text.startswith("SessionLostError")]
        assert others == []
        assert errors.total() <= _SERVERS * _PLACES

    def test_a_session_opened_over_mcp_is_reached(self, cluster: Cluster) -> None:
        def call(method: str, **params: object) -> dict[str, object]:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = requests.post(f"{cluster.url}/mcp", json=request, timeout=_PATIENCE_S)
            result: dict[str, object] = answer.json()["result"]
            return result

        ids = [call("openenv/session/create")["session_id"] for _ in range(2 * _SERVERS)]
        for session_id in ids:
            for _ in range(2):
                assert call("tools/list", session_id=session_id)["tools"]
            address = f"ws{cluster.url.removeprefix('http')}/ws?session_id={session_id}"
            with Conversation.open(address) as conversation:
                assert conversation.step(text="Hi")["type"] == "observation"
        for session_id in ids:
            call("openenv/session/close", session_id=session_id)
        wait_until(lambda: cluster.sessions() == [0] * _SERVERS)

    def test_an_episode_over_http_goes_on_at_any_server(self, cluster: Cluster) -> None:
        with requests.Session() as client:
            client.post(f"{cluster.url}/reset", json={}, timeout=_PATIENCE_S)
            for step in range(1, 2 * _SERVERS):
                body = {"action": {"text": "Hi"}}
                answer = client.post(f"{cluster.url}/step", json=body, timeout=_PATIENCE_S)
                assert answer.json()["metadata"]["step"] == step
