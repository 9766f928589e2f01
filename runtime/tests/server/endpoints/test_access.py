# SPDX-License-Identifier: BSD-3-Clause
"""Who may use the server: origins, names, tokens; `server`, plain uvicorn and the image."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import ConnectFailedError

_TOKEN = "correct-horse-battery"
_WRONG = "wrong-horse-battery-staple"


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Any]) -> Any:
    """A server with a token, an allowed origin and allowed hosts."""
    env = {
        "API_TOKEN": _TOKEN,
        "ALLOWED_ORIGINS": "https://friend.example",
        "ALLOWED_HOSTS": "notes.example,*.below.example",
    }
    return serve(env)


def _ask(server: Any, method: str = "GET", path: str = "/state", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(
        method, server.url + path, headers=names, timeout=60, allow_redirects=False
    )


def _bearer(token: str = _TOKEN) -> str:
    return f"Bearer {token}"


@pytest.fixture
def handshake(connect: Any) -> Callable[..., int]:
    """Returns the status of a handshake with these headers; after 101, checks that it works."""

    def shake(server: Any, **headers: str) -> int:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        # The client library sets these two itself.
        origin, host = names.pop("Origin", None), names.pop("Host", None)
        sock = None if host is None else socket.create_connection(("127.0.0.1", server.port))
        url = server.ws_url if host is None else f"ws://{host}/ws"
        try:
            session = connect(url, origin=origin, additional_headers=names, sock=sock)
        except InvalidStatus as refused:
            return int(refused.response.status_code)
        assert session.step(text="Hi")["type"] == "observation"
        return 101

    return shake


class TestOrigin:
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "https://evil.example",
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            "https://127.0.0.1:443",
            "http://127.0.0.1.evil.example",
            "file://",
            "",
        ],
    )
    def test_a_page_of_another_origin_cannot_change_anything(
        self, server: Any, handshake: Callable[..., int], origin: str
    ) -> None:
        assert handshake(server, Origin=origin) == 403
        for method, path in [("POST", "/reset"), ("POST", "/step"), ("POST", "/mcp")]:
            refused = _ask(server, method, path, Origin=origin)
            assert refused.status_code == 403
            assert repr(origin) in refused.json()["detail"]
            assert "ALLOWED_ORIGINS" in refused.json()["detail"]
        read = _ask(server, Origin=origin)  # a browser hides the answer from that page
        assert read.status_code == 200
        assert "access-control-allow-origin" not in read.headers

    def test_the_servers_own_pages_may_use_it(
        self, server: Any, handshake: Callable[..., int]
    ) -> None:
        own = server.url
        assert handshake(server, Origin=own) == 101
        assert _ask(server, "POST", "/reset", Origin=own).status_code == 200

    def test_behind_a_proxy_the_origin_is_compared_with_the_forwarded_host(
        self, server: Any, handshake: Callable[..., int]
    ) -> None:
        headers = {
            "Origin": "https://notes.example",
            "X-Forwarded-Host": "notes.example:443, proxy",
        }
        assert handshake(server, **headers) == 101
        assert _ask(server, "POST", "/reset", **headers).status_code == 200

    def test_http_and_https_are_different_origins(
        self, server: Any, handshake: Callable[..., int]
    ) -> None:
        headers = {"X-Forwarded-Host": "notes.example", "X-Forwarded-Proto": "https"}
        assert handshake(server, Origin="https://notes.example", **headers) == 101
        assert handshake(server, Origin="http://notes.example", **headers) == 403

    def test_an_allowed_origin_may_use_the_server_and_read_its_answers(
        self, guarded: Any, handshake: Callable[..., int]
    ) -> None:
        headers = {"Origin": "https://friend.example", "Authorization": _bearer()}
        assert handshake(guarded, **headers) == 101
        answer = _ask(guarded, "POST", "/reset", **headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        assert handshake(guarded, **{**headers, "Origin": "https://evil.example"}) == 403

    def test_preflight_requests_are_answered_for_allowed_origins_only(self, guarded: Any) -> None:
        asked = {
            "Origin": "https://friend.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,last-event-id,mcp-method,"
            "mcp-name,mcp-protocol-version,mcp-session-id",
        }
        assert _ask(guarded, "OPTIONS", "/step", **asked).status_code == 200
        refused = _ask(guarded, "OPTIONS", "/step", **{**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers

    def test_a_star_allows_every_origin(
        self, start_server: Callable[..., Any], handshake: Callable[..., int]
    ) -> None:
        server = start_server(env={"ALLOWED_ORIGINS": "*"})
        for origin in ("https://any.example", "null"):
            assert handshake(server, Origin=origin) == 101
            answer = _ask(server, "POST", "/reset", Origin=origin)
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers


class TestHost:
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example"]
    )
    def test_on_loopback_an_unknown_host_is_refused(
        self, server: Any, handshake: Callable[..., int], host: str
    ) -> None:
        for method, path in [("GET", "/state"), ("POST", "/reset"), ("GET", "/health")]:
            refused = _ask(server, method, path, Host=host)
            assert refused.status_code == 403
            assert repr(host) in refused.json()["detail"]
            assert "ALLOWED_HOSTS" in refused.json()["detail"]
        # DNS rebinding: a page of the attacker's host whose requests have the same origin.
        assert handshake(server, Host=host, Origin=f"http://{host}") == 403

    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:1", "notes.localhost", "127.0.0.1", "[::1]:8000", "10.0.0.1"],
    )
    def test_localhost_and_ip_addresses_are_always_allowed(self, server: Any, host: str) -> None:
        assert _ask(server, Host=host).status_code == 200

    def test_configured_hosts_are_allowed(
        self, guarded: Any, handshake: Callable[..., int]
    ) -> None:
        for host in ("notes.example", "Notes.Example:8000", "a.below.example", "127.0.0.1"):
            assert _ask(guarded, Host=host, Authorization=_bearer()).status_code == 200
            assert handshake(guarded, Host=host, Authorization=_bearer()) == 101
        for host in ("below.example", "other.example", "notes.example.evil.example"):
            assert _ask(guarded, Host=host, Authorization=_bearer()).status_code == 403

    @pytest.mark.parametrize("application", [None, "notes_env.app:app"])
    def test_off_loopback_any_host_is_allowed(
        self, start_server: Callable[..., Any], handshake: Callable[..., int], application: Any
    ) -> None:
        server = start_server("--host", "0.0.0.0", application=application)
        assert _ask(server, Host="notes.example").status_code == 200
        assert handshake(server, Host="notes.example", Origin="http://notes.example") == 101


class TestToken:
    def test_everything_but_health_and_readiness_needs_it(
        self, guarded: Any, handshake: Callable[..., int]
    ) -> None:
        described = _ask(guarded, path="/openapi.json", Authorization=_bearer()).json()
        routes = {(m, path) for path, item in described["paths"].items() for m in item}
        pages = {("get", path) for path in ("/", "/web", "/docs", "/openapi.json", "/nothing")}
        for method, path in routes | pages:
            answer = _ask(guarded, method, path)
            if path in ("/health", "/ready"):
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer" in answer.json()["detail"]
        assert handshake(guarded) == 401

    @pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer  {}"])
    def test_the_authorization_header_is_accepted(
        self, guarded: Any, handshake: Callable[..., int], form: str
    ) -> None:
        assert _ask(guarded, Authorization=form.format(_TOKEN)).status_code == 200
        assert _ask(guarded, "POST", "/reset", Authorization=form.format(_TOKEN)).status_code == 200
        assert handshake(guarded, Authorization=form.format(_TOKEN)) == 101

    @pytest.mark.parametrize(
        "sent", [_bearer(_WRONG), _bearer(_TOKEN[:-1]), _bearer(_TOKEN + "x"), "Bearer \xe9"]
    )
    def test_a_wrong_token_is_refused(
        self, guarded: Any, handshake: Callable[..., int], sent: str
    ) -> None:
        refused = _ask(guarded, Authorization=sent.encode("latin-1"))  # type: ignore[arg-type]
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        if sent.isascii():
            assert handshake(guarded, Authorization=sent) == 401

    @pytest.mark.parametrize("sent", [f"Basic {_TOKEN}", _TOKEN, "Bearer", ""])
    def test_a_malformed_header_counts_as_no_token(self, guarded: Any, sent: str) -> None:
        assert _ask(guarded, Authorization=sent).headers["www-authenticate"] == "Bearer"

    def test_a_token_in_the_address_of_a_page_becomes_a_cookie(
        self, guarded: Any, connect: Any
    ) -> None:
        first = _ask(guarded, path=f"/web?a=b%20c&token={_TOKEN}&d=")
        assert (first.status_code, first.headers["location"]) == (303, "./web?a=b+c&d=")
        assert first.headers["cache-control"] == "no-store"
        cookie, *attributes = first.headers["set-cookie"].split("; ")
        assert cookie.startswith("openenv_token=")
        assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax"]
        with requests.Session() as browser:
            page = browser.get(f"{guarded.url}/web?token={_TOKEN}", timeout=60)
            assert (page.status_code, page.url) == (200, f"{guarded.url}/web/")
            assert browser.post(f"{guarded.url}/reset", timeout=60).status_code == 200
        headers = {"Cookie": f"other=1; {cookie}", "Origin": guarded.url}
        assert (
            connect(guarded.ws_url, additional_headers=headers).step(text="Hi")["type"] != "error"
        )

    def test_over_https_the_cookie_also_works_inside_another_site(self, guarded: Any) -> None:
        answer = _ask(guarded, path=f"/?token={_TOKEN}", X_Forwarded_Proto="https")
        assert answer.headers["location"] == "./"
        assert answer.headers["set-cookie"].endswith(
            "; Path=/; HttpOnly; SameSite=None; Secure; Partitioned"
        )

    def test_a_token_in_any_other_address_is_ignored(self, guarded: Any, connect: Any) -> None:
        assert _ask(guarded, "POST", f"/reset?token={_TOKEN}").status_code == 401
        assert _ask(guarded, path=f"/web?token={_WRONG}").status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{guarded.ws_url}?token={_TOKEN}")
        assert refused.value.response.status_code == 401

    def test_our_client_sends_it(self, guarded: Any) -> None:
        with NotesEnv(base_url=guarded.url, token=_TOKEN) as env:
            assert env.step(NoteAction(text="Hi")).reward == 0.2
        for token in (None, _WRONG):
            with pytest.raises(ConnectFailedError, match="401"):
                NotesEnv(base_url=guarded.url, token=token).reset()

    def test_tokens_never_reach_the_log(self, guarded: Any, connect: Any) -> None:
        for token in (_TOKEN, _WRONG):
            requests.get(f"{guarded.url}/web?token={token}", timeout=60)
            requests.get(f"{guarded.url}/web?tok%65n={token}", timeout=60)
            requests.get(f"{guarded.url}/health?other='{token}", timeout=60)
            _ask(guarded, Authorization=_bearer(token), Cookie=f"openenv_token={token}")
            with pytest.raises(InvalidStatus):
                connect(f"{guarded.ws_url}?token={token}")
        connect(guarded.ws_url, additional_headers={"Authorization": _bearer()}).step(text="Hi")
        assert '"GET /web?… HTTP/1.1" 303' in guarded.log
        assert '"WebSocket /ws?…" 401' in guarded.log
        assert _TOKEN not in guarded.log
        assert _WRONG not in guarded.log


def test_answers_have_safe_headers(server: Any) -> None:
    for path in ("/web", "/docs", "/state", "/nothing"):
        headers = _ask(server, path=path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
