# SPDX-License-Identifier: BSD-3-Clause
"""The same client through TLS and through an HTTP proxy, synchronous, awaited and in a pool."""

import asyncio
import os
import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import ConnectFailedError

_LONG = "x" * 300_000  # several records of TLS


def _episodes(url: str) -> list[int]:
    """The length of the last observation of an episode in each way of using the client."""

    async def awaited() -> int:
        async with NotesEnv(url) as env:
            await env.reset()
            await env.step(NoteAction(text=_LONG))
            return (await env.step(NoteAction(text="Hi"))).observation.length

    with NotesEnv(url) as env:
        env.reset()
        env.step(NoteAction(text=_LONG))
        lengths = [env.step(NoteAction(text="Hi")).observation.length]
    lengths.append(asyncio.run(awaited()))
    with NotesEnvPool(url, num_envs=2) as pool:
        pool.reset()
        pool.step([NoteAction(text=_LONG)] * 2)
        results = pool.step([NoteAction(text="Hi")] * 2)
        return [*lengths, *(result.observation.length for result in results)]


class _HttpProxy(socketserver.ThreadingTCPServer):
    """Answers `CONNECT`; every name leads to the server."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        self.target = target
        self.requests_seen: list[str] = []
        super().__init__(("127.0.0.1", 0), _Tunnel)


class _Tunnel(socketserver.BaseRequestHandler):
    server: _HttpProxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(1)
        self.server.requests_seen.append(head.split(b"\r\n")[0].decode())
        self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            back = threading.Thread(target=_pass_on, args=(upstream, self.request), daemon=True)
            back.start()
            _pass_on(self.request, upstream)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def test_tls_with_a_certificate_that_is_trusted(
    tls_url: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(trusted))
    assert _episodes(tls_url) == [2, 2, 2, 2]


def test_a_certificate_that_is_not_trusted_is_refused(tls_url: str) -> None:
    with pytest.raises(ConnectFailedError, match="certificate verify failed"):
        NotesEnv(tls_url).reset()


def test_a_proxy_is_used_for_other_machines(
    start_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(env={"ALLOWED_HOSTS": "echo.invalid"})
    for name in ("no_proxy", "NO_PROXY", "ws_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with _HttpProxy(server.port) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        assert _episodes("http://echo.invalid:8000") == [2, 2, 2, 2]
        proxy.shutdown()
    assert set(proxy.requests_seen) == {"CONNECT echo.invalid:8000 HTTP/1.1"}


def test_no_proxy_is_used_for_this_machine(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert _episodes(server.url) == [2, 2, 2, 2]
