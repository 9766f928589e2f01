# SPDX-License-Identifier: BSD-3-Clause
"""Addresses of servers: as users write them, of their WebSockets, and after redirects."""

import re
import time
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from websockets.exceptions import InvalidURI
from websockets.http11 import Response
from websockets.uri import parse_uri

from stepwire.client.errors import ConnectFailedError, InvalidOptionError, printable

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_SPACE_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/spaces/([^/?#]+/[^/?#]+)", re.IGNORECASE
)


def server_address(base_url: Any) -> str:
    """The address of a server, as it is shown.

    The page of a Hugging Face Space becomes the address where that Space runs. Raises
    `InvalidOptionError` for anything but a string.
    """
    if not isinstance(base_url, str):
        raise InvalidOptionError(f"`base_url` must be a string, not {type(base_url).__name__}.")
    page = _SPACE_PAGE.match(base_url.strip())
    if page is not None:
        return f"https://{space_subdomain(page[1])}.hf.space"
    return re.sub("(?<![:/])/+$", "", base_url.strip())


def space_subdomain(repo_id: str) -> str:
    """The name of the Space `owner/name` in `hf.space` and in the Hub's registry."""
    return re.sub("[^a-z0-9]", "-", repo_id.lower())


def websocket_url(address: str) -> str:
    """The address of a server's WebSocket. Without a scheme, it is `ws://`.

    Raises `InvalidOptionError` for a scheme other than http, https, ws or wss, for a missing host,
    and for text that is not an address.
    """
    try:
        parts = urlsplit(address if "://" in address else f"ws://{address}")
        scheme = _WEBSOCKET_SCHEMES[parts.scheme]
        path = f"{parts.path.rstrip('/')}/ws"
        url: str = urlunsplit((scheme, parts.netloc, path, parts.query, ""))
        # Spaces and control characters would end the address in the line of the request.
        parse_uri(url if re.fullmatch(r"[^\x00-\x20\x7f]+", address) else "")
    except (ValueError, KeyError, InvalidURI):
        raise InvalidOptionError(
            "base_url must be an address such as http://localhost:8000 (or https, ws, wss), not "
            f"{without_secrets(address)!r}."
        ) from None
    return url


class RedirectedError(ConnectFailedError):
    """The handshake was answered with a redirect to `target`; "" if it names no address."""

    def __init__(self, url: str, location: str) -> None:
        shown, self.target = location, ""
        with suppress(ValueError, InvalidURI):  # raised for text that is not ASCII too
            shown = urljoin(url, location)
            new = urlsplit(shown)
            scheme = _WEBSOCKET_SCHEMES.get(new.scheme, "none")
            target: str = urlunsplit((scheme, new.netloc, new.path, new.query, ""))
            parse_uri(target.encode().decode())
            self.target = target
        super().__init__(
            f"Failed to connect to {without_secrets(url)}: the server redirects to "
            f"{printable(without_secrets(shown), 300)}."
        )


def redirect_in(url: str, response: Response) -> RedirectedError | None:
    """The redirect in the answer to a handshake, if it is one."""
    location = "".join(response.headers.get_all("Location")[:1])  # there may be several
    if not location or response.status_code not in _REDIRECTS:
        return None
    return RedirectedError(url, location)


class Target:
    """Where a client connects next: to its own address first, then to where it is redirected."""

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float) -> None:
        """`timeout_s` seconds are for all redirects together."""
        self.url = url
        self.headers = headers
        self.timeout_s = timeout_s
        self._give_up_at = time.monotonic() + timeout_s
        self._redirects_left = _MAX_REDIRECTS

    def follow(self, redirect: RedirectedError) -> None:
        """Go where the server redirects.

        Headers and passwords are not sent to another origin, and an encrypted connection is not
        followed by a plain one. Raises `ConnectFailedError`, which names the new address, for a
        redirect that breaks these rules.
        """
        old, new = urlsplit(self.url), urlsplit(redirect.target)
        reason = ""
        if not self._redirects_left:
            reason = f"after {_MAX_REDIRECTS} redirects: it seems to be a loop"
        elif not redirect.target or (old.scheme, new.scheme) == ("wss", "ws"):
            reason = "which is not encrypted, not HTTP, or no address"
        elif (self.headers or "@" in old.netloc) and not _is_same_origin(old, new):
            reason = "where this client does not send its headers, token and password"
        if reason:
            raise ConnectFailedError(
                f"{str(redirect)[:-1]}, {reason}. If that is the right server, pass its address as "
                "`base_url`."
            ) from redirect
        credentials, at, _ = old.netloc.rpartition("@")
        if at and "@" not in new.netloc:
            self.url = redirect.target.replace("://", f"://{credentials}@", 1)
        else:
            self.url = redirect.target
        self.timeout_s = max(self._give_up_at - time.monotonic(), 0.0)
        self._redirects_left -= 1


def _is_same_origin(old: SplitResult, new: SplitResult) -> bool:
    if old.hostname != new.hostname:
        return False
    ports = [parts.port or _DEFAULT_PORTS[parts.scheme] for parts in (old, new)]
    return ports[0] == ports[1] or ports == list(_DEFAULT_PORTS.values())


# User and password of an address, even if their characters make the address invalid. Each part ends
# where the next one can begin: a server that redirects must not make the search take minutes.
_SECRETS = re.compile(
    r"(?:^|(?<=/))(?:[^/?#:]*:[^/?#]*@|(?<=//)[^/?#]*@|[^/?#@:]*:\d*[^/?#@\d].*@)", re.DOTALL
)


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment."""
    return re.sub("[?#].*", "", _SECRETS.sub("", url))


def without_credentials(text: str) -> str:
    """`text` without the users and passwords of the addresses in it."""
    return re.sub(r"://[^/\s@]*(?:@[^/\s@]*)*@", "://", text)
