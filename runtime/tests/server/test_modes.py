# SPDX-License-Identifier: BSD-3-Clause
"""Simulation and production mode: which routes exist, as on the framework's own servers."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from openenv.core.env_server.types import ServerMode
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import HTTPEnvServer, create_app, create_fastapi_app

_CONTROL = ["POST /reset", "POST /step", "GET /state", "HEAD /state", "GET /step", "POST /reset/"]
_WEB = ["GET /", "GET /web", "GET /web/", "POST /web/reset", "POST /web/step", "GET /web/state"]
_REST = ["GET /schema", "GET /metadata", "GET /health", "POST /mcp", "GET /docs"]
_FRAMES = [
    {"type": "reset"},
    {"type": "step", "data": {"text": "Hi"}},
    {"type": "state"},
    {"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}},
]


def _ours(mode: Any) -> FastAPI:
    return create_app(NotesEnvironment, NoteAction, NoteObservation, mode=mode)


def _stock(mode: Any) -> FastAPI:
    from openenv.core.env_server.http_server import HTTPEnvServer as Stock  # takes seconds

    app = FastAPI()
    Stock(NotesEnvironment, NoteAction, NoteObservation).register_routes(app, mode=mode)
    return app


def _answers(app: FastAPI, requests: list[str]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    with TestClient(app, follow_redirects=False) as client:
        for request in requests:
            method, path = request.split()
            sent = {"action": {"text": "Hi"}} if path == "/step" else {}
            response = client.request(method, path, json=sent if method == "POST" else None)
            answers[request] = response.status_code
            if response.status_code == 404:
                assert response.text in ('{"detail":"Not Found"}', "")
        with client.websocket_connect("/ws") as session:
            for frame in _FRAMES:
                session.send_json(frame)
                answers[f"/ws {frame['type']}"] = session.receive_json()["type"]
    return answers


@pytest.mark.parametrize("mode", ["simulation", "production", "Production", *ServerMode])
def test_the_same_routes_exist_as_on_the_frameworks_server(mode: Any) -> None:
    requests = [*_CONTROL, *_REST]
    ours = _answers(_ours(mode), requests)
    stock = _answers(_stock(mode), requests)
    # Behind a proxy, the framework's redirect leads astray; every GET has a HEAD (RFC 9110).
    assert (stock["HEAD /state"], stock["POST /reset/"]) in ((405, 307), (404, 404))
    if stock["HEAD /state"] == 405:
        stock |= {"HEAD /state": 200, "POST /reset/": 200}
    assert ours == stock
    missing = {request for request, status in ours.items() if status == 404}
    assert missing == (set(_CONTROL) if mode.lower() == "production" else set())


def test_production_has_no_web_interface_unless_the_variable_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def statuses() -> set[int]:
        with TestClient(_ours("production")) as client:
            found = set()
            for request in _WEB:
                method, path = request.split()
                sent = {"action": {"text": "Hi"}} if method == "POST" else None
                found.add(client.request(method, path, json=sent).status_code)
            try:
                with client.websocket_connect("/ws/ui") as updates:
                    assert updates.receive_json()["type"] == "state_update"
            except WebSocketDisconnect:
                found.add(404)
            return found

    assert statuses() == {404}
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "false")
    assert statuses() == {404}
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "true")  # then it has one, as in the framework
    assert statuses() == {200}


@pytest.mark.parametrize("make", [create_app, create_fastapi_app])
@pytest.mark.parametrize(
    ("argument", "variable", "expected"),
    [
        (None, None, 200),
        (None, "simulation", 200),
        (None, "PRODUCTION", 404),
        ("production", "simulation", 404),
        ("simulation", "production", 200),
    ],
)
def test_the_argument_comes_before_the_variable(
    make: Any, argument: Any, variable: Any, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENENV_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("OPENENV_MODE", variable)
    app = make(NotesEnvironment, NoteAction, NoteObservation, mode=argument)
    assert TestClient(app).post("/reset", json={}).status_code == expected


def test_routes_registered_by_hand_do_not_read_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENENV_MODE", "production")
    app = FastAPI()
    HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation).register_routes(app)
    assert TestClient(app).post("/reset", json={}).status_code == 200


def test_routes_registered_by_hand_need_a_mode() -> None:
    server = HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation)
    with pytest.raises(ValueError, match="Invalid mode: 'None'"):
        server.register_routes(FastAPI(), mode=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["prod", "", "simulation "])
@pytest.mark.parametrize("as_variable", [True, False])
def test_another_mode_is_refused_with_the_frameworks_text(
    mode: str, as_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(make: Callable[..., Any], *arguments: Any) -> str:
        with pytest.raises(ValueError, match="Invalid mode") as raised:
            make(*arguments)
        return str(raised.value)

    if as_variable:
        monkeypatch.setenv("OPENENV_MODE", mode)
    assert refusal(_ours, None if as_variable else mode) == refusal(_stock, mode)


def test_the_api_is_described_without_the_routes_that_do_not_exist() -> None:
    client = TestClient(_ours("production"))
    document = client.get("/openapi.json").json()
    assert not {"/reset", "/step", "/state"} & set(document["paths"])
    assert "Episodes over HTTP" not in document["info"]["description"]
    document = TestClient(_ours("simulation")).get("/openapi.json").json()
    assert "Episodes over HTTP" in document["info"]["description"]


def test_the_frameworks_default_is_ours() -> None:
    from openenv.core.env_server.http_server import HTTPEnvServer as Stock

    ours, stock = (
        inspect.signature(server.register_routes).parameters["mode"].default
        for server in (HTTPEnvServer, Stock)
    )
    assert ours is stock
