# SPDX-License-Identifier: BSD-3-Clause
"""Who may use the server, and how much one request may bring: before the application sees it.

A browser sends requests for any page that a user visits, with the user's cookies. What tells such a
page from one of this server is `Origin`, and `Host` where another name was made to point here.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qsl, quote, urlencode

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.endpoints.cookies import cookie_attributes, cookie_values
from stepwire.server.pages.inspector import token_page
from stepwire.server.settings import Settings
from stepwire.server.uvicorn_host.lifecycle import Worker

TOKEN_COOKIE = "openenv_token"
_OPEN_TO_ALL = {"/health", "/ready"}
_READING = {"GET", "HEAD", "OPTIONS"}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}


class AccessControl:
    """A bare ASGI application around another.

    A handshake is looked at once; the frames of an accepted connection do not pass through here.
    """

    def __init__(self, app: ASGIApp, settings: Settings, worker: Worker) -> None:
        self._app = app
        self._worker = worker
        self._most_bytes = settings.max_message_bytes
        self._origins = frozenset(settings.allowed_origins)
        self._hosts = settings.allowed_hosts
        self._settings = settings
        self._token = settings.api_token.get_secret_value() if settings.api_token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve_request(HTTPConnection(scope), receive, send)
        elif scope["type"] == "websocket" and (refusal := self._refusal(HTTPConnection(scope))):
            await receive()  # websocket.connect
            if "websocket.http.response" in scope.get("extensions", {}):
                await refusal(scope, receive, send)
            else:
                await send({"type": "websocket.close"})  # before it is accepted: a plain 403
        else:
            await self._app(scope, receive, send)

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        """What to answer instead of passing the connection on."""
        scope = connection.scope
        for host in connection.headers.getlist("host"):
            if not self._is_own_name(host):
                reason = f"This server does not answer to the name {host[:80]!r}"
                return _refuse(403, f"{reason}; ALLOWED_HOSTS would let it")
        if scope["type"] == "websocket" or scope["method"] not in _READING:
            for origin in connection.headers.getlist("origin"):
                if not self._may_come_from(origin, connection):
                    reason = f"A page of {origin[:80]!r} may not use this server"
                    return _refuse(403, f"{reason}; ALLOWED_ORIGINS would let it")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._token is not None and path not in _OPEN_TO_ALL:
            return self._ask_for_token(connection, self._token)
        return None

    def _is_own_name(self, host: str) -> bool:
        """Whether a `Host` header is one of this server's.

        Any, unless names are given or only this machine can connect. That an address is its own
        name is certain: it takes a DNS name to make a browser take another server for its page's.
        """
        if not self._hosts and not self._worker.is_on_loopback:
            return True
        name = re.sub(r":\d*$", "", host).lower()
        if name == "localhost" or name.endswith(".localhost") or _is_address(name.strip("[]")):
            return True
        return any(
            allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in (*self._hosts, self._worker.host)
        )

    def _may_come_from(self, origin: str, connection: HTTPConnection) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        scheme, _, host = origin.lower().partition("://")
        if scheme == "http" and connection.url.scheme in ("https", "wss"):
            return False
        # A proxy may have put its own name into `Host`. No page can send the other header to
        # another origin: a browser asks first, and the answer is no.
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
            return token_page(self._settings, is_wrong=bool(sent or in_address))
        if sent or in_address:
            return _refuse(401, "This token is not the server's", 'Bearer error="invalid_token"')
        reason = "This server asks for a token: as `Authorization: Bearer …`, or in a browser once "
        return _refuse(401, f"{reason}as `?token=…` in the address of a page", "Bearer")

    async def _serve_request(
        self, connection: HTTPConnection, receive: Receive, send: Send
    ) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(connection)
        if refusal is not None:
            await refusal(connection.scope, receive, send_with_headers)
            return
        body = _LimitedBody(receive, send_with_headers, self._most_bytes)
        declared = connection.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._most_bytes:
            await body.refuse(connection, int(declared))
            return
        with suppress(_BodyTooLarge):
            await self._app(connection.scope, body.receive, body.send)
        if body.is_too_large:
            await body.refuse(connection, None)


def add_cross_origin_headers(app: Starlette, origins: tuple[str, ...]) -> None:
    """Let pages of these origins read what they get, without cookies where that is anyone."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Mcp-Protocol-Version", "Mcp-Session-Id"],
        allow_credentials="*" not in origins,
    )


class _BodyTooLarge(Exception):
    pass


class _LimitedBody:
    """Counts a request's body; once it is too large, what the application answers is not sent."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self._received = 0
        self._more_is_expected = True
        self._answered = False

    @property
    def is_too_large(self) -> bool:
        return self._received > self._most_bytes

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._more_is_expected = message.get("more_body", False)
        if self.is_too_large:
            raise _BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self.is_too_large and not self._answered:
            return
        self._answered = True
        await self._send(message)

    async def refuse(self, connection: HTTPConnection, declared: int | None) -> None:
        """Answer 413, unless the application has answered already."""
        if self._answered:
            return
        size = "more" if declared is None else declared
        reason = f"A body may have {self._most_bytes} bytes at most (MAX_MESSAGE_BYTES)"
        answer = _refuse(413, f"{reason}, this one has {size}")
        answer.headers["Connection"] = "close"
        if "expect" not in connection.headers:
            await self._take_in((declared or 0) - self._most_bytes)
        await answer(connection.scope, self._receive, self._send)

    async def _take_in(self, excess: int) -> None:
        """Read on, within reason: who is still sending does not see an answer."""
        if excess > self._most_bytes:
            return
        while self._more_is_expected and self._received <= 2 * self._most_bytes:
            message = await self._receive()
            self._received += len(message.get("body", b""))
            self._more_is_expected = message.get("more_body", False)


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
    """The page again, without the token in its address, which goes into a cookie instead."""
    rest = [(name, value) for name, value in _query(connection) if name != "token"]
    # Relative, as all addresses here: a proxy may have a prefix that the server does not know.
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
