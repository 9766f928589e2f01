# SPDX-License-Identifier: BSD-3-Clause
"""The server that is asked: raw WebSockets and HTTP, so that nothing of a client hides anything.

What is here asks for no more than it needs to go on: an answer of another form than the contract's
is for the check of that form to find, and for no other.
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

_OPENING_S = 10.0
_LEAVE_S = 1.0
_MOST_UNREAD = 100


class CheckFailed(AssertionError):
    """A server that does not do what the contract says."""


class ServerUnreachable(Exception):
    """Nobody answers at the address: nothing was checked."""


@dataclass(frozen=True)
class Options:
    """What a server cannot be asked for, and so has to be said about it."""

    actions: Sequence[dict[str, Any]] = ()
    """Actions to take, in turn; made up from `/schema` when there are none."""
    timeout_s: float = 10.0
    """How long a reply may take."""
    capacity: int | None = None
    """How many sessions the server holds; at most a few dozen, all of which are opened."""
    failing_action: dict[str, Any] | None = None
    """An action at which the environment raises."""
    unbuildable_url: str | None = None
    """Where the same server serves an environment that cannot be made."""
    token: str | None = None
    """What the server asks for, as `Authorization: Bearer`; sent with everything."""
    idle_timeout_s: float | None = None
    """How long a session may be idle; a check waits for longer than that."""
    stop_pid: int | None = None
    """The server's process on this machine; the last check tells it to stop."""


@dataclass(frozen=True)
class Closed:
    """How a connection ended; without a code where it was cut."""

    code: int | None
    reason: str

    @classmethod
    def by(cls, error: ConnectionClosed) -> "Closed":
        frame = error.rcvd
        return cls(None, "") if frame is None else cls(frame.code, frame.reason)


class Conversation:
    """One WebSocket connection."""

    def __init__(
        self, connection: ClientConnection, timeout_s: float, action: Callable[[int], Any]
    ) -> None:
        self.connection = connection
        self._timeout = timeout_s
        self._action = action

    def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON.

        Where the server has closed the connection, what it said before is still to be received.
        """
        with suppress(ConnectionClosed):
            self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def receive(self, after_s: float = 0.0) -> Any:
        """The next frame, decoded; raises `CheckFailed` when there is none or it is no JSON.

        `after_s` is what it is to take, beside the time of any reply.
        """
        patience = self._timeout + after_s
        try:
            text = self.connection.recv(timeout=patience)
        except TimeoutError:
            raise CheckFailed(f"No reply within {patience:g} s") from None
        except ConnectionClosed as closed:
            raise CheckFailed(f"Expected a frame, but {_told(Closed.by(closed))}") from None
        if not isinstance(text, str):
            raise CheckFailed(f"Expected a text frame, got a binary one: {text[:80]!r}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise CheckFailed(f"Expected JSON ({error}), got {text[:200]}") from None

    def ask(self, frame: Any) -> Any:
        """Send one frame, return the next."""
        self.send(frame)
        return self.receive()

    def closing(self) -> Closed:
        """Wait for the end of the connection; raises `CheckFailed` at a further frame."""
        try:
            frame = self.connection.recv(timeout=self._timeout)
        except TimeoutError:
            raise CheckFailed(f"The connection was not closed in {self._timeout:g} s") from None
        except ConnectionClosed as closed:
            return Closed.by(closed)
        raise CheckFailed(f"Expected the connection to be closed, got the frame {frame[:200]!r}")

    def take_leave(self) -> None:
        """End the session so that its slot is free for the next check's, if the server can."""
        with suppress(ConnectionClosed, TimeoutError):
            self.send({"type": "close"})
            for _ in range(_MOST_UNREAD):
                self.connection.recv(timeout=_LEAVE_S)

    def data(self, frame: Any, kind: str) -> dict[str, Any]:
        """Send a frame that a check presupposes; the `data` of its reply, which is of a `kind`."""
        reply = self.ask(frame)
        if not isinstance(reply, dict) or reply.get("type") != kind:
            raise CheckFailed(f"{str(frame)[:200]} was answered by {str(reply)[:300]}")
        data = reply.get("data")
        if not isinstance(data, dict):
            raise CheckFailed(f"The data of a {kind} frame is an object, not {str(data)[:200]}")
        return data

    def reset(self, **arguments: Any) -> dict[str, Any]:
        return self.data({"type": "reset", "data": arguments}, "observation")

    def step(self, number: int = 0) -> dict[str, Any]:
        """Take one step, with the action of that number."""
        return self.data({"type": "step", "data": self._action(number)}, "observation")

    def play(self, most: int) -> list[dict[str, Any]]:
        """Take up to that many steps, fewer when the episode ends before."""
        observed: list[dict[str, Any]] = []
        while len(observed) < most and not (observed and observed[-1].get("done")):
            observed.append(self.step(len(observed)))
        return observed

    def state(self) -> dict[str, Any]:
        return self.data({"type": "state"}, "state")


def _told(closed: Closed) -> str:
    if closed.code is None:
        return "the connection was cut"
    return f"the connection was closed: {closed.code} {closed.reason}".rstrip()


@dataclass
class ServerUnderTest:
    """A server at an address, with or without `http`; raises `ServerUnreachable` when made."""

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
            raise ServerUnreachable(f"Nobody answers at {self.url}: {error}") from error

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        cookies: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> requests.Response:
        """Send a request; `body` is text or bytes as they are, or else JSON.

        Cookies are kept, and sent back, by who brings `cookies` to keep them in. `headers` are sent
        instead of the token. `timeout_s` is for an answer that may take longer than others.
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
        """The JSON of an answer with status 200."""
        response = self.http(method, path, body, cookies)
        if response.status_code != 200:
            raise CheckFailed(
                f"{method} {path} was answered {response.status_code}: {response.text[:200]}"
            )
        try:
            return response.json()
        except ValueError:
            raise CheckFailed(f"{method} {path} was not JSON: {response.text[:200]}") from None

    @contextmanager
    def session(self, path: str = "/ws", url: str | None = None) -> Iterator[Conversation]:
        """A connection of its own, closed at the end."""
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
            conversation = Conversation(connection, self.options.timeout_s, self.action)
            yield conversation
            conversation.take_leave()

    def handshake_status(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        """The HTTP status of a WebSocket handshake: 101 when it is accepted.

        `headers` are sent instead of the token.
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
            Conversation(connection, self.options.timeout_s, self.action).take_leave()
        return 101

    @property
    def authorization(self) -> dict[str, str]:
        """The header with the token, if there is one."""
        token = self.options.token
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def schemas(self) -> dict[str, dict[str, Any]]:
        """What `/schema` says."""
        schemas = self.http_json("GET", "/schema")
        if not isinstance(schemas, dict):
            raise CheckFailed(f"GET /schema was answered by {str(schemas)[:200]}")
        return schemas

    def action(self, number: int = 0) -> dict[str, Any]:
        """An action that the environment takes: one of the options', or made up."""
        if not self._actions:
            self._actions = self.options.actions or example_actions(
                self.schemas().get("action", {})
            )
        return self._actions[number % len(self._actions)]
