# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of both suites' browser tests: Debian's Chromium, headless and cut off from the network.

Every page that a test opens is watched: an unexpected console message, or a request that leaves
this machine, fails the test.
"""

import os
import re
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

_ON_THIS_MACHINE = {"127.0.0.1", "localhost"}
_PATIENCE_MS = 60_000  # Playwright's own 5 seconds are too few on a busy machine
_FLAGS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@dataclass
class Watch:
    """The console messages and requests of one test's pages."""

    console: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        context.on("console", lambda message: self.console.append(message.text))
        context.on("weberror", lambda error: self.console.append(str(error.error)))
        context.on("request", lambda request: self.addresses.append(request.url))
        context.on("page", self._follow_web_sockets)

    def _follow_web_sockets(self, page: Page) -> None:
        page.on("websocket", lambda opened: self.addresses.append(opened.url))

    def elsewhere(self) -> list[str]:
        """Addresses that are neither on this machine nor inside the page."""
        parts = [(address, urlsplit(address)) for address in self.addresses]
        return [
            address
            for address, part in parts
            if part.scheme not in {"data", "blob", "about"}
            and part.hostname not in _ON_THIS_MACHINE
        ]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Chromium. A process can have one at a time, so it is a fixture of the plugin `peers`."""
    executable = shutil.which("chromium")
    assert executable, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        expect.set_options(timeout=_PATIENCE_MS)
        browser = playwright.chromium.launch(
            executable_path=executable, args=_FLAGS, timeout=_PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def expected_in_console() -> list[str]:
    """A test appends the patterns of console messages that it provokes."""
    return []


@pytest.fixture
def watch(expected_in_console: list[str]) -> Iterator[Watch]:
    """Checked at the end of the test."""
    watch = Watch()
    yield watch
    assert watch.elsewhere() == []
    unexpected = [
        text
        for text in watch.console
        if not any(re.search(pattern, text) for pattern in expected_in_console)
    ]
    assert unexpected == []


@pytest.fixture
def new_context(browser: Browser, watch: Watch) -> Iterator[Callable[..., BrowserContext]]:
    """Makes watched contexts, with Playwright's options: `new_context(color_scheme="dark")`."""
    with ExitStack() as contexts:

        def make(**options: Any) -> BrowserContext:
            context = contexts.enter_context(browser.new_context(**options))
            context.set_default_timeout(_PATIENCE_MS)
            watch.follow(context)
            return context

        yield make


@pytest.fixture
def open_page(new_context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """Opens an address in a context of its own."""

    def open_one(address: str, **options: Any) -> Page:
        page = new_context(**options).new_page()
        page.goto(address)
        return page

    return open_one


@pytest.fixture
def serve_page() -> Iterator[Callable[[str], str]]:
    """Serves one HTML page from its own origin; returns its address.

    With `localhost` in place of `127.0.0.1` it is of another site as well as of another origin.
    """
    with ExitStack() as servers:

        def serve(html: str) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    body = html.encode() if self.path == "/" else b""
                    self.send_response(200 if body else 204)
                    self.send_header("Content-Type", "text/html; charset=utf-8")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            servers.enter_context(_serving(server))
            return f"http://127.0.0.1:{server.server_port}/"

        yield serve


@pytest.fixture
def serve_below_prefix() -> Iterator[Callable[[Any, str], str]]:
    """Puts a server behind a proxy that strips a path prefix: `…(server, "/prefix")`."""
    with ExitStack() as proxies:

        def serve(server: Any, prefix: str) -> str:
            proxy = _PrefixProxy(server.port, prefix)
            proxies.enter_context(_serving(proxy))
            return f"http://127.0.0.1:{proxy.server_address[1]}{prefix}"

        yield serve


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


class _PrefixProxy(socketserver.ThreadingTCPServer):
    """Strips the prefix from each request and forwards the rest, WebSockets included."""

    daemon_threads = True

    def __init__(self, target_port: int, prefix: str) -> None:
        super().__init__(("127.0.0.1", 0), _PrefixHandler)
        self.target_port = target_port
        self.prefix = prefix


class _PrefixHandler(socketserver.StreamRequestHandler):
    server: _PrefixProxy

    def handle(self) -> None:
        method, path, version = self.rfile.readline().decode("latin-1").split()
        if not path.startswith(self.server.prefix + "/"):
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        path = path.removeprefix(self.server.prefix)
        headers = [line for line in iter(self.rfile.readline, b"\r\n") if line]
        # One request per connection, so that the stream needs no parsing.
        if not any(line.lower().startswith(b"upgrade:") for line in headers):
            headers = [line for line in headers if not line.lower().startswith(b"connection:")]
            headers.append(b"Connection: close\r\n")
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as target:
            target.sendall(f"{method} {path} {version}\r\n".encode() + b"".join(headers) + b"\r\n")
            back = threading.Thread(target=_pass_on, args=(target.recv, self.connection))
            back.start()
            _pass_on(self.rfile.read1, target)
            back.join()


def _pass_on(receive: Callable[[int], bytes], target: socket.socket) -> None:
    try:
        while data := receive(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # either side may close first


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: `SCREENSHOTS`, or a folder of this run."""
    chosen = os.environ.get("SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
