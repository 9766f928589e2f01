# SPDX-License-Identifier: BSD-3-Clause
"""Access control in front of the application: hosts, origins, the token, and the size of bodies.

A browser sends requests on behalf of any page that a user visits, with the user's cookies. `Origin`
tells another server's page from our own; `Host` does where an attacker's DNS name points here.
"""

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import HTTPException, WebSocketException
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.endpoints.cookies import cookie_attributes, cookie_values
from stepwire.server.endpoints.request_memory import MemoryOfRequest
from stepwire.server.settings import Settings, read_settings_of_application

TOKEN_COOKIE = "openenv_token"
_OPEN_TO_ALL = {"/health", "/ready"}
_READING = {"GET", "HEAD", "OPTIONS"}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# Of all versions of the standard.
_MCP_HEADERS = ("Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "Mcp-Session-Id")


_CHECKED = "stepwire.access"  # in the scope of a connection that `AccessControl` lets pass


def require_access_control(scope: Scope) -> None:
    """Refuse a connection that has not passed `AccessControl`, if a token is set.

    That happens in an application that includes our routes instead of mounting ours. Raises
    `HTTPException` or `WebSocketException`.
    """
    if _CHECKED not in scope and read_settings_of_application()[0].api_token is not None:
        reason = "API_TOKEN is set, but nothing checks it: mount the application, do not include it"
        is_http = scope["type"] == "http"
        raise HTTPException(500, reason) if is_http else WebSocketException(1008, reason)


class Listener(Protocol):
    """Where the server listens."""

    @property
    def host(self) -> str:
        """The address or name that it listens on; empty when unknown."""

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can connect, as far as that is known."""


class AccessControl:
    """A bare ASGI middleware.

    It checks the handshake of a WebSocket only: frames do not pass through it. `token_page` makes
    the answer to a browser without the token; its argument says whether a wrong one was sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        listener: Listener,
        origins: "AllowedOrigins",
        token_page: Callable[[bool], Response],
    ) -> None:
        self._app = app
        self._listener = listener
        self._token_page = token_page
        self._max_bytes = settings.max_message_bytes
        self._origins = origins
        self._hosts = settings.allowed_hosts
        # For responses without these headers: our own pages, for example, have a stricter policy.
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Content-Security-Policy": f"frame-ancestors {settings.frame_ancestors}",
        }
        self._token = settings.api_token.get_secret_value() if settings.api_token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve_request(HTTPConnection(scope), receive, send)
        elif scope["type"] == "websocket" and (refusal := self._refusal(HTTPConnection(scope))):
            await receive()  # websocket.connect
            if "websocket.http.response" in scope.get("extensions", {}):
                await refusal(scope, receive, send)
            else:
                # Before it is accepted, a close is a plain 403.
                await send({"type": "websocket.close"})
        else:
            scope[_CHECKED] = True
            await self._app(scope, receive, send)

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        """The answer that keeps the connection from the application; None when it may pass."""
        scope = connection.scope
        hosts = connection.headers.getlist("host")
        if len(hosts) > 1 or (not hosts and scope.get("http_version") == "1.1"):
            return _refuse(400, "A request has exactly one Host")  # RFC 9112, section 3.2
        for host in hosts:
            if not self._is_own_host(host):
                reason = f"This server does not answer to the name {host[:80]!r}"
                return _refuse(403, f"{reason}; add it to ALLOWED_HOSTS to allow it")
        if scope["type"] == "websocket" or scope["method"] not in _READING:
            for origin in connection.headers.getlist("origin"):
                if not self._is_allowed_origin(origin, connection):
                    reason = f"A page of {origin[:80]!r} may not use this server"
                    return _refuse(403, f"{reason}; add it to ALLOWED_ORIGINS to allow it")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._token is not None and path not in _OPEN_TO_ALL:
            return self._ask_for_token(connection, self._token)
        return None

    def _is_own_host(self, host: str) -> bool:
        """Whether a `Host` header names this server.

        Any name does, unless names are configured or only this machine can connect. IP addresses
        always do: the attack that this stops, DNS rebinding, needs a name.
        """
        if not self._hosts and not self._listener.is_on_loopback:
            return True
        name = re.sub(r":\d*$", "", host).lower()
        if name == "localhost" or name.endswith(".localhost") or _is_address(name.strip("[]")):
            return True
        return any(
            allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in (*self._hosts, self._listener.host)
        )

    def _is_allowed_origin(self, origin: str, connection: HTTPConnection) -> bool:
        if origin in self._origins:
            return True
        scheme, _, host = origin.lower().partition("://")
        if scheme == "http" and connection.url.scheme in ("https", "wss"):
            return False
        # A proxy may replace `Host`. A page cannot forge X-Forwarded-Host across origins: the
        # browser sends a preflight request first, and the server does not allow the header.
        own = {
            value.split(",")[0].strip().lower().removesuffix(_DEFAULT_PORTS.get(scheme, "/"))
            for name in ("host", "x-forwarded-host")
            for value in connection.headers.getlist(name)
        }
        return bool(host) and host in own

    def _ask_for_token(self, connection: HTTPConnection, token: str) -> Response | None:
        sent = [*_bearer_tokens(connection), *cookie_values(connection, TOKEN_COOKIE)]
        if any(hmac.compare_digest(value.encode(), token.encode()) for value in sent):
            return None
        in_address = connection.query_params.getlist("token")
        if connection.scope["type"] == "http" and connection.scope["method"] in ("GET", "HEAD"):
            for value in in_address:
                if hmac.compare_digest(value.encode(), token.encode()):
                    return _keep_token(connection, token)
        if _wants_a_page(connection):
            return self._token_page(bool(sent or in_address))
        if sent or in_address:
            return _refuse(401, "The token is wrong", 'Bearer error="invalid_token"')
        reason = "This server needs a token: send `Authorization: Bearer …`; in a browser, open a "
        return _refuse(401, f"{reason}page once with `?token=…` in its address", "Bearer")

    async def _serve_request(
        self, connection: HTTPConnection, receive: Receive, send: Send
    ) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(connection)
        if refusal is not None:
            await refusal(connection.scope, receive, send_with_headers)
            return
        connection.scope[_CHECKED] = True
        length = connection.headers.get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        memory = MemoryOfRequest(connection.scope, declared)
        body = _LimitedBody(receive, send_with_headers, self._max_bytes, memory)
        if declared > self._max_bytes:
            await body.refuse(connection, declared)
            return
        try:
            with suppress(_BodyTooLarge):
                await self._app(connection.scope, body.receive, body.send)
        finally:
            body.give_memory_back()
        if body.is_too_large:
            await body.refuse(connection, None)
        elif body.is_too_slow:
            await body.refuse_slow(connection)


def add_cross_origin_headers(app: Starlette, origins: tuple[str, ...]) -> None:
    """Let pages of these origins read responses; `*` does so without cookies."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", *_MCP_HEADERS],
        allow_credentials="*" not in origins,
    )


class AllowedOrigins:
    """The origins whose pages may read responses: those of the setting and of the author's own
    `CORSMiddleware`.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def __contains__(self, origin: str) -> bool:
        return any(rules.is_allowed_origin(origin) for rules in self._rules)

    @cached_property
    def _rules(self) -> list[CORSMiddleware]:
        # Read with the first request: then the application takes no more middleware.
        added: list[Any] = self._app.user_middleware
        return [
            middleware.cls(self._app, *middleware.args, **middleware.kwargs)
            for middleware in added
            if isinstance(middleware.cls, type) and issubclass(middleware.cls, CORSMiddleware)
        ]


class _BodyTooLarge(ClientDisconnect):
    """The body is too large, or too slow while others wait for its memory."""


class _LimitedBody:
    """Counts the bytes of a body; once it is too large, drops the application's answer.

    A large body has its shares of the memory (`memory.py`) until the request is answered.
    """

    def __init__(
        self, receive: Receive, send: Send, max_bytes: int, memory: MemoryOfRequest
    ) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._received = 0
        self._more_expected = True
        self._answered = False
        self._memory = memory
        self.is_too_slow = False

    @property
    def is_too_large(self) -> bool:
        return self._received > self._max_bytes

    async def receive(self) -> Message:
        try:
            message = await self._memory.receive(self._receive)
            body = message.get("body", b"")
            self._received += len(body)
            self._more_expected = message.get("more_body", False)
            if self.is_too_large:
                raise _BodyTooLarge
            await self._memory.take(body, self._more_expected)
        except asyncio.TimeoutError:
            self.is_too_slow = True
            raise _BodyTooLarge from None
        return message

    def give_memory_back(self) -> None:
        """Note that the request has been answered."""
        self._memory.give_back()

    async def refuse_slow(self, connection: HTTPConnection) -> None:
        """Answer 408, unless the application has already answered."""
        if not self._answered:
            answer = _refuse(408, "The body took too long to arrive")
            answer.headers["Connection"] = "close"
            await answer(connection.scope, self._receive, self._send)

    async def send(self, message: Message) -> None:
        if (self.is_too_large or self.is_too_slow) and not self._answered:
            return
        self._answered = True
        await self._send(message)

    async def refuse(self, connection: HTTPConnection, declared: int | None) -> None:
        """Answer 413, unless the application has already answered."""
        if self._answered:
            return
        size = "more" if declared is None else declared
        reason = f"A body may have at most {self._max_bytes} bytes (MAX_MESSAGE_BYTES)"
        answer = _refuse(413, f"{reason}; this one has {size}")
        answer.headers["Connection"] = "close"
        if "expect" not in connection.headers:
            await self._drain((declared or 0) - self._max_bytes)
        await answer(connection.scope, self._receive, self._send)

    async def _drain(self, excess: int) -> None:
        """Read on, up to a limit: a client reads no answer while it is still sending."""
        if excess > self._max_bytes:
            return
        while self._more_expected and self._received <= 2 * self._max_bytes:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            self._more_expected = message.get("more_body", False)


def _refuse(status: int, reason: str, challenge: str | None = None) -> Response:
    headers = {"WWW-Authenticate": challenge} if challenge else None
    return JSONResponse({"detail": reason}, status, headers)


def _wants_a_page(connection: HTTPConnection) -> bool:
    is_request = connection.scope["type"] == "http" and connection.scope["method"] == "GET"
    return is_request and "text/html" in connection.headers.get("accept", "")


def _bearer_tokens(connection: HTTPConnection) -> Iterator[str]:
    for value in connection.headers.getlist("authorization"):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            yield token.strip()


def _keep_token(connection: HTTPConnection, token: str) -> Response:
    """Redirect to the page without the token in its address; a cookie carries it instead."""
    rest = [(name, value) for name, value in _query(connection) if name != "token"]
    # Relative: the server may not know the prefix that a proxy puts before its paths.
    address = "./" + quote(connection.scope["path"].rpartition("/")[2])
    response = RedirectResponse(f"{address}?{urlencode(rest)}" if rest else address, 303)
    response.headers["Set-Cookie"] = f"{TOKEN_COOKIE}={token}; {cookie_attributes(connection)}"
    response.headers["Cache-Control"] = "no-store"
    return response


def _query(connection: HTTPConnection) -> list[tuple[str, str]]:
    return parse_qsl(connection.url.query, keep_blank_values=True)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
