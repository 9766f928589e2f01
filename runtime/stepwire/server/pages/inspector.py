# SPDX-License-Identifier: BSD-3-Clause
"""`/web`: the protocol inspector, a page that uses `/ws` like any other client. `/` leads to it."""

from collections.abc import Awaitable, Callable
from functools import cache

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from stepwire.server.distribution import distribution_of
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.pages.custom_page import CustomPage
from stepwire.server.pages.security import FILES, page_headers, render_page
from stepwire.server.settings import Settings


def add_inspector(
    app: FastAPI,
    name: str,
    factory: EnvironmentFactory,
    settings: Settings,
    custom_page: CustomPage,
) -> Callable[[Request], Awaitable[Response]]:
    """Serve the page at `/web/inspector`, and its files; returns its endpoint, for `/web/`.

    Every address here and in the page is relative, so the page works behind a path prefix.
    """
    headers = page_headers(
        settings,
        script_src="'self'",
        style_src="'self'",
        connect_src="'self'",
        img_src="data:",
        # The browser refuses to turn text of users or the server into markup.
        require_trusted_types_for="'script'",
    )

    @cache
    def page() -> str:
        return render_page(
            "index.html",
            name=custom_page.title or name,
            version=distribution_of(factory.module).version or "from a checkout",
            limit=str(settings.max_message_bytes),
            token="required" if settings.api_token else "none",
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
        app.mount("/web/inspector", _PageFiles(directory=FILES), name="inspector")
    return inspector


class _PageFiles(StaticFiles):
    """The files that the page loads; they must be of its version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.lower().endswith(".html"):  # a template, served as a page with its policy
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
