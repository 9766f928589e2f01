# SPDX-License-Identifier: BSD-3-Clause
"""Routes that the framework's servers do not have: an author's route of the same path wins."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute


class _LastRouter(APIRouter):
    """Serves a request for which the application has no route, not even one added later."""


@contextmanager
def routes_that_yield(app: FastAPI) -> Iterator[None]:
    """The routes added to `app` in this context serve only requests that no other route serves."""
    before = len(app.router.routes)
    yield
    if not isinstance(app.router.default, _LastRouter):
        app.router.default = _LastRouter(default=app.router.default, redirect_slashes=False)
    app.router.default.routes += app.router.routes[before:]
    del app.router.routes[before:]


def yielding_routes(app: FastAPI) -> list[BaseRoute]:
    """Those routes, which `app.routes` does not have."""
    last = app.router.default
    return last.routes if isinstance(last, _LastRouter) else []
