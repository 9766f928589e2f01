# SPDX-License-Identifier: BSD-3-Clause
"""`/web`: the protocol inspector, a page that uses `/ws` like any other client. `/` leads to it."""

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, NamedTuple

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response

from stepwire.server.distribution import distribution_of
from stepwire.server.http_env_server import HTTPEnvServer
from stepwire.server.pages.action_example import action_example, action_schema
from stepwire.server.pages.client_code import client_code
from stepwire.server.pages.custom_page import CustomPage
from stepwire.server.pages.page_script import page_script
from stepwire.server.pages.security import FILES, page_headers, render_page
from stepwire.server.wire import action_classes


def add_inspector(
    app: FastAPI, server: HTTPEnvServer, custom_page: CustomPage
) -> Callable[[Request], Awaitable[Response]]:
    """Serve the page at `/web/inspector`, and its files; returns its endpoint, for `/web/`.

    Every address here and in the page is relative, so the page works behind a path prefix.
    """
    headers = page_headers(
        server.settings,
        script_src="'self'",
        style_src="'self'",
        connect_src="'self'",
        img_src="data:",
        # The browser refuses to turn text of users or the server into markup.
        require_trusted_types_for="'script'",
    )

    @cache
    def environment(module: str) -> dict[str, Any]:
        return _environment(server, module)

    def page() -> str:
        return render_page(
            "index.html",
            environment(server.factory.module),
            name=custom_page.title or server.env_name,
            version=distribution_of(server.factory.module).version or "from a checkout",
            limit=str(server.settings.max_message_bytes),
            token="required" if server.settings.api_token else "none",
            active=str(server.active_sessions),
            capacity=str(server.max_concurrent_envs),
            custom_name=custom_page.tab_name,
            custom_address=custom_page.address,
            custom_hidden="" if custom_page.builder else "hidden",
        )

    # Relative to the address without a slash, which a proxy may have put below a prefix.
    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("web/")

    @app.get("/web", include_in_schema=False)
    async def without_slash() -> RedirectResponse:
        return RedirectResponse("web/")

    async def inspector(_: Request) -> HTMLResponse:
        return HTMLResponse(page(), headers=headers)

    if not custom_page.is_alone:
        app.add_route("/web/inspector", inspector, include_in_schema=False)
        app.add_route("/web/inspector/{name}", _page_file, include_in_schema=False)
    return inspector


async def _page_file(request: Request) -> Response:
    """A file that the page loads; the browser asks each time whether it is still the same."""
    file = _file(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": "Accept-Encoding"}
    if file.tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(file.content, headers=headers, media_type=file.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(file.compressed, headers=headers, media_type=file.media_type)


class _File(NamedTuple):
    content: bytes
    compressed: bytes
    media_type: str
    tag: str


@cache
def _file(name: str) -> _File | None:
    if name == "inspector.js":
        content, media_type = page_script().encode(), "text/javascript"
    elif name == "inspector.css":
        content, media_type = (FILES / name).read_bytes(), "text/css"
    else:
        return None
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, gzip.compress(content, mtime=0), media_type, tag)


def _environment(server: HTTPEnvServer, module: str) -> dict[str, Any]:
    """The data for the page's script; the environment's class is in `module`."""
    models = server.models
    classes = action_classes(models.action)
    return {
        "schema": action_schema(models.action),
        "example": action_example(models.action).action,
        "echoes": {"echoed_message", "message_length"} <= models.observation.model_fields.keys(),
        **client_code([*(cls.__module__ for cls in classes), module], classes),
    }
