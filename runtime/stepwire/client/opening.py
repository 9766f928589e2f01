# SPDX-License-Identifier: BSD-3-Clause
"""`Opening`: from a TCP connection to an open WebSocket, without any I/O: proxy, TLS, handshake."""

import base64
import re
import ssl
from collections.abc import Generator
from contextlib import suppress
from ipaddress import ip_address
from typing import NamedTuple, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import WebSocketURI

from stepwire.client.endings import connect_failed, refused
from stepwire.client.errors import ConnectFailedError

_LONGEST_ANSWER = 65536  # bytes; web pages can be longer, but their beginning is enough
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding):[^\r]*", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"


class Route(NamedTuple):
    """Where to connect: to the server itself, or to a proxy that leads there."""

    host: str
    port: int
    proxy: SplitResult | None


def route_to(uri: WebSocketURI) -> Route:
    """The way to a server, through a proxy if the environment names one; never to this machine."""
    try:
        proxy = None if is_loopback(uri.host) else _proxy_for(uri)
        port = proxy and proxy.port
    except ValueError:  # its text may contain the password
        raise ConnectFailedError(
            f"Failed to connect to {uri.host}:{uri.port}: the proxy that the environment variables "
            "name has an address that is not valid."
        ) from None
    if proxy is None:
        return Route(uri.host, uri.port, None)
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise ConnectFailedError(
            f"Failed to connect to {uri.host}:{uri.port}: the proxy that the environment "
            f"variables name is of the kind {proxy.scheme!r}, which this client does not support. "
            "Name an HTTP proxy in `https_proxy` or `http_proxy`, or this host in `no_proxy`."
        )
    return Route(proxy.hostname, port or (443 if proxy.scheme == "https" else 80), proxy)


def _proxy_for(uri: WebSocketURI) -> SplitResult | None:
    from urllib.request import getproxies, proxy_bypass  # slow to import

    if proxy_bypass(f"{uri.host}:{uri.port}"):
        return None
    proxies = getproxies()
    for name in ("wss", "socks", "https") if uri.secure else ("ws", "socks", "https", "http"):
        if address := proxies.get(name):
            if name == "socks":  # systems and variables write it as `http://`
                return urlsplit("socks5h://" + address.partition("://")[2])
            return urlsplit(address if "://" in address else f"http://{address}")
    return None


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TlsStack:
    """The TLS connections to a server: none at first, two through a proxy that has its own."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []  # the outermost first

    def start(self, host: str) -> None:
        """Begin a TLS connection with `host` inside those that are there."""
        self._layers.append(_Layer(host))

    @property
    def is_open(self) -> bool:
        """Whether all TLS connections that were begun are open."""
        return all(layer.is_open for layer in self._layers)

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """The plain bytes in received ones, and whether the connection has ended.

        `data` is empty at the end of the TCP connection. Raises `ssl.SSLError`, such as for a
        certificate that is not trusted.
        """
        at_end = not data
        for layer in self._layers:
            data, at_end = layer.receive(data, at_end=at_end)
        return data, at_end

    def send(self, data: bytes) -> bytes:
        """The bytes to send for `data`, which may be empty, and for TLS's own messages."""
        for layer in reversed(self._layers):
            data = layer.send(data)
        return data


class _Layer:
    def __init__(self, host: str) -> None:
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=host)
        self.is_open = False
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()  # writes the ClientHello

    def receive(self, data: bytes, *, at_end: bool) -> tuple[bytes, bool]:
        if data:
            self._arrived.write(data)
        if at_end:
            self._arrived.write_eof()
        plain = bytearray()
        try:
            if not self.is_open:
                self._tls.do_handshake()
                self.is_open = True
            while piece := self._tls.read(65536):
                plain += piece
        except ssl.SSLWantReadError:
            return bytes(plain), False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            if not self.is_open:
                raise
        return bytes(plain), True

    def send(self, data: bytes) -> bytes:
        if data:
            self._tls.write(data)
        return self._leaving.read()


class Opening:
    """One attempt. Its driver sends `outgoing()` and passes on what arrives, until `is_done`."""

    def __init__(
        self, url: str, protocol: ClientProtocol, headers: dict[str, str], route: Route
    ) -> None:
        """`url` is what error texts show, `headers` are added to those of the handshake."""
        self._url = url
        self.goal = f"{url} through the proxy {route.host}:{route.port}" if route.proxy else url
        is_encrypted = protocol.uri.secure or (route.proxy and route.proxy.scheme == "https")
        self.tls = TlsStack() if is_encrypted else None
        self.is_done = False
        self.received = b""  # not parsed yet; when done, the first frames
        self._protocol = protocol
        self._headers = headers
        self._route = route
        self._outgoing = b""
        self._steps = self._open()

    def start(self) -> None:
        """Begin. Raises `ConnectFailedError`, as `receive` does."""
        self._advance()

    def receive(self, data: bytes, *, at_end: bool) -> None:
        """Go on with plain bytes that arrived; `at_end` when no more will."""
        self.received += data
        self._advance()
        if at_end and not self.is_done:
            self._feed(b"")

    def outgoing(self) -> bytes:
        """What to send now, inside `tls`."""
        data, self._outgoing = self._outgoing, b""
        return data

    def _advance(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            self.is_done = True

    def _open(self) -> Generator[None, None, None]:
        """The steps of an opening; each `yield` waits for more bytes in `received`."""
        uri, proxy = self._protocol.uri, self._route.proxy
        if proxy is not None:
            if proxy.scheme == "https":
                yield from self._start_tls(self._route.host)
            yield from self._tunnel(uri, proxy)
        if uri.secure:
            yield from self._start_tls(uri.host)
        request = self._protocol.connect()
        for name in self._headers:
            request.headers.pop(name, None)  # or both would be sent
        for name, value in self._headers.items():
            request.headers[name] = value
        self._protocol.debug = False  # or `websockets` would log the token
        self._protocol.send_request(request)
        self._outgoing = b"".join(self._protocol.data_to_send())
        yield from self._read_answer()

    def _start_tls(self, host: str) -> Generator[None, None, None]:
        assert self.tls is not None
        try:
            self.tls.start(host)
        except ValueError as error:  # no certificate can have this name
            raise connect_failed(self.goal, error) from error
        while not self.tls.is_open:
            yield

    def _tunnel(self, uri: WebSocketURI, proxy: SplitResult) -> Generator[None, None, None]:
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        lines = [f"CONNECT {host}:{uri.port} HTTP/1.1", f"Host: {host}:{uri.port}"]
        if proxy.username is not None:
            secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(secret).decode()}")
        self._outgoing = "\r\n".join([*lines, "", ""]).encode()
        while (end := self.received.find(_END_OF_HEAD)) < 0:
            if len(self.received) > _LONGEST_ANSWER:
                raise connect_failed(self._url, "the answer of the proxy is too long")
            yield
        status = self.received.split(b"\r\n")[0][:100].decode("latin-1")
        self.received = self.received[end + len(_END_OF_HEAD) :]
        if not status.startswith("HTTP/1.") or status[9:10] != "2":
            raise connect_failed(self._url, f"the proxy {proxy.hostname} answered {status!r}")

    def _read_answer(self) -> Generator[None, None, None]:
        answer = bytearray()
        has_head = False
        while self._protocol.state is State.CONNECTING:
            while not self.received:
                yield
            data, self.received = self.received, b""
            known = len(answer)
            answer += data
            if not has_head and (end := answer.find(_END_OF_HEAD, max(known - 3, 0))) >= 0:
                # The parser must get the answer and no more: what comes after it are frames.
                has_head = True
                rest = end + len(_END_OF_HEAD) - known
                data, self.received = data[:rest], data[rest:]
            self._feed(data)
            if len(answer) > _LONGEST_ANSWER and self._protocol.state is State.CONNECTING:
                self._refuse_early(bytes(answer))

    def _refuse_early(self, answer: bytes) -> NoReturn:
        """Raise the error of a refusal that is too long to be read to its end."""
        head, end, body = answer.partition(_END_OF_HEAD)
        head = _FRAMING.sub(b"", head)
        protocol = ClientProtocol(self._protocol.uri)
        protocol.send_request(protocol.connect())
        protocol.receive_data(head + end + body)
        protocol.receive_eof()  # ends the body here
        assert protocol.handshake_exc is not None
        raise refused(self._url, protocol.handshake_exc)

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._protocol.events_received()  # drops the response, which the protocol has checked
        if self._protocol.handshake_exc is not None:
            raise refused(self._url, self._protocol.handshake_exc)
