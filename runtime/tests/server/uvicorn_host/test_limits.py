# SPDX-License-Identifier: BSD-3-Clause
"""Every limit of the settings, and one past it: with `server`, plain uvicorn and the image."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
from waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

_MOST_BYTES = 2048
_SIZES = {
    "MAX_MESSAGE_BYTES": str(_MOST_BYTES),
    "MAX_JSON_DEPTH": "8",
    "MAX_CONCURRENT_ENVS": "2",
}
_TIMES = dict.fromkeys(("REQUEST_TIMEOUT_S", "KEEP_ALIVE_TIMEOUT_S", "WS_PING_INTERVAL_S"), "1")
# On a busy machine a live client may take seconds.
_TIMES |= {"SESSION_IDLE_TIMEOUT_S": "3", "WS_PING_TIMEOUT_S": "5"}


@pytest.fixture(scope="module")
def small(serve: Callable[..., Any]) -> Any:
    """A server with small limits of size and number."""
    return serve(_SIZES)


@pytest.fixture(scope="module")
def hasty(serve: Callable[..., Any]) -> Any:
    """A server whose time limits are seconds."""
    return serve(_TIMES)


@pytest.fixture
def session(small: Any, connect: Any) -> Iterator[Any]:
    conversation = connect(small.ws_url)
    yield conversation
    with suppress(ConnectionClosed):  # frees the slot before the next test
        conversation.send({"type": "close"})
        conversation.close_code()


def _step_of(size: int) -> str:
    """A frame of `size` bytes. It has non-ASCII characters, to tell bytes from characters."""
    empty = len(json.dumps({"type": "step", "data": {"text": ""}}))
    message = "é" * ((size - empty) // 2) + "x" * ((size - empty) % 2)
    frame = json.dumps({"type": "step", "data": {"text": message}}, ensure_ascii=False)
    assert len(frame.encode()) == size
    return frame


def _body_of(size: int) -> bytes:
    empty = len(json.dumps({"action": {"text": ""}}))
    return json.dumps({"action": {"text": "x" * (size - empty)}}).encode()


class TestMessageBytes:
    def test_a_frame_of_the_limit_passes_and_one_more_byte_ends_the_session(
        self, session: Any
    ) -> None:
        assert session.ask(_step_of(_MOST_BYTES))["type"] == "observation"
        session.send(_step_of(_MOST_BYTES + 1))
        self._expect_refusal(session)

    def test_a_message_in_pieces_counts_as_one(self, session: Any) -> None:
        half = _step_of(_MOST_BYTES + 1).encode()
        pieces = [
            Frame(Opcode.TEXT, half[:1500], fin=False).serialize(mask=True),
            Frame(Opcode.CONT, half[1500:]).serialize(mask=True),
        ]
        session.connection.socket.sendall(b"".join(pieces))
        self._expect_refusal(session)

    @staticmethod
    def _expect_refusal(session: Any) -> None:
        with pytest.raises(ConnectionClosed) as closed:
            session.connection.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert str(_MOST_BYTES) in closed.value.rcvd.reason

    @pytest.mark.parametrize("path", ["/step", "/mcp"])
    def test_a_body_of_the_limit_passes_and_one_more_byte_is_refused(
        self, small: Any, path: str
    ) -> None:
        url = small.url + path
        assert requests.post(url, data=_body_of(_MOST_BYTES), timeout=60).status_code == 200
        refused = requests.post(url, data=_body_of(_MOST_BYTES + 1), timeout=60)
        assert refused.status_code == 413
        assert refused.json()["detail"] == (
            "A body may have at most 2048 bytes (MAX_MESSAGE_BYTES); this one has 2049"
        )
        assert refused.headers["connection"] == "close"

    def test_a_body_of_unknown_length_is_counted(self, small: Any) -> None:
        def pieces(size: int) -> Iterator[bytes]:
            body = _body_of(size)
            yield body[:1000]
            yield body[1000:]

        url = f"{small.url}/step"
        assert requests.post(url, data=pieces(_MOST_BYTES), timeout=60).status_code == 200
        refused = requests.post(url, data=pieces(_MOST_BYTES + 1), timeout=60)
        assert refused.status_code == 413
        assert "this one has more" in refused.json()["detail"]

    def test_expect_100_continue_is_answered_before_the_body_is_sent(self, small: Any) -> None:
        with socket.create_connection(("127.0.0.1", small.port), 60) as client:
            head = "POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
            client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 413 ")

    def test_a_content_length_far_above_the_limit_is_refused_at_once(self, small: Any) -> None:
        with socket.create_connection(("127.0.0.1", small.port), 60) as client:
            client.sendall(
                b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_handshake_of_several_packets_is_accepted(small: Any, connect: Any) -> None:
    conversation = connect(small.ws_url, additional_headers={"X-Long": "x" * 6000})
    assert conversation.ask({"type": "state"})["type"] == "state"
    conversation.send({"type": "close"})
    assert conversation.close_code() == 1000


def test_json_of_the_limit_passes_and_one_more_level_is_refused(small: Any, session: Any) -> None:
    for more, kind in ((0, "observation"), (1, "error")):
        deep = "[" * (5 + more) + "]" * (5 + more)  # inside the frame, `data` and `metadata`
        frame = '{"type":"step","data":{"text":"Hi","metadata":{"deep":%s}}}'
        answer = session.ask(frame % deep)
        assert answer["type"] == kind
        body = '{"action":{"text":"Hi","metadata":{"deep":%s}}}'
        posted = requests.post(f"{small.url}/step", data=body % deep, timeout=60)
        assert posted.status_code == (422 if more else 200)
    assert (
        answer["data"]["errors"][0]["msg"] == "JSON may nest 8 levels deep at most (MAX_JSON_DEPTH)"
    )
    assert (
        posted.json()["detail"][0]["msg"] == "JSON may nest 8 levels deep at most (MAX_JSON_DEPTH)"
    )
    assert session.step(text="Hi")["type"] == "observation"


def test_sessions_up_to_the_limit_open_and_one_more_is_refused(
    small: Any, connect: Any, session: Any
) -> None:
    def count() -> Any:
        return requests.get(f"{small.url}/sessions", timeout=60).json()

    session.step(text="Hi")
    assert count() == {"active_sessions": 1, "max_sessions": 2}
    other = connect(small.ws_url)
    other.step(text="Hi")
    assert count() == {"active_sessions": 2, "max_sessions": 2}
    refusal = connect(small.ws_url).receive()["data"]
    assert refusal["code"] == "CAPACITY_REACHED"
    assert (refusal["active_sessions"], refusal["max_sessions"]) == (2, 2)
    request = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}
    error = requests.post(f"{small.url}/mcp", json=request, timeout=60).json()["error"]
    assert error["data"] == {"active_sessions": 2, "max_sessions": 2}
    other.send({"type": "close"})
    assert other.close_code() == 1000
    assert count() == {"active_sessions": 1, "max_sessions": 2}


@pytest.mark.slow
class TestTimes:
    def test_an_idle_session_gets_the_reason_and_is_closed(self, hasty: Any, connect: Any) -> None:
        idle = connect(hasty.ws_url)
        idle.step(text="Hi")
        reason = "The session was idle for 3 seconds (SESSION_IDLE_TIMEOUT_S)"
        assert idle.receive() == {
            "type": "error",
            "data": {"message": reason, "code": "SESSION_ERROR"},
        }
        with pytest.raises(ConnectionClosed) as closed:
            idle.connection.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, reason)

    def test_a_session_in_a_step_is_not_idle(self, hasty: Any, connect: Any) -> None:
        slow = connect(hasty.ws_url)
        slow.ask({"type": "reset", "data": {"scenario": {"delay_s": 5}}})
        assert slow.step(text="Hi")["data"]["observation"]["text"] == "Hi"

    @pytest.mark.parametrize("frame", [{"type": "state"}, "nonsense", b"binary"])
    def test_any_frame_keeps_the_session_open(self, hasty: Any, connect: Any, frame: Any) -> None:
        busy, idle = connect(hasty.ws_url), connect(hasty.ws_url)
        idle.step(text="Hi")

        def idle_is_closed() -> bool:
            assert busy.ask(frame)["data"].get("code") != "SESSION_ERROR"
            with suppress(TimeoutError):
                assert "SESSION_ERROR" in idle.connection.recv(timeout=0.1)
                return True
            return False

        wait_until(idle_is_closed)

    def test_an_idle_session_created_over_mcp_is_closed_too(self, hasty: Any) -> None:
        def ask(method: str, **params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return requests.post(f"{hasty.url}/mcp", json=request, timeout=60).json()

        session_id = ask("openenv/session/create")["result"]["session_id"]
        assert "result" in ask("tools/list", session_id=session_id)
        _wait_for_no_sessions(hasty)
        assert "Unknown session_id" in ask("tools/list", session_id=session_id)["error"]["message"]

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"GET /health HT",
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
            b"POST /step HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
            b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        ],
        ids=["nothing", "part of a line", "part of the head", "part of the body", "handshake"],
    )
    def test_a_request_that_does_not_arrive_in_time_closes_its_connection(
        self, hasty: Any, sent: bytes
    ) -> None:
        with socket.create_connection(("127.0.0.1", hasty.port), 60) as client:
            client.sendall(sent)
            assert client.recv(1000) == b""
        assert "Traceback" not in hasty.log

    def test_a_connection_without_requests_is_closed(self, hasty: Any) -> None:
        with socket.create_connection(("127.0.0.1", hasty.port), 60) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while received := client.recv(1000):
                answer += received
            assert b"connection: close" not in answer
            assert answer.endswith(b'{"status":"healthy"}')

    def test_a_peer_that_does_not_answer_pings_is_disconnected(
        self, hasty: Any, deaf_websocket: Callable[[int], socket.socket]
    ) -> None:
        with deaf_websocket(hasty.port) as client:
            client.settimeout(0.2)
            received, state = b"", _masked({"type": "state"})

            def is_closed() -> bool:
                nonlocal received
                try:
                    piece = client.recv(1000)
                except TimeoutError:
                    client.sendall(state)  # not idle, but deaf to pings
                    return False
                except ConnectionResetError:  # the state arrived after the end
                    return True
                received += piece
                return not piece

            wait_until(is_closed)
        assert b"\x89\x04" in received  # a ping
        assert received.endswith(b"keepalive ping timeout")
        _wait_for_no_sessions(hasty)

    def test_a_peer_that_does_not_read_is_disconnected(
        self, hasty: Any, deaf_websocket: Callable[[int], socket.socket]
    ) -> None:
        with deaf_websocket(hasty.port) as client:
            much = {"scenario": {"observation_bytes": 4 * 1024 * 1024}}
            for _ in range(4):
                client.sendall(_masked({"type": "reset", "data": much}))
            _wait_for_no_sessions(hasty)
        assert "Traceback" not in hasty.log


@pytest.mark.slow
@pytest.mark.parametrize("application", [None, "notes_env.app:app"])
def test_a_peer_that_reads_again_after_the_ping_timeout_is_disconnected(
    start_server: Callable[..., Any],
    deaf_websocket: Callable[[int], socket.socket],
    application: str | None,
) -> None:
    times = {"WS_PING_INTERVAL_S": "1", "WS_PING_TIMEOUT_S": "3"}
    server = start_server("--log-level", "debug", application=application, env=times)
    with deaf_websocket(server.port) as client:
        assert client.recv(1) == bytes([0x80 | Opcode.PING])
        time.sleep(2)  # so that the ping times out before the wait for the client to read
        much = {"scenario": {"observation_bytes": 4 * 1024 * 1024}}
        for _ in range(4):
            client.sendall(_masked({"type": "reset", "data": much}))
        wait_until(lambda: "keepalive ping timeout" in server.log)
        while client.recv(1 << 20):
            pass
        _wait_for_no_sessions(server)
    assert "Traceback" not in server.log


def _masked(frame: dict[str, Any]) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(frame).encode()).serialize(mask=True)


def _wait_for_no_sessions(server: Any) -> None:
    counts = f"{server.url}/sessions"
    wait_until(lambda: not requests.get(counts, timeout=60).json()["active_sessions"])


@pytest.mark.slow
def test_each_worker_of_plain_uvicorn_has_its_own_sessions(
    start_server: Callable[..., Any], connect: Any
) -> None:
    env = {"MAX_CONCURRENT_ENVS": "1"}
    server = start_server("--workers", "2", application="notes_env.app:app", env=env)
    opened: list[Any] = []

    def both_are_open() -> bool:  # the system chooses the worker that takes a connection
        conversation = connect(server.ws_url)
        with suppress(ConnectionClosed):  # refused, even before it could ask
            if conversation.ask({"type": "state"})["type"] == "state":
                opened.append(conversation)
        return len(opened) == 2

    wait_until(both_are_open)
    counts = [requests.get(f"{server.url}/sessions", timeout=60).json() for _ in range(4)]
    assert counts == [{"active_sessions": 1, "max_sessions": 1}] * 4
    assert [session.step(text="Hi")["data"]["metadata"]["step"] for session in opened] == [1, 1]
