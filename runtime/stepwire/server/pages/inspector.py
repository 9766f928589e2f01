# SPDX-License-Identifier: BSD-3-Clause
"""`/web`: the protocol inspector, which talks to `/ws` like any other client. `/` leads to it."""

import base64
import hashlib
import html
import re
from importlib import metadata
from pathlib import Path
from string import Template
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from stepwire.server.settings import Settings

_FILES = Path(__file__).parent / "web"
_DISTRIBUTION = "openenv-echo-env"


def page_headers(settings: Settings, **sources: str) -> dict[str, str]:
    """Headers of a page: whom it may ask, what may run in it and who may embed it.

    `sources` are further directives of its Content-Security-Policy: `script_src="'self'"`.
    """
    directives = {
        "default-src": "'none'",
        **{name.replace("_", "-"): value for name, value in sources.items()},
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": settings.frame_ancestors,
    }
    policy = "; ".join(f"{name} {value}" for name, value in directives.items())
    # Asked for again each time, so that a page and its files are always of one version.
    return {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}


class _PageFiles(StaticFiles):
    """The page's files, without the page: it is at `/web` itself."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def digests(page: str, tag: str) -> str:
    """The sources that allow what is inside these elements of a page, and nothing else inline."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    hashes = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)


def token_page(settings: Settings, is_wrong: bool) -> HTMLResponse:
    """What a browser is shown instead of a page, as long as it has no token: a form for it.

    The form sends it in the address, which `access.py` turns into a cookie.
    """
    said = "The one that was sent is not it." if is_wrong else "Whoever runs the server knows it."
    page = _page("token.html", said=said)
    headers = page_headers(settings, style_src=digests(page, "style"), img_src="data:")
    return HTMLResponse(page, 401, {**headers, "Cache-Control": "no-store"})


def _page(file: str, **values: str) -> str:
    icon = quote((_FILES / "favicon.svg").read_text("utf-8"))
    escaped = {name: html.escape(value) for name, value in values.items()}
    return Template((_FILES / file).read_text("utf-8")).substitute(escaped, icon=icon)


def add_web_interface(app: FastAPI, name: str, settings: Settings) -> None:
    """Serve the page at `/web` and its files below it.

    Every address here and in the page is relative, so that all of it works behind a path prefix.
    """
    headers = page_headers(
        settings,
        script_src="'self'",
        style_src="'self'",
        connect_src="'self'",
        img_src="data:",
        # Text from users and from the server cannot become markup, not even by mistake.
        require_trusted_types_for="'script'",
    )
    page = _page(
        "index.html",
        name=name,
        version=_version(),
        limit=str(settings.max_message_bytes),
        token="required" if settings.api_token else "none",
    )

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("web")

    @app.get("/web/", include_in_schema=False)
    async def trailing_slash() -> RedirectResponse:
        return RedirectResponse("../web")

    @app.get("/web", include_in_schema=False)
    async def inspector() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    app.mount("/web", _PageFiles(directory=_FILES), name="web")


def _version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "from a checkout"
