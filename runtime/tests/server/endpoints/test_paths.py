# SPDX-License-Identifier: BSD-3-Clause
"""HEAD for GET, and slashes too many or too few, in our routes and in an author's."""

from typing import Any

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import HTTPEnvServer

_REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


_GET = [
    *("/", "/web", "/web/", "/web/inspector/dom.js", "/docs", "/openapi.json", "/favicon.ico"),
    *("/health", "/ready", "/sessions", "/state", "/schema", "/schema/scenario", "/metadata"),
    "/list_environments",
]


@pytest.mark.parametrize("path", _GET)
def test_head_is_answered_as_get_without_the_body(server: Any, path: str) -> None:
    with requests.Session() as session:  # the next answer on the connection is the next request's
        head = session.head(server.url + path, timeout=60)
        get = session.get(server.url + path, timeout=60, allow_redirects=False)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "content-length", "location"):
        assert head.headers.get(name) == get.headers.get(name), name


def test_head_of_what_only_takes_post_is_405(server: Any) -> None:
    assert requests.head(f"{server.url}/step", timeout=60).status_code == 405
    assert requests.head(f"{server.url}/nothing", timeout=60).status_code == 404


@pytest.mark.parametrize("path", ["/mcp/", "/health/", "/state/", "/schema/", "/ready/"])
def test_a_slash_too_many_is_served_without_a_redirect(server: Any, path: str) -> None:
    if path == "/mcp/":
        answer = requests.post(server.url + path, json=_REQUEST, timeout=60)
        assert "result" in answer.json()
    else:
        answer = requests.get(server.url + path, timeout=60)
    assert (answer.status_code, answer.history) == (200, [])


def test_routes_of_an_author_are_found_in_either_form() -> None:
    app = FastAPI()

    @app.get("/mine/")
    async def mine() -> str:
        return "mine"

    @app.head("/heads")
    async def heads() -> None:
        """Its own answer, which no GET has."""

    HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation).register_routes(app)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/mine/").json() == "mine"
        missing = client.get("/mine?a=b", follow_redirects=False)
        assert (missing.status_code, missing.headers["location"]) == (307, "./mine/?a=b")
        assert client.get("/mine?a=b").json() == "mine"
        assert client.head("/mine/").content == b""
        assert client.head("/heads").status_code == 200
        assert client.get("/nothing/").status_code == 404
        assert client.get("/health//").status_code == 404


def test_an_author_may_turn_it_off() -> None:
    app = FastAPI(redirect_slashes=False)
    HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation).register_routes(app)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/health/").status_code == 404
