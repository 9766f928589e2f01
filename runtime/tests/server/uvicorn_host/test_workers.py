# SPDX-License-Identifier: BSD-3-Clause
"""Several workers are one server: its places, its sessions over MCP, and workers that end."""

import os
import re
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import process_runs, wait_until
from websockets.exceptions import ConnectionClosed

from stepwire.conformance.conversation import Conversation
from stepwire.testing.servers import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers share places on Linux"),
]

_APPLICATION = """
import asyncio
import os
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app, serve

def worker() -> int:
    "Name the process."
    return os.getpid()

class Here(NotesEnvironment):
    TOOLS = (worker,)

    def step(self, action, timeout_s=None, **kwargs):
        return super().step(NoteAction(text=str(os.getpid())))

class SlowHandshakes:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await asyncio.sleep(float(os.environ.get("HANDSHAKE_S", 0)))
        await self.app(scope, receive, send)

app = create_app(Here, NoteAction, NoteObservation)
app.add_middleware(SlowHandshakes)
if __name__ == "__main__":
    serve("app:app")
"""
_WORKERS = 4
_PLACES = 12


@pytest.fixture(scope="module")
def start_workers(
    start_shared_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Server]:
    application = tmp_path_factory.mktemp("application") / "app.py"
    application.write_text(_APPLICATION)

    def start(**env: str) -> Server:
        server = start_shared_server(
            command=[sys.executable, str(application), "--port", "{port}"],
            env={
                "WORKERS": str(_WORKERS),
                "MAX_CONCURRENT_ENVS": str(_PLACES),
                "PYTHONPATH": os.pathsep.join(sys.path),
                **env,
            },
        )
        wait_until(lambda: server.log.count("Application startup complete.") == _WORKERS)
        return server

    return start


@pytest.fixture(scope="module")
def shared(start_workers: Callable[..., Server]) -> Server:
    return start_workers()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """Four workers with twelve places, all of them free."""
    wait_until(lambda: _active(shared) == 0)
    yield shared
    wait_until(lambda: _active(shared) == 0)


def _get(server: Server, path: str) -> requests.Response:
    return requests.get(server.url + path, headers={"Connection": "close"}, timeout=60)


def _active(server: Server) -> int:
    counts = _get(server, "/sessions").json()
    assert counts["max_sessions"] == _PLACES
    number: int = counts["active_sessions"]
    return number


def _worker(session: Conversation) -> int:
    """The process that answers a session."""
    return int(session.step(text="Where?")["data"]["observation"]["text"])


def _rpc(server: Server, payload: Any) -> Any:
    headers = {"Connection": "close"}
    return requests.post(f"{server.url}/mcp", json=payload, headers=headers, timeout=60).json()


def _request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _worker_of_call(answer: Any) -> int:
    return int(answer["result"]["data"])


def _refused(server: Server, connect: Callable[..., Conversation]) -> bool:
    numbers = {"active_sessions": _PLACES, "max_sessions": _PLACES}
    refusal = connect(server.ws_url).receive()["data"]
    over_mcp = _rpc(server, _request("openenv/session/create"))["error"]["data"]
    return numbers == over_mcp and refusal.items() >= numbers.items()


def _kill(worker: int) -> None:
    """Kill a worker; it answers nothing any more afterwards."""

    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not process_runs(worker))


def _are_even(workers: Iterable[int]) -> bool:
    return sorted(Counter(workers).values()) == [_PLACES // _WORKERS] * _WORKERS


def _workers_of_all(server: Server, at_once: int = 1) -> list[int]:
    """The worker of each session, when all places are taken; they are free again afterwards."""
    with ThreadPoolExecutor(at_once) as clients, ExitStack() as sessions:
        opened = list(
            clients.map(
                lambda _: sessions.enter_context(Conversation.open(server.ws_url)), range(_PLACES)
            )
        )
        workers = [_worker(session) for session in opened]
        for session in opened:
            session.send({"type": "close"})
            assert session.close_code() == 1000
    return workers


# A worker that is held up for a second gets no sessions meanwhile: on a busy machine, the first
# twelve may be spread unevenly.
@pytest.mark.parametrize("at_once", [1, _PLACES], ids=["one by one", "at once"])
def test_no_worker_has_more_sessions_than_others(server: Server, at_once: int) -> None:
    wait_until(lambda: _are_even(_workers_of_all(server, at_once)))


@pytest.mark.parametrize("at_once", [1, _PLACES], ids=["one by one", "at once"])
def test_every_place_is_given_and_then_no_more(
    server: Server, connect: Callable[..., Conversation], at_once: int
) -> None:
    with ThreadPoolExecutor(at_once) as clients:
        opened = list(clients.map(lambda _: connect(server.ws_url), range(_PLACES)))
        workers = Counter(clients.map(_worker, opened))
    assert sum(workers.values()) == _PLACES
    assert len(workers) > 1
    assert {_active(server) for _ in range(8)} == {_PLACES}
    assert _refused(server, connect)


def test_a_place_that_is_given_back_is_free_for_all_workers(
    server: Server, connect: Callable[..., Conversation]
) -> None:
    """Twelve clients come and go; none of them is ever refused."""

    def come_and_go(_: int) -> None:
        for _ in range(20):
            with Conversation.open(server.ws_url) as session:
                _worker(session)
                session.send({"type": "close"})
                assert session.close_code() == 1000

    with ThreadPoolExecutor(_PLACES) as clients:
        list(clients.map(come_and_go, range(_PLACES)))


def test_a_session_created_over_mcp_is_reached_whichever_worker_answers(
    server: Server, connect: Callable[..., Conversation]
) -> None:
    created: list[str] = []

    def calls() -> list[dict[str, Any]]:
        return [_request("tools/call", name="worker", session_id=each) for each in created]

    def are_created_evenly() -> bool:
        for each in created:
            _rpc(server, _request("openenv/session/close", session_id=each))
        created[:] = [
            _rpc(server, _request("openenv/session/create"))["result"]["session_id"]
            for _ in range(_PLACES)
        ]
        assert _refused(server, connect)
        return _are_even(_worker_of_call(_rpc(server, call)) for call in calls())

    wait_until(are_created_evenly)
    workers = [_worker_of_call(_rpc(server, call)) for call in calls()]
    for _ in range(4):
        assert [_worker_of_call(_rpc(server, call)) for call in calls()] == workers
        assert [_worker_of_call(answer) for answer in _rpc(server, calls())] == workers  # a batch
    attached = [connect(f"{server.ws_url}?session_id={each}") for each in created]
    assert [_worker(session) for session in attached] == workers
    assert [session.step(text="")["data"]["metadata"]["step"] for session in attached] == (
        [2] * _PLACES
    )
    second = connect(f"{server.ws_url}?session_id={created[0]}")
    assert "already has a WebSocket" in second.receive()["data"]["message"]
    unknown = connect(f"{server.ws_url}?session_id={created[0][:-4]}00ff")
    assert "is not known" in unknown.receive()["data"]["message"]
    for session in attached:
        session.connection.close()
    assert _active(server) == _PLACES  # they outlive their connections
    missing = _request("tools/call", name="missing", session_id=created[0])
    assert {str(_rpc(server, missing)["error"]) for _ in range(8)} == {
        str(_rpc(server, missing)["error"])
    }
    for each in created:
        close = _request("openenv/session/close", session_id=each)
        assert _rpc(server, close)["result"] == {"session_id": each, "closed": True}
        assert _rpc(server, close)["error"]["message"] == f"Unknown session_id: {each}"


def test_a_session_is_closed_over_the_connection_of_another(
    server: Server, connect: Callable[..., Conversation]
) -> None:
    created = [
        _rpc(server, _request("openenv/session/create"))["result"]["session_id"]
        for _ in range(_WORKERS)
    ]
    other = connect(server.ws_url)
    for each in created:
        close = {"type": "mcp", "data": _request("openenv/session/close", session_id=each)}
        assert other.ask(close)["data"]["result"] == {"session_id": each, "closed": True}


def test_a_killed_worker_loses_its_own_sessions_only(
    start_workers: Callable[..., Server], connect: Callable[..., Conversation]
) -> None:
    server = start_workers()
    sessions = [connect(server.ws_url) for _ in range(_PLACES)]
    workers = [_worker(session) for session in sessions]
    killed = workers[0]
    sessions[0].send({"type": "step", "data": {"text": "cut off"}})
    _kill(killed)
    lost = []
    for session, worker in zip(sessions, workers, strict=True):
        if worker != killed:
            assert _worker(session) == worker
            continue
        lost.append(worker)
        with suppress(
            TimeoutError, ConnectionClosed
        ):  # the step may have been answered at the last moment
            session.connection.recv(timeout=0)
        with pytest.raises(ConnectionClosed):
            _worker(session)
    assert _active(server) == _PLACES - len(lost)
    for _ in lost:  # its places are free before it is replaced
        sessions.append(connect(server.ws_url))
        assert _worker(sessions[-1]) not in lost
    assert _refused(server, connect)
    wait_until(lambda: server.log.count("Application startup complete.") == _WORKERS + 1)
    for session in sessions:
        session.connection.close()
    wait_until(lambda: _active(server) == 0)
    again: list[int] = []

    def are_even() -> bool:
        again[:] = _workers_of_all(server)
        return _are_even(again)

    wait_until(are_even)  # with the worker that replaces the killed one
    assert killed not in again


def test_a_call_whose_worker_is_killed_gets_an_error(start_workers: Callable[..., Server]) -> None:
    server = start_workers()
    created = [
        _rpc(server, _request("openenv/session/create"))["result"]["session_id"]
        for _ in range(_WORKERS)
    ]
    calls = [_request("tools/call", name="worker", session_id=each) for each in created]
    workers = [_worker_of_call(_rpc(server, call)) for call in calls]
    _kill(workers[0])
    for _ in range(8):
        for call, worker in zip(calls, workers, strict=True):
            answer = _rpc(server, call)
            if worker == workers[0]:
                assert answer["error"]["code"] in (-32602, -32000)
            else:
                assert _worker_of_call(answer) == worker


def test_a_worker_that_is_held_up_gets_no_sessions_from_others(
    start_workers: Callable[..., Server], connect: Callable[..., Conversation]
) -> None:
    server = start_workers()
    held_up = _worker(connect(server.ws_url))
    os.kill(held_up, signal.SIGSTOP)
    try:
        threading.Event().wait(1.5)  # a worker that turned a second ago counts as one that turns
        assert held_up not in {_worker(connect(server.ws_url)) for _ in range(_PLACES - 1)}
        assert _refused(server, connect)
    finally:
        os.kill(held_up, signal.SIGCONT)


@pytest.mark.parametrize("handshake_s", ["0", "0.3"])
def test_workers_are_replaced_one_by_one_while_sessions_open_and_end(
    start_workers: Callable[..., Server], handshake_s: str
) -> None:
    """Sessions of a worker that is replaced end with 1012; none is refused or cut."""
    server = start_workers(HANDSHAKE_S=handshake_s)
    first = {int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log)}
    is_over = threading.Event()
    ends: Counter[Any] = Counter()

    def step_on_and_on(_: int) -> None:
        while not is_over.is_set():
            with Conversation.open(server.ws_url) as session:
                try:
                    for _ in range(200):
                        answer = session.step(text="Hi")
                        if answer["type"] == "error":
                            ends[answer["data"]["message"]] += 1
                except ConnectionClosed as closed:
                    ends[closed.rcvd and closed.rcvd.code] += 1

    with ThreadPoolExecutor(_PLACES // 2) as clients:
        running = [clients.submit(step_on_and_on, each) for each in range(_PLACES // 2)]
        try:
            os.kill(server.process.pid, signal.SIGHUP)
            wait_until(lambda: server.log.count("Finished server process") == _WORKERS)
            assert _get(server, "/ready").status_code == 200
        finally:
            is_over.set()
    for each in running:
        each.result()
    assert set(ends) <= {1012}
    # The last worker ends before its successor has started.
    wait_until(lambda: server.log.count("Application startup complete.") == 2 * _WORKERS)
    now: list[int] = []

    def are_even() -> bool:
        now[:] = _workers_of_all(server)
        return _are_even(now)

    wait_until(are_even)
    assert not first.intersection(now)
    assert "Traceback" not in server.log


def test_a_worker_that_stops_hands_on_connections_that_it_was_chosen_for(
    start_workers: Callable[..., Server],
) -> None:
    server = start_workers()
    with Conversation.open(server.ws_url) as session:
        worker = _worker(session)
    os.kill(worker, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(_PLACES) as clients, ExitStack() as sessions:
            opening = [
                clients.submit(sessions.enter_context, Conversation.open(server.ws_url))
                for _ in range(_PLACES)
            ]
            threading.Event().wait(0.5)  # for the connections to reach their workers
            os.kill(worker, signal.SIGTERM)  # which it notices before it reads its inbox
            os.kill(worker, signal.SIGCONT)
            assert worker not in {_worker(each.result()) for each in opening}
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def test_a_connection_that_has_sent_nothing_outlives_the_worker_that_accepted_it(
    start_workers: Callable[..., Server],
) -> None:
    server = start_workers()
    with ExitStack() as connections:
        opened = [
            connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(20)
        ]
        os.kill(server.process.pid, signal.SIGHUP)
        wait_until(lambda: server.log.count("Application startup complete.") == 2 * _WORKERS)
        for each in opened:
            each.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert each.recv(12) == b"HTTP/1.1 200"


def _answer(session: Conversation) -> str:
    with suppress(ConnectionClosed):  # after a refusal
        session.send({"type": "state"})
    answer: str = session.receive()["type"]
    return answer


def test_connections_wait_for_a_worker_that_has_not_read_those_before(
    server: Server, connect: Callable[..., Conversation]
) -> None:
    """Together, their handshakes are more than the worker's inbox holds."""
    sessions = [
        _rpc(server, _request("openenv/session/create"))["result"]["session_id"]
        for _ in range(_PLACES)
    ]
    worker = _worker_of_call(
        _rpc(server, _request("tools/call", name="worker", session_id=sessions[0]))
    )
    padding = {f"X-{number}": "x" * 4000 for number in range(7)}
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(_PLACES) as clients:
        attached = [
            clients.submit(
                connect,
                f"{server.ws_url}?session_id={sessions[0]}",
                additional_headers=padding,
                open_timeout=60,
            )
            for _ in range(_PLACES)
        ]
        assert _get(server, "/health").ok
        os.kill(worker, signal.SIGCONT)
        answers = [_answer(each.result()) for each in attached]
    assert Counter(answers) == {"state": 1, "error": _PLACES - 1}
    for each in sessions:
        _rpc(server, _request("openenv/session/close", session_id=each))


def test_all_workers_stop_together(
    start_workers: Callable[..., Server], connect: Callable[..., Conversation]
) -> None:
    server = start_workers()
    sessions = [connect(server.ws_url) for _ in range(_PLACES)]
    server.process.terminate()
    assert [session.close_code() for session in sessions] == [1012] * _PLACES
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log


def test_plain_uvicorn_says_once_what_its_workers_do_not_share(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("--workers", "2", application="notes_env.app:app")
    wait_until(lambda: server.log.count("Application startup complete.") == 2)
    assert server.log.count("These 2 workers share no places") == 1


@pytest.mark.parametrize("environment", ["Here", "lambda: Here()"], ids=["class", "function"])
def test_one_session_at_a_time_holds_for_all_workers(
    start_server: Callable[..., Server],
    connect: Callable[..., Conversation],
    tmp_path: Path,
    environment: str,
) -> None:
    application = tmp_path / "app.py"
    source = _APPLICATION.replace("create_app(Here", f"create_app({environment}")
    limit = "    SUPPORTS_CONCURRENT_SESSIONS = False\n"
    application.write_text(source.replace("    TOOLS", f"{limit}    TOOLS"))
    server = start_server(
        command=[sys.executable, str(application), "--port", "{port}"],
        env={"WORKERS": "2", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: server.log.count("Application startup complete.") == 2)
    is_known = environment == "Here"
    assert server.log.count("one session at a time, in all 2 workers together") == is_known

    def step(session: Conversation) -> Any:
        with suppress(ConnectionClosed):  # refused, before it could ask
            session.send({"type": "step", "data": {"text": "Where?"}})
        return session.receive()

    with ThreadPoolExecutor(8) as clients:
        opened = list(clients.map(lambda _: connect(server.ws_url), range(8)))
        answers = [answer["data"] for answer in clients.map(step, opened)]
    refused = [answer["max_sessions"] for answer in answers if "max_sessions" in answer]
    assert refused == [1] * 7
