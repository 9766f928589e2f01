# SPDX-License-Identifier: BSD-3-Clause
"""`stepwire.integrations.ray_serve`: Ray Serve with four replicas on two nodes of one machine."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from waiting import wait_until

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import ConnectFailedError, EnvClientError, SessionLostError
from stepwire.conformance.conversation import Conversation
from stepwire.testing.servers import reserved_port

pytestmark = pytest.mark.ray

_REPLICAS, _PLACES = 4, 5
_ALL = _REPLICAS * _PLACES
_NOTE = NoteAction(text="Hi")
_PATIENCE_S = 300.0
_ARGUMENTS = [
    "application=notes_env.app:app",
    f"replicas={_REPLICAS}",
    f"places={_PLACES}",
    "drain_s=1",
]
_VARIABLES = {
    "python": {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
    "haproxy": {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        # After a reload, HAProxy does not count older sessions: `leastconn` sends clients to the
        # replicas that are full, again and again.
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "roundrobin",
        # For each replica that stops, Serve waits 30 seconds by default.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    },
}


class Serve:
    """Ray Serve in a process; `proxy` is `python` or `haproxy`."""

    def __init__(self, proxy: str, port: int, log: Path) -> None:
        self.proxy = proxy
        self.connect_timeout_s = _PATIENCE_S if proxy == "python" else 2.0
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        script = Path(__file__).parents[1] / "ray_cluster.py"
        folders = [script.parent, script.parents[1]]  # of `notes_env` and `stepwire`
        variables = {"PYTHONPATH": os.pathsep.join(map(str, folders)), **_VARIABLES[proxy]}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, script, str(port), *_ARGUMENTS],
                env=os.environ | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        self._wait_for("started")

    def do(self, command: str) -> None:
        """Return when the command of `ray_cluster.py` is done."""
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        self._wait_for(command)

    def stop(self) -> None:
        self._process.communicate()

    def _wait_for(self, answer: str) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        assert json.loads(line) == answer


@pytest.fixture(scope="module", params=_VARIABLES)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """Tests leave the replicas running, without sessions."""
    with reserved_port() as port:
        serve = Serve(request.param, port, tmp_path_factory.mktemp("ray") / "log")
        yield serve
        serve.stop()


@pytest.fixture
def pool(served: Serve) -> Iterator[NotesEnvPool]:
    """As many sessions as there are places, opened one by one."""
    with NotesEnvPool(served.url, _ALL, connect_timeout_s=served.connect_timeout_s) as pool:
        for index in range(_ALL):
            _open(served, pool, [index])
        yield pool


def _open(served: Serve, pool: NotesEnvPool, indices: list[int]) -> None:
    """Behind HAProxy, a client may wait at a full replica; it finds a free place on a later try.

    After a kill, the place is at a replica that has yet to start.
    """
    deadline = time.monotonic() + 3 * _PATIENCE_S
    while indices:
        results = pool.reset(only=indices)
        indices = [index for index, result in zip(indices, results, strict=True) if result.error]
        assert not indices or served.proxy == "haproxy"
        assert time.monotonic() < deadline, f"no place for {indices}"


def test_no_session_is_refused_one_by_one(pool: NotesEnvPool) -> None:
    for result in pool.step([_NOTE] * _ALL):
        assert result.observation.text == "Hi"


def test_no_session_is_refused_at_once(served: Serve) -> None:
    for _ in range(3):
        with NotesEnvPool(served.url, _ALL, connect_timeout_s=served.connect_timeout_s) as pool:
            _open(served, pool, list(range(_ALL)))


def test_beyond_the_last_place_clients_wait(served: Serve, pool: NotesEnvPool) -> None:
    """A client that stops waiting leaves no session behind."""
    with pytest.raises(ConnectFailedError, match=r"no answer within 0\.5 s"):
        NotesEnv(served.url, connect_timeout_s=0.5).sync().reset()
    with (
        NotesEnvPool(served.url, _ALL, connect_timeout_s=_PATIENCE_S) as later,
        ThreadPoolExecutor() as thread,
    ):
        results = thread.submit(later.reset)
        pool.close()
        assert [result.error for result in results.result()] == [None] * _ALL


def test_with_churn_no_session_is_refused(served: Serve) -> None:
    """Twice as many clients as places, which leave in either way and come back at once."""

    async def one(number: int) -> None:
        for episode in range(10):
            env = NotesEnv(served.url, connect_timeout_s=_PATIENCE_S)
            await env.reset()
            await env.step(_NOTE)
            await (env.close() if (number + episode) % 2 else env.disconnect())

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(2 * _ALL)))

    asyncio.run(all_of_them())


def test_an_episode_over_http_goes_on_at_any_replica(served: Serve) -> None:
    with requests.Session() as client:
        client.post(f"{served.url}/reset", json={}, timeout=_PATIENCE_S)
        for step in range(1, 5 * _REPLICAS):
            body = {"action": {"text": "Hi"}}
            answer = client.post(f"{served.url}/step", json=body, timeout=_PATIENCE_S)
            assert answer.json()["metadata"]["step"] == step


def test_bad_messages_get_the_same_errors(served: Serve) -> None:
    address = f"ws{served.url.removeprefix('http')}/ws"
    with Conversation.open(address) as conversation:
        assert conversation.step(nothing=1)["data"]["code"] == "VALIDATION_ERROR"
        assert conversation.step(text="Hi")["type"] == "observation"
    with pytest.raises(SessionLostError):
        NotesEnv(served.url).sync().step(NoteAction(text="x" * 17_000_000))


def test_a_replica_that_is_killed_loses_only_its_own_sessions(
    served: Serve, pool: NotesEnvPool
) -> None:
    pool.reset(scenario={"delay_s": 30.0})  # longer than the kill takes
    with ThreadPoolExecutor() as thread:
        results = thread.submit(pool.step, [_NOTE] * _ALL)
        served.do("kill a replica")
        errors = [result.error for result in results.result()]
    assert Counter(map(type, errors)) == {type(None): _ALL - _PLACES, SessionLostError: _PLACES}
    # Their places are gone with the replica. They come back with the next one.
    _open(served, pool, [index for index, error in enumerate(errors) if error])


def test_deploying_again_has_no_untyped_error(served: Serve) -> None:
    """Serve replaces each replica while clients play, as many as leave it one to replace."""
    stop = threading.Event()
    episodes, errors = 0, Counter[str]()

    async def one() -> None:
        nonlocal episodes
        env = NotesEnv(served.url, connect_timeout_s=_PATIENCE_S)
        while not stop.is_set():
            try:
                await env.reset(scenario={"delay_s": 0.02})
                for _ in range(10):
                    await env.step(_NOTE)
                episodes += 1
            except EnvClientError as error:
                errors[type(error).__name__] += 1
        await env.close()

    async def play() -> None:
        await asyncio.gather(*(one() for _ in range(_ALL - _PLACES)))

    with ThreadPoolExecutor() as thread:
        playing = thread.submit(asyncio.run, play())
        try:
            served.do("deploy again")
        finally:
            stop.set()
        playing.result()
    assert episodes > _ALL
    assert errors["SessionLostError"] <= 2 * _ALL
    if served.proxy == "python":
        assert set(errors) == {"SessionLostError"}


def test_a_node_that_is_lost_loses_only_its_own_sessions(served: Serve, pool: NotesEnvPool) -> None:
    """Last: no node takes its place."""
    served.do("remove a node")
    # A replica ends when it notices that its node has ended.
    wait_until(lambda: _lost(pool) >= _ALL // 2, _PATIENCE_S)
    assert _lost(pool) == _ALL // 2


def _lost(pool: NotesEnvPool) -> int:
    """Sessions that are lost now; all others take a step."""
    errors = Counter(type(result.error) for result in pool.step([_NOTE] * _ALL))
    assert set(errors) <= {type(None), SessionLostError}
    return errors[SessionLostError]
