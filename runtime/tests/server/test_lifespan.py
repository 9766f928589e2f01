# SPDX-License-Identifier: BSD-3-Clause
"""What an author adds to the application works as on the framework's own.

Each test runs with our `create_app` and with the one of the installed framework.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from openenv.core.env_server.types import ConcurrencyConfig
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import HTTPEnvServer, create_app, create_fastapi_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of `on_event`


_ORIGIN = "https://app.example.org"


@pytest.fixture(params=["ours", "stock"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    make: Any = create_app
    if request.param == "stock":
        from openenv.core.env_server import http_server  # takes seconds

        make = http_server.create_app
    made: FastAPI = make(NotesEnvironment, NoteAction, NoteObservation)
    return made


Ran = list[str]
Add = Callable[[Any, Ran], None]


def _lifespan(ran: Ran) -> Any:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        ran.append("start")
        yield
        ran.append("stop")

    return lifespan


def _on_event(app: FastAPI, ran: Ran) -> None:
    @app.on_event("startup")
    def start() -> None:
        ran.append("start")

    @app.on_event("shutdown")
    async def stop() -> None:
        ran.append("stop")


def _lists_of_hooks(app: FastAPI, ran: Ran) -> None:
    app.router.on_startup.append(lambda: ran.append("start"))
    app.router.on_shutdown.append(lambda: ran.append("stop"))


def _lifespan_in_place_of_the_old(app: FastAPI, ran: Ran) -> None:
    app.router.lifespan_context = _lifespan(ran)


def _lifespan_around_the_old(app: FastAPI, ran: Ran) -> None:
    inner, outer = app.router.lifespan_context, _lifespan(ran)

    @asynccontextmanager
    async def lifespan(scope: Any) -> AsyncIterator[None]:
        async with outer(scope), inner(scope):
            yield

    app.router.lifespan_context = lifespan


def _router_with_a_lifespan(app: FastAPI, ran: Ran) -> None:
    app.include_router(APIRouter(lifespan=_lifespan(ran)))


_ADDITIONS: list[Add] = [
    _on_event,
    _lists_of_hooks,
    _lifespan_in_place_of_the_old,
    _lifespan_around_the_old,
    _router_with_a_lifespan,
]


@pytest.mark.parametrize("add", _ADDITIONS, ids=lambda add: add.__name__.strip("_"))
def test_hooks_run_at_the_start_and_at_the_end(app: FastAPI, add: Add) -> None:
    ran: Ran = []
    add(app, ran)
    with TestClient(app) as client:
        assert client.post("/reset", json={}).status_code == 200
        assert ran == ["start"]
    assert ran == ["start", "stop"]


def test_a_hook_that_fails_keeps_the_server_from_starting(app: FastAPI) -> None:
    @app.on_event("startup")
    def start() -> None:
        raise ConnectionError("no database")

    with pytest.raises(ConnectionError, match="no database"), TestClient(app):
        pass


def test_an_application_starts_again_after_it_has_stopped(app: FastAPI) -> None:
    for _ in range(3):
        with TestClient(app) as client, client.websocket_connect("/ws") as session:
            session.send_json({"type": "step", "data": {"text": "Hi"}})
            assert session.receive_json()["data"]["reward"] == 0.2
            assert client.post("/reset", json={}).status_code == 200


@pytest.mark.parametrize("how", ["mounted", "mounted and entered", "included"])
def test_the_application_works_inside_another_one(
    app: FastAPI, how: Literal["mounted", "mounted and entered", "included"]
) -> None:
    ran: Ran = []
    outer = _lifespan(ran)

    @asynccontextmanager
    async def lifespan(scope: Any) -> AsyncIterator[None]:
        async with outer(scope):
            if how == "mounted and entered":
                async with app.router.lifespan_context(app):
                    yield
            else:
                yield

    parent = FastAPI(lifespan=lifespan)
    if how == "included":
        parent.include_router(app.router)
    else:
        parent.mount("/env", app)
    prefix = "" if how == "included" else "/env"
    with TestClient(parent) as client, client.websocket_connect(f"{prefix}/ws") as session:
        session.send_json({"type": "step", "data": {"text": "Hi"}})
        assert session.receive_json()["data"]["reward"] == 0.2
        assert client.post(f"{prefix}/step", json={"action": {}}).status_code == 422
        assert client.get(f"{prefix}/health").json() == {"status": "healthy"}
        assert client.get(f"{prefix}/nothing").status_code == 404
    assert ran == ["start", "stop"]


def test_routes_that_the_framework_does_not_have_are_the_authors(app: FastAPI) -> None:
    for path in ("/", "/web", "/sessions", "/ready", "/favicon.ico", "/docs/guide"):
        app.get(path)(lambda: "the author's")
    for path in ("/health", "/state", "/docs"):
        app.get(path)(lambda: "unreachable")
    with TestClient(app) as client:
        for path in ("/", "/web", "/sessions", "/ready", "/favicon.ico", "/docs/guide"):
            assert client.get(path).json() == "the author's", path
        assert client.get("/health").json() == {"status": "healthy"}
        assert "unreachable" not in client.get("/state").text
        assert "unreachable" not in client.get("/docs").text
        assert {"/sessions", "/state"} <= set(client.get("/openapi.json").json()["paths"])


def test_a_mount_at_the_root_gets_all_other_requests(app: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("the author's")
    (tmp_path / "web").write_text("the author's")
    app.mount("/", StaticFiles(directory=tmp_path, html=True))
    with TestClient(app) as client:
        assert client.get("/").text == client.get("/web").text == "the author's"
        assert client.get("/health").json() == {"status": "healthy"}
        assert client.post("/reset", json={}).status_code == 200


def test_routes_are_found_by_their_paths_and_may_be_replaced(app: FastAPI) -> None:
    paths = {route.path for route in app.router.routes}  # type: ignore[attr-defined]
    assert {"/reset", "/step", "/state", "/schema", "/metadata", "/health", "/mcp", "/ws"} <= paths
    app.router.routes[:] = [
        route
        for route in app.router.routes
        if route.path != "/health"  # type: ignore[attr-defined]
    ]
    app.get("/health")(lambda: "the author's")
    with TestClient(app) as client:
        assert client.get("/health").json() == "the author's"


def test_middleware_handlers_and_overrides_of_the_author_apply(app: FastAPI) -> None:
    def dependency() -> str:
        return "real"

    @app.middleware("http")
    async def count(request: Any, proceed: Any) -> Any:
        response = await proceed(request)
        response.headers["x-author"] = app.state.name
        return response

    @app.exception_handler(LookupError)
    async def explain(_: Any, error: Any) -> PlainTextResponse:
        return PlainTextResponse(f"not found: {error}", 418)

    @app.get("/broken")
    def broken() -> None:
        raise LookupError("a note")

    @app.get("/dependent")
    def dependent(value: str = Depends(dependency)) -> str:
        return value

    app.dependency_overrides[dependency] = lambda: "replaced"
    app.state.name = "notes"
    with TestClient(app) as client:
        assert client.get("/broken").text == "not found: a note"
        assert client.get("/dependent").json() == "replaced"
        assert client.post("/reset", json={}).headers["x-author"] == "notes"


@pytest.mark.parametrize(
    "options",
    [
        {"allow_origins": ["*"]},
        {"allow_origins": [_ORIGIN]},
        {"allow_origin_regex": r"https://.*\.example\.org"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_pages_that_the_author_allows_may_use_the_server(
    app: FastAPI, options: dict[str, Any]
) -> None:
    app.add_middleware(CORSMiddleware, allow_methods=["*"], allow_headers=["*"], **options)
    headers = {"Origin": _ORIGIN}
    with TestClient(app) as client:
        answer = client.post("/reset", json={}, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] in ("*", _ORIGIN)
        asked = {**headers, "Access-Control-Request-Method": "POST"}
        assert client.options("/reset", headers=asked).status_code == 200
        with client.websocket_connect("/ws", headers=headers) as session:
            session.send_json({"type": "reset"})
            assert session.receive_json()["type"] == "observation"


def test_handlers_of_the_author_see_invalid_requests(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Any, error: Any) -> PlainTextResponse:
        return PlainTextResponse(f"body: {error.errors()[0]['loc']}", 418)

    @app.exception_handler(HTTPException)
    async def refused(_: Any, error: Any) -> PlainTextResponse:
        return PlainTextResponse(f"action: {error.detail[0]['loc']}", error.status_code)

    with TestClient(app) as client:
        assert client.post("/reset", json={"seed": -1}).text == "body: ('body', 'seed')"
        assert client.post("/step", content="{").text.startswith("body: ('body',")
        assert client.post("/step", json={}).text == "body: ('body', 'action')"
        invalid_action = client.post("/step", json={"action": {"text": 7}})
        assert (invalid_action.status_code, invalid_action.text) == (422, "action: ('text',)")


# From here on: ours alone


class _InThreads(NotesEnvironment):
    BLOCKING = True


class _InOneThread(_InThreads):
    REQUIRES_SINGLE_THREAD_EXECUTOR = True


@pytest.mark.parametrize("environment_cls", [NotesEnvironment, _InThreads, _InOneThread])
def test_a_server_that_starts_again_has_everything_again(environment_cls: Any) -> None:
    app = create_app(environment_cls, NoteAction, NoteObservation)
    handshake = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    create = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/step", json={"action": {"text": "Hi"}}).json()["reward"] == 0.2
            assert client.post("/web/step", json={"action": {"text": "Hi"}}).json()["reward"] == 0.2
            assert "serverInfo" in client.post("/mcp", json=handshake).json()["result"]
            assert "session_id" in client.post("/mcp", json=create).json()["result"]
            assert client.get("/sessions").json()["active_sessions"] == 1


def test_the_page_comes_before_the_authors_where_the_variable_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As on the framework's servers, which have no page without the variable.
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "true")
    app = create_app(NotesEnvironment, NoteAction, NoteObservation)
    app.get("/web/")(lambda: "unreachable")
    with TestClient(app) as client:
        assert "inspector" in client.get("/web/").text


def test_pages_that_the_author_does_not_allow_are_still_refused() -> None:
    app = create_app(NotesEnvironment, NoteAction, NoteObservation)
    app.add_middleware(CORSMiddleware, allow_origins=["https://other.example.org"])
    with TestClient(app) as client:
        assert client.post("/reset", json={}, headers={"Origin": _ORIGIN}).status_code == 403


@pytest.mark.parametrize("token", [None, "a-token-of-16-characters"])
def test_routes_that_another_application_includes_are_not_open_where_a_token_is_set(
    token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check of the token is middleware, which `include_router` leaves out.
    if token is not None:
        monkeypatch.setenv("API_TOKEN", token)
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "true")
    parent = FastAPI()
    parent.include_router(create_app(NotesEnvironment, NoteAction, NoteObservation).router)
    refused = token is not None
    with TestClient(parent) as client:
        for path in ("/reset", "/web/reset", "/mcp"):
            answer = client.post(path, json={})
            assert answer.status_code == (500 if refused else 200)
            assert ("mount the application" in answer.text) == refused
        for path in ("/ws", "/mcp", "/ws/ui"):
            outcome: Any = pytest.raises(WebSocketDisconnect) if refused else nullcontext()
            with outcome, client.websocket_connect(path):
                pass


def test_an_author_takes_the_page_out_and_mounts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the environment "agent world model" of the framework's repository does.
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "true")
    app = create_app(NotesEnvironment, NoteAction, NoteObservation)
    of_the_page = {"/web", "/web/reset", "/web/step", "/web/state", "/web/metadata", "/ws/ui"}
    app.routes[:] = [route for route in app.routes if route.path not in of_the_page]  # type: ignore[attr-defined]
    page = FastAPI()
    page.get("/")(lambda: "the author's")
    app.mount("/web", page)
    with TestClient(app) as client:
        assert client.get("/web/").json() == client.get("/web").json() == "the author's"
        assert client.post("/web/reset").status_code == 404


def test_environments_are_closed_before_the_authors_hook_runs() -> None:
    ran: Ran = []

    class Closing(NotesEnvironment):
        def close(self) -> None:
            ran.append("close")

    app = create_app(Closing, NoteAction, NoteObservation)
    _on_event(app, ran)
    create = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}
    with TestClient(app) as client:
        assert "session_id" in client.post("/mcp", json=create).json()["result"]
    assert ran == ["start", "close", "stop"]


@pytest.mark.parametrize("mode", ["simulation", "production"])
def test_the_routes_can_be_registered_on_an_application_of_the_authors(mode: str) -> None:
    app = FastAPI(title="The author's")
    app.post("/reset")(lambda: "the author's")
    server = HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation, max_concurrent_envs=4)
    server.register_routes(app, mode=mode)
    app.get("/health")(lambda: "unreachable")
    with TestClient(app) as client:
        assert client.post("/reset").json() == "the author's"
        assert client.get("/state").status_code == (200 if mode == "simulation" else 404)
        assert client.get("/health").json() == {"status": "healthy"}
        document = client.get("/openapi.json").json()
        assert document["info"]["title"] == "The author's"
        assert {"/reset", "/mcp", "/ready"} <= set(document["paths"])
        with client.websocket_connect("/ws") as session:
            session.send_json({"type": "reset", "data": {}})
            assert session.receive_json()["type"] == "observation"
            status = server.get_capacity_status()
            assert (status.active_sessions, status.max_sessions) == (1, 4)
    config = ConcurrencyConfig(max_concurrent_envs=3, session_timeout=7.5)
    server = HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation, None, config)
    assert server.concurrency_config == config


def test_routes_are_registered_before_the_application_starts() -> None:
    app = FastAPI()
    server = HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation)
    with TestClient(app), pytest.raises(RuntimeError, match="Call register_routes before"):
        server.register_routes(app)


def test_an_application_without_the_page_has_everything_else() -> None:
    app = create_fastapi_app(NotesEnvironment, NoteAction, NoteObservation, 2)
    with TestClient(app) as client:
        assert client.get("/web/").status_code == 404
        assert client.get("/docs").status_code == 200
        assert client.get("/sessions").json()["max_sessions"] == 2
