# SPDX-License-Identifier: BSD-3-Clause
"""`places_of`: how many sessions a server has and how many it takes, as it tells over HTTP."""

import base64
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic_core import from_json

from stepwire.client.opening import is_loopback

_HTTP = {"ws": "http", "wss": "https"}
_LONGEST_ANSWER = 4096  # bytes
_MOST_PLACES = 10**9
_UNAVAILABLE = {502: "the server behind the proxy has stopped", 503: "it is stopping"}
_UNAVAILABLE[504] = _UNAVAILABLE[502]


class Places(NamedTuple):
    """The sessions of a server."""

    active: int
    limit: int

    @property
    def free(self) -> int:
        return max(self.limit - self.active, 0)


def places_of(url: str, headers: Mapping[str, str], timeout_s: float) -> Places | None:
    """The places of the server with this WebSocket; `None` if it does not tell. Blocks.

    Raises `OSError` if the server cannot be reached within `timeout_s` seconds or takes no
    sessions. `headers` are sent, and redirects are not followed.
    """
    status, _ = _get(url, "ready", headers, timeout_s)
    if status in _UNAVAILABLE:
        raise ConnectionRefusedError(_UNAVAILABLE[status])
    if status != 200:
        return None
    _, answer = _get(url, "sessions", headers, timeout_s)
    try:
        told = from_json(answer)
        active, limit = told["active_sessions"], told["max_sessions"]
    except (ValueError, TypeError, KeyError):
        return None
    if not all(type(number) is int and number >= 0 for number in (active, limit)):
        return None
    return Places(min(active, _MOST_PLACES), min(limit, _MOST_PLACES))


def _get(url: str, name: str, headers: Mapping[str, str], timeout_s: float) -> tuple[int, bytes]:
    from urllib import request  # slow to import

    class NoRedirect(request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    parts = urlsplit(url)
    credentials, _, host = parts.netloc.rpartition("@")
    path = f"{parts.path.removesuffix('ws')}{name}"
    asked = request.Request(urlunsplit((_HTTP[parts.scheme], host, path, parts.query, "")))
    if credentials:
        secret = base64.b64encode(unquote(credentials).encode()).decode()
        asked.add_header("Authorization", f"Basic {secret}")
    for header, value in headers.items():
        asked.add_header(header, value)
    # As the WebSocket: never through a proxy to this machine.
    proxies = request.ProxyHandler({} if is_loopback(parts.hostname or "") else None)
    try:
        with request.build_opener(proxies, NoRedirect).open(asked, timeout=timeout_s) as answer:
            return answer.status, answer.read(_LONGEST_ANSWER)
    except HTTPError as error:  # an answer, and an `OSError`
        error.close()
        return error.code, b""
    except (HTTPException, ValueError):  # no HTTP, or no address for HTTP: connecting will tell
        return 0, b""
