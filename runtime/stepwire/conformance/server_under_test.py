# SPDX-License-Identifier: BSD-3-Clause
"""The server that checks talk to, by raw WebSockets and HTTP so that no client hides anything.

The methods here demand no more of an answer than they need to go on. Each rule of the contract is
for its own check, so that a server which breaks one rule fails one check.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stepwire.conformance.actions import example_actions
from stepwire.conformance.conversation import Conversation

_OPENING_S = 10.0
_LEAVE_S = 1.0
_MOST_UNREAD = 100


class CheckFailed(AssertionError):
    """The server does not do what the contract says."""


class ServerUnreachable(Exception):
    """No server answers at the address, so nothing was checked."""


@dataclass(frozen=True)
class Options:
    """What the checks have to know about a server and cannot find out."""

    actions: Sequence[dict[str, Any]] = ()
    """Actions to take, in turn; when empty, they are generated from `/schema`."""
    timeout_s: float = 10.0
    """Seconds that a reply may take."""
    capacity: int | None = None
    """How many sessions the server holds. A check opens them all, so keep it to a few dozen."""
    failing_action: dict[str, Any] | None = None
    """An action at which the environment raises."""
    unbuildable_url: str | None = None
    """The address at which the same server serves an environment whose constructor raises."""
    token: str | None = None
    """Sent with every request and handshake as `Authorization: Bearer`."""
    idle_timeout_s: float | None = None
    """After how many idle seconds the server ends a session. A check waits that long."""
    stop_pid: int | None = None
    """The server's process on this machine. The last check stops it."""


@dataclass(frozen=True)
class Closed:
    """How a connection ended; `code` is `None` when there was no close frame."""

    code: int | None
    reason: str

    def __str__(self) -> str:
        if self.code is None:
            return "the connection was lost"
        return f"the connection was closed: {self.code} {self.reason}".rstrip()

    @classmethod
    def by(cls, error: ConnectionClosed) -> "Closed":
        frame = error.rcvd
        return cls(None, "") if frame is None else cls(frame.code, frame.reason)


class Session(Conversation):
    """One connection to a server under test: what is wrong with its frames is a `CheckFailed`."""

    def __init__(
        self, connection: ClientConnection, timeout_s: float, action: Callable[[int], Any]
    ) -> None:
        super().__init__(connection, timeout_s)
        self._action = action

    def send(self, frame: Any) -> None:
        # When the server has closed the connection, its last frames can still be received.
        with suppress(ConnectionClosed):
            super().send(frame)

    def receive(self, after_s: float = 0.0) -> Any:
        """The next frame, parsed; raises `CheckFailed` unless one comes that is JSON text.

        The frame may take `after_s` longer than a reply.
        """
        patience = self._timeout_s + after_s
        try:
            text = self.connection.recv(timeout=patience)
        except TimeoutError:
            raise CheckFailed(f"No reply within {patience:g} s") from None
        except ConnectionClosed as closed:
            raise CheckFailed(f"Expected a frame, but {Closed.by(closed)}") from None
        if not isinstance(text, str):
            raise CheckFailed(f"Expected a text frame, got a binary one: {text[:80]!r}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise CheckFailed(f"Expected JSON ({error}), got {text[:200]}") from None

    def closing(self) -> Closed:
        """Wait until the server closes; raises `CheckFailed` if it sends another frame."""
        try:
            frame = self.connection.recv(timeout=self._timeout_s)
        except TimeoutError:
            raise CheckFailed(f"The connection was not closed in {self._timeout_s:g} s") from None
        except ConnectionClosed as closed:
            return Closed.by(closed)
        raise CheckFailed(f"Expected the connection to be closed, got the frame {frame[:200]!r}")

    def end(self) -> None:
        """Send `close` and wait, so that the session's slot is free for the next check."""
        with suppress(ConnectionClosed, TimeoutError):
            self.send({"type": "close"})
            for _ in range(_MOST_UNREAD):
                self.connection.recv(timeout=_LEAVE_S)

    def data(self, frame: Any, kind: str) -> dict[str, Any]:
        """Send a frame and return the `data` of its reply, which must be a frame of type `kind`."""
        reply = self.ask(frame)
        if not isinstance(reply, dict) or reply.get("type") != kind:
            raise CheckFailed(f"The reply to {str(frame)[:200]} was {str(reply)[:300]}")
        data = reply.get("data")
        if not isinstance(data, dict):
            raise CheckFailed(
                f"Expected an object as data of a {kind} frame, got {str(data)[:200]}"
            )
        return data

    def reset(self, **arguments: Any) -> dict[str, Any]:
        return self.data({"type": "reset", "data": arguments}, "observation")

    def take_step(self, number: int = 0) -> dict[str, Any]:
        """Take one step with the action of that number."""
        return self.data({"type": "step", "data": self._action(number)}, "observation")

    def play(self, most: int) -> list[dict[str, Any]]:
        """Take up to `most` steps, fewer if the episode ends earlier."""
        observed: list[dict[str, Any]] = []
        while len(observed) < most and not (observed and observed[-1].get("done")):
            observed.append(self.take_step(len(observed)))
        return observed

    def state(self) -> dict[str, Any]:
        return self.data({"type": "state"}, "state")


@dataclass
class ServerUnderTest:
    """The server at an address, with or without a scheme.

    The constructor raises `ServerUnreachable`.
    """

    url: str
    options: Options = field(default_factory=Options)
    _actions: Sequence[dict[str, Any]] = ()

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.rstrip("/").partition("://")
        if not separator:
            scheme, rest = "http", scheme
        self._http = requests.Session()
        self._http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        secure = "s" if scheme in {"https", "wss"} else ""
        self.url, self._websocket_url = f"http{secure}://{rest}", f"ws{secure}://{rest}"
        try:
            self.http("GET", "/health")
        except requests.RequestException as error:
            raise ServerUnreachable(f"No server answers at {self.url}: {error}") from error

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        cookies: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> requests.Response:
        """Send a request: text and bytes as `body` as they are, anything else as JSON.

        Cookies are kept only in `cookies`, when given. `headers` replace the token. `timeout_s` is
        for an answer that may take longer than others.
        """
        if body is not None and not isinstance(body, str | bytes):
            body = json.dumps(body)
        sent = {"Content-Type": "application/json"}
        sent |= self.authorization if headers is None else headers
        return (cookies or self._http).request(
            method,
            self.url + path,
            data=body,
            headers=sent,
            timeout=timeout_s or self.options.timeout_s,
        )

    def http_json(
        self, method: str, path: str, body: Any = None, cookies: requests.Session | None = None
    ) -> Any:
        """The JSON of the answer, which must have status 200."""
        response = self.http(method, path, body, cookies)
        if response.status_code != 200:
            raise CheckFailed(
                f"{method} {path} returned {response.status_code}: {response.text[:200]}"
            )
        try:
            return response.json()
        except ValueError:
            raise CheckFailed(f"{method} {path} returned no JSON: {response.text[:200]}") from None

    @contextmanager
    def session(self, path: str = "/ws", url: str | None = None) -> Iterator[Session]:
        """A new connection, closed with the block."""
        address = url.replace("http", "ws", 1).rstrip("/") if url else self._websocket_url
        try:
            connection = connect(
                address + path,
                open_timeout=_OPENING_S,
                close_timeout=self.options.timeout_s,
                additional_headers=self.authorization,
                compression=None,
                max_size=None,
                proxy=None,
            )
        except InvalidStatus as refused:
            status = refused.response.status_code
            raise CheckFailed(f"The handshake of {path} was refused with {status}") from None
        with connection:
            session = Session(connection, self.options.timeout_s, self.action)
            yield session
            session.end()

    def handshake_status(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        """The HTTP status of a WebSocket handshake: 101 when it is accepted.

        `headers` replace the token.
        """
        try:
            connection = connect(
                self._websocket_url + path,
                additional_headers=self.authorization if headers is None else headers,
                open_timeout=_OPENING_S,
                proxy=None,
            )
        except InvalidStatus as refused:
            return refused.response.status_code
        with connection:
            Session(connection, self.options.timeout_s, self.action).end()
        return 101

    @property
    def authorization(self) -> dict[str, str]:
        """The header with the token; empty without a token."""
        token = self.options.token
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def schemas(self) -> dict[str, dict[str, Any]]:
        """The schemas of `/schema`."""
        schemas = self.http_json("GET", "/schema")
        if not isinstance(schemas, dict):
            raise CheckFailed(f"Expected an object from GET /schema, got {str(schemas)[:200]}")
        return schemas

    def action(self, number: int = 0) -> dict[str, Any]:
        """An action for the environment: one of the options' or a generated one."""
        if not self._actions:
            self._actions = self.options.actions or example_actions(
                self.schemas().get("action", {})
            )
        return self._actions[number % len(self._actions)]
