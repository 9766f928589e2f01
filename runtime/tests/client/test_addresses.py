# SPDX-License-Identifier: BSD-3-Clause
"""Addresses as people write them, and servers that redirect."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.addresses import (
    RedirectedError,
    Target,
    redirect_in,
    server_address,
    websocket_url,
    without_secrets,
)
from stepwire.client.errors import ConnectFailedError, InvalidOptionError

HELLO = NoteAction(text="hello")


@pytest.mark.parametrize(
    ("base_url", "websocket"),
    [
        ("http://localhost:8000", "ws://localhost:8000/ws"),
        ("https://host/a/b/", "wss://host/a/b/ws"),
        ("ws://host", "ws://host/ws"),
        ("wss://host//", "wss://host/ws"),
        ("HTTPS://Host.Example", "wss://Host.Example/ws"),
        ("localhost:8000", "ws://localhost:8000/ws"),
        (" http://host \n", "ws://host/ws"),
        ("http://host/a?key=1&b=/#top", "ws://host/a/ws?key=1&b=/"),
        ("http://me:secret@host", "ws://me:secret@host/ws"),
        ("http://[::1]:8000", "ws://[::1]:8000/ws"),
        ("https://huggingface.co/spaces/Org_1/My.Echo_env", "wss://org-1-my-echo-env.hf.space/ws"),
        ("https://huggingface.co/spaces/o/n/tree/main", "wss://o-n.hf.space/ws"),
        ("https://hf.co/spaces/o/n?logs=container", "wss://o-n.hf.space/ws"),
        ("https://o-n.hf.space", "wss://o-n.hf.space/ws"),
    ],
)
def test_the_websocket_of_an_address(base_url: str, websocket: str) -> None:
    assert websocket_url(server_address(base_url)) == websocket


def test_the_page_of_a_space_is_shown_as_the_address_where_it_runs() -> None:
    env = NotesEnv("https://huggingface.co/spaces/me/my_env")
    assert env.base_url == "https://me-my-env.hf.space"


@pytest.mark.parametrize("base_url", ["ftp://host", "http://", "hf://spaces/o/n", ""])
def test_text_that_is_not_an_address_is_refused(base_url: str) -> None:
    with pytest.raises(InvalidOptionError, match="http://localhost:8000"):
        NotesEnv(base_url)


class Redirecting:
    """A server that redirects to another place, and records the headers that it gets."""

    def __init__(self, location: str, status: int) -> None:
        self.location = location
        self.status = status
        self.requests: list[Headers] = []

    def answer(self, connection: ServerConnection, request: Request) -> Response:
        self.requests.append(request.headers)
        headers = Headers({"Location": self.location, "Content-Length": "0"})
        return Response(self.status, HTTPStatus(self.status).phrase, headers, b"")


@pytest.fixture
def redirect() -> Iterator[Callable[..., tuple[str, Redirecting]]]:
    """Starts a server that redirects; returns its address and what it records."""
    with ExitStack() as running:

        def start(location: str, status: int = 308) -> tuple[str, Redirecting]:
            recorded = Redirecting(location, status)
            server: Server = running.enter_context(
                serve(lambda _: None, "127.0.0.1", 0, process_request=recorded.answer)
            )
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            return f"http://127.0.0.1:{server.socket.getsockname()[1]}", recorded

        yield start


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_followed_without_secrets(
    server: Any, redirect: Any, status: int
) -> None:
    url, _ = redirect(f"{server.url}/ws", status)
    with NotesEnv(url) as env:
        assert env.step(HELLO).reward == 0.5
        assert env.base_url == url

    async def main() -> float:
        async with NotesEnv(url) as env:
            return (await env.step(HELLO)).reward  # type: ignore[return-value]

    assert asyncio.run(main()) == 0.5


@pytest.mark.parametrize("options", [{"token": "s3cret"}, {"headers": {"X-Key": "s3cret"}}])
def test_headers_and_token_are_not_sent_to_another_host(
    redirect: Any, options: dict[str, Any]
) -> None:
    other, unasked = redirect("http://elsewhere.example/ws")
    url, asked = redirect(f"{other}/ws?key=s3cret")
    with pytest.raises(ConnectFailedError) as caught:
        NotesEnv(url, **options).reset()
    assert f"redirects to {other}/ws" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert (len(asked.requests), len(unasked.requests)) == (1, 0)


def test_a_loop_of_redirects_ends(redirect: Any) -> None:
    url, recorded = redirect("/ws")
    with pytest.raises(ConnectFailedError, match="after 10 redirects"):
        NotesEnv(url, token="s3cret").reset()  # which the same host may get
    assert {request["Authorization"] for request in recorded.requests} == {"Bearer s3cret"}


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("ws://host/ws", "/other/ws", "ws://host/other/ws"),
        ("ws://host/ws", "https://host/ws", "wss://host/ws"),
        ("ws://host:80/ws", "https://host:443/ws", "wss://host:443/ws"),
        ("wss://host/ws", "https://HOST/b/ws#top", "wss://HOST/b/ws"),
        ("wss://host/ws", "//host/c", "wss://host/c"),
        ("ws://me:pw@host/ws", "/b?c=1", "ws://me:pw@host/b?c=1"),
        ("ws://me:p@w@host/ws", "https://host/b", "wss://me:p@w@host/b"),
        ("ws://me:pw@host/ws", "ws://you:pw@host/b", "ws://you:pw@host/b"),
    ],
)
def test_secrets_stay_with_the_host(url: str, location: str, target: str) -> None:
    before = Target(url, {"Authorization": "Bearer s3cret"}, 1)
    before.follow(RedirectedError(without_secrets(url), location))
    assert before.url == target


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("wss://host/ws", "http://host/ws"),
        ("ws://host/ws", "ftp://host/ws"),
        ("ws://host/ws", "https://host:8443/ws"),
        ("ws://host:8000/ws", "ws://host:8001/ws"),
        ("wss://host/ws", "https://sub.host/ws"),
        ("wss://host/ws", "https://host.evil.example/ws"),
        ("wss://host/ws", "https://host@evil.example/ws"),
        ("wss://host/ws", "//evil.example"),
    ],
)
def test_secrets_go_nowhere_else(url: str, location: str) -> None:
    target = Target(url, {"Authorization": "Bearer s3cret"}, 1)
    with pytest.raises(ConnectFailedError, match=r"the server redirects to .*, wh"):
        target.follow(RedirectedError(url, location))
    assert target.url == url


@pytest.mark.parametrize("piece", [":", "a:", "a:b/", "@a:", "/", "//", "a:1", ":a@", "/@"])
def test_no_redirect_keeps_the_client_busy(piece: str) -> None:
    location = piece * (8000 // len(piece))  # the longest that a header can be
    assert isinstance(RedirectedError("ws://host/ws", location), ConnectFailedError)
    # Text of this length would take hours if the search went back over it.
    assert without_secrets(f"http://{':' * 100_000}").startswith("http://")


@pytest.mark.parametrize(("status", "headers"), [(200, {"Location": "/"}), (301, {}), (404, {})])
def test_other_answers_redirect_nowhere(status: int, headers: dict[str, str]) -> None:
    response = Response(status, "", Headers(headers))
    assert redirect_in("ws://host/ws", response) is None


def test_of_several_locations_the_first_is_followed() -> None:
    response = Response(302, "", Headers([("Location", "/a"), ("location", "/b")]))
    redirect = redirect_in("ws://host/ws", response)
    assert redirect is not None
    assert redirect.target == "ws://host/a"
