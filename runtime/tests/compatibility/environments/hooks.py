# SPDX-License-Identifier: BSD-3-Clause
"""Start-up hooks, routes, a mounted application, an exception handler and middleware."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from starlette.responses import Response

from compatibility.served_by import create_app

BACKEND: dict[str, str] = {}


class Look(Action):
    pass


class View(Observation):
    backend: str = ""


class Connected(Environment[Look, View, State]):
    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> View:
        return View(backend=BACKEND["status"])

    def step(self, action: Look, timeout_s: float | None = None, **kwargs: Any) -> View:
        return View(backend=BACKEND["status"])

    @property
    def state(self) -> State:
        return State(episode_id=BACKEND["status"])


app = create_app(Connected, Look, View)


def connect() -> None:
    BACKEND["status"] = "connected"


async def warm_up() -> None:
    BACKEND["status"] += " and warm"


app.router.on_startup.append(connect)
app.router.on_startup.append(warm_up)


@app.get("/scores")
def scores() -> dict[str, str]:
    return {"best": "3", **BACKEND}


@app.middleware("http")
async def add_header(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["x-served-with"] = "hooks"
    return response


@app.exception_handler(LookupError)
async def explain(_: Request, error: LookupError) -> JSONResponse:
    return JSONResponse({"missing": str(error)}, status_code=418)


router = APIRouter(prefix="/extra")


@router.get("/fails")
async def fails() -> None:
    raise LookupError("the lamp")


app.include_router(router)

mounted = FastAPI()


@mounted.get("/ping")
def ping() -> str:
    return "pong"


app.mount("/mounted", mounted)
