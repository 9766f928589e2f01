# SPDX-License-Identifier: BSD-3-Clause
"""What servers tell of their places: also servers that lie, and servers that never answer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from notes_env.client import NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import ConnectFailedError
from stepwire.client.server_places import Places, places_of
from stepwire.testing.servers import PATIENCE_S


class _Answers(BaseHTTPRequestHandler):
    """Answers each request, also the handshake, with the bytes of the server."""

    def do_GET(self) -> None:
        self.wfile.write(self.server.answer)  # type: ignore[attr-defined]
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer = b""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def liar() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _told(body: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + body


def _numbers(active: Any, limit: Any) -> bytes:
    return _told(json.dumps({"active_sessions": active, "max_sessions": limit}).encode())


_HUGE = 10**1000
_LIES = {
    "huge numbers": _numbers(0, _HUGE),
    "more sessions than places": _numbers(_HUGE, 1),
    "negative numbers": _numbers(-5, -_HUGE),
    "texts": _numbers("1", "2"),
    "no numbers": _numbers(float("nan"), float("inf")),
    "truth": _numbers(False, True),
    "nothing": _numbers(None, None),
    "another object": _told(b"[1, 2]"),
    "no JSON": _told(b"\xff\x00"),
    "deep JSON": _told(b"[" * 4000),
    "a page": _told(b"<html>" * 10_000),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "no answer": b"",
    "a redirect": b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
    "an error": b"HTTP/1.0 500 Oh\r\n\r\n",
    "a strange length": b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n",
    "strange chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_server_that_lies_gets_no_session_and_harms_none(
    liar: _Server, server: Any, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.client.servers._LOOK_TIMEOUT_S", PATIENCE_S)
    liar.answer = _LIES[lie]
    # A stock server is assumed to have as many places as the largest that told.
    with closing(NotesEnvPool([f"http://{liar.address}", server.url], 3)) as pool:
        for result in pool.reset():
            assert result.error is None
        assert {session.base_url for session in pool.sessions} == {server.url}
        for result in pool.step([NoteAction(text="note")] * 3):
            assert result.error is None


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(_told)))
def test_any_answer_is_places_or_none_or_an_oserror(liar: _Server, answer: bytes) -> None:
    liar.answer = answer
    with suppress(OSError):
        assert isinstance(places_of(f"ws://{liar.address}/ws", {}, 60), Places | None)


_numbers_of_any_size = st.integers(-(10**30), 10**30)


@settings(deadline=None)
@given(_numbers_of_any_size, _numbers_of_any_size)
def test_the_free_places_are_those_that_were_told(liar: _Server, active: int, limit: int) -> None:
    liar.answer = _numbers(active, limit)
    places = places_of(f"ws://{liar.address}/ws", {}, 60)
    if min(active, limit) < 0:
        assert places is None
    else:
        assert places is not None
        assert places.free == max(min(limit, 10**9) - min(active, 10**9), 0)


class _Endless:
    """A server that never ends its answers."""

    def __init__(self) -> None:
        self.connections = 0
        self.most_at_once = 0
        self._taken: list[socket.socket] = []
        self._is_over = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serves; gives the address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for run in (lambda: self._take_all(listener), self._send_all):
                threading.Thread(target=run, daemon=True).start()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            self._is_over.set()
            listener.shutdown(socket.SHUT_RDWR)
            for sock in self._taken:
                sock.close()

    def _take_all(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock = listener.accept()[0]
                sock.setblocking(False)
                self._taken = [*filter(_is_open, self._taken), sock]
                self.connections += 1
                self.most_at_once = max(self.most_at_once, len(self._taken))

    def _send_all(self) -> None:
        while not self._is_over.wait(0.01):
            for sock in self._taken:
                with suppress(OSError):
                    sock.send(b"x")


def _is_open(sock: socket.socket) -> bool:
    """Whether the client has not closed its end."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    sock.close()
    return False


def test_a_look_at_a_server_takes_one_thread_and_has_an_end(server: Any) -> None:
    options = {"connect_timeout_s": 0.1}  # which the look keeps, too
    endless = _Endless()
    with endless.serving() as url, closing(NotesEnvPool([url, server.url], 2, **options)) as pool:
        # In a tenth of a second, a busy server may not answer either.
        wait_until(lambda: all(result.error is None for result in pool.reset()))
    assert (endless.connections > 0, endless.most_at_once) == (True, 1)
    endless = _Endless()
    with (
        endless.serving() as url,
        closing(NotesEnvPool([url, "http://127.0.0.1:9"], 1, **options)) as pool,
    ):
        for _ in range(5):  # each looks at all servers again
            (result,) = pool.reset()
            assert isinstance(result.error, ConnectFailedError)
    assert (endless.connections > 0, endless.most_at_once) == (True, 1)
