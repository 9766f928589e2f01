# SPDX-License-Identifier: BSD-3-Clause
"""`/web`: a page that drives an episode over `/ws`, like any other client. `/` leads to it."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

_PAGE_AND_FILES = Path(__file__).parent / "web"


def add_web_interface(app: FastAPI) -> None:
    """Serve the page at `/web` and its files below it.

    Every address here and in the page is relative, so that all of it works behind a path prefix.
    """

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("web")

    @app.get("/web/", include_in_schema=False)
    async def trailing_slash() -> RedirectResponse:
        return RedirectResponse("../web")

    @app.get("/web", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE_AND_FILES / "index.html")

    app.mount("/web", StaticFiles(directory=_PAGE_AND_FILES), name="web")
