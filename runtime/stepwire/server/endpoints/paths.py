# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are written differently from their route: HEAD for GET, and a slash at the end.

Starlette redirects for a slash, to an address with the scheme and the path that the server sees.
Behind a proxy that removes a prefix, or ends TLS, that address is wrong.
"""

from urllib.parse import quote

from fastapi import FastAPI
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.yielding_routes import yielding_routes


class HeadAsGet:
    """A bare ASGI middleware: answers HEAD as GET without the body (RFC 9110, section 9.1)."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or self._has_own_route(scope):
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)

    def _has_own_route(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._router.routes)


class EitherSlash:
    """Serves `/path/` like `/path`, and redirects where the slash is missing.

    A page that is served below its slash has relative addresses, so its own must be right.
    """

    def __init__(self, app: FastAPI) -> None:
        """Replaces the router's own redirects, unless the application's author turned them off."""
        self._app = app
        self._otherwise = app.router.default
        if app.router.redirect_slashes:
            app.router.redirect_slashes = False
            app.router.default = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        is_http = scope["type"] == "http"
        if is_http and path.endswith("/") and self._is_served(scope, path[:-1]):
            await self._app.router({**scope, "path": path[:-1]}, receive, send)
        elif is_http and not path.endswith("/") and self._is_served(scope, f"{path}/"):
            query: str = scope["query_string"].decode("latin-1")
            # Relative: it keeps the scheme, and the prefix that a proxy may have removed.
            address = f"./{quote(path.rpartition('/')[2])}/"
            headers = [(b"location", (f"{address}?{query}" if query else address).encode())]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body"})
        else:
            await self._otherwise(scope, receive, send)

    def _is_served(self, scope: Scope, path: str) -> bool:
        other = {**scope, "path": path}
        routes = (*self._app.router.routes, *yielding_routes(self._app))
        return any(route.matches(other)[0] is not Match.NONE for route in routes)
