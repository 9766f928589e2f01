# SPDX-License-Identifier: BSD-3-Clause
"""The server under test, over raw WebSockets and HTTP, so that no client hides anything."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from stepwire.conformance.actions import accepted_actions, example_actions
from stepwire.conformance.deadlines import within
from stepwire.conformance.findings import CheckFailed, NotChecked, ServerUnreachable
from stepwire.conformance.session_under_test import Closed, Session, error_code, kind_of
from stepwire.conformance.tls import TLSContext
from stepwire.protocol.examples import NoExample

__all__ = ["Closed", "Options", "ServerUnderTest", "Session"]

_OPENING_S = 10.0
_RETRY_S = 0.05
_MOST_REFUSALS = 3  # to show
_HOW_TO_NAME_ACTIONS = "Pass actions that it accepts: --actions FILE."


@dataclass(frozen=True)
class Options:
    """What the checks have to know about a server and cannot find out."""

    actions: Sequence[dict[str, Any]] = ()
    """Actions to take in turn; if empty, they are made from `/schema`."""
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
    ca_file: str | None = None
    """Certificates to trust, for HTTP and WebSockets; or `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE`."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a value that no server can have."""
        for name, least in (("timeout_s", 0), ("capacity", 0), ("idle_timeout_s", 0)):
            value = getattr(self, name)
            if value is not None and not least < value < float("inf"):
                raise ValueError(f"{_option(name)} is a number above {least}, not {value}")
        if self.stop_pid is not None and self.stop_pid <= 1:
            raise ValueError(f"--stop-pid is the id of the server's process, not {self.stop_pid}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}".replace("--timeout-s", "--timeout")


def http_address(address: str) -> str:
    """The `http://` or `https://` form of an address, which may lack a scheme.

    Raises `ValueError` for one that no server of OpenEnv has.
    """
    text = address.strip()
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if "@" in parts.netloc:
        raise ValueError("The address has a user or a password: pass a token with --token")
    schemes = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
    if parts.scheme not in schemes:
        raise ValueError(f"The address is http://host:port or https://…, not {address!r:.200}")
    if not parts.hostname or "?" in text or "#" in text:
        raise ValueError(
            f"The address is that of the server, without a query: http://host:port, "
            f"not {address!r:.200}"
        )
    _ = parts.port  # raises for one that is not a number
    return f"{schemes[parts.scheme]}://{parts.netloc}{parts.path}".rstrip("/")


@dataclass
class ServerUnderTest:
    """The server at an address, with or without a scheme.

    The constructor raises `ServerUnreachable`, `ValueError` for a bad address and `OSError` for a
    missing file of certificates.
    """

    url: str
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.url = http_address(self.url)
        trusted = self.options.ca_file
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            trusted = trusted or os.environ.get(variable)
        self._trusted = trusted or None
        self._tls = None
        if self.url.startswith("https:"):
            self._tls = TLSContext.trusting(self._trusted)
        self._http = self._new_http()
        self._restless: set[str] = set()
        try:
            self.http("GET", "/health")
        except CheckFailed as failure:
            raise ServerUnreachable(f"No server answers at {self.url}: {failure}") from None

    @staticmethod
    def _new_http() -> requests.Session:
        http = requests.Session()
        http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return http

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
        for an answer that may take longer than others. Raises `CheckFailed` without an answer.
        """
        if body is not None and not isinstance(body, str | bytes):
            body = json.dumps(body)
        # After an error, a server may close a connection while it is being reused.
        sent = {"Content-Type": "application/json", "Connection": "close"}
        sent |= self.authorization if headers is None else headers
        patience = timeout_s or self.options.timeout_s

        def answer() -> requests.Response:
            return (cookies or self._http).request(
                method,
                self.url + path,
                data=body,
                headers=sent,
                timeout=patience,
                verify=self._trusted or True,
            )

        try:
            return within(patience, answer)
        except (TimeoutError, requests.Timeout):
            self._http = self._new_http()  # the old one may still be in use
            problem = f"no complete answer within {patience:g} s"
        except requests.RequestException as error:
            problem = f"no answer ({type(error).__name__}: {error})"
        raise CheckFailed(f"{method} {path}: {problem}", cause_known=False)

    def http_json(
        self, method: str, path: str, body: Any = None, cookies: requests.Session | None = None
    ) -> Any:
        """The JSON of the answer, which must have status 200."""
        response = self.http(method, path, body, cookies)
        if response.status_code != 200:
            raise CheckFailed(
                f"{method} {path} returned {response.status_code}: {response.text[:200]}",
                cause_known=response.status_code < 500,
            )
        try:
            return response.json()
        except ValueError:
            raise CheckFailed(f"{method} {path} returned no JSON: {response.text[:200]}") from None

    @contextmanager
    def session(self, path: str = "/ws", url: str | None = None) -> Iterator[Session]:
        """A new connection, closed with the block."""
        try:
            connection = self._connect(path, http_address(url) if url else self.url)
        except InvalidStatus as refused:
            status = refused.response.status_code
            raise CheckFailed(f"The handshake of {path} was refused with {status}") from None
        except (OSError, WebSocketException) as error:
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
            raise CheckFailed(
                f"The handshake of {path} failed ({problem})", cause_known=False
            ) from None
        ended = False
        try:
            with connection:
                session = self._session(connection)
                try:
                    yield session
                finally:
                    ended = session.end()
        finally:
            if not ended:
                self._wait_for_place()

    def _wait_for_place(self) -> None:
        """Wait until a server that is full has freed a place, at most as long as for a reply."""
        end = time.monotonic() + self.options.timeout_s
        while time.monotonic() < end:
            try:
                connection = self._connect("/ws", self.url)
                with connection:
                    session = self._session(connection)
                    code = error_code(session.ask({"type": "state"}))
                    session.end()
            except (CheckFailed, OSError, WebSocketException):
                return  # a free place would not help: the server does not answer, or stops
            if code != "CAPACITY_REACHED":
                return
            time.sleep(_RETRY_S)

    def _session(self, connection: ClientConnection) -> Session:
        return Session(connection, self.options.timeout_s, self.action, self._restless)

    def _connect(
        self, path: str, url: str, headers: Mapping[str, str] | None = None
    ) -> ClientConnection:
        return connect(
            url.replace("http", "ws", 1) + path,
            ssl=self._tls if url.startswith("https:") else None,
            open_timeout=max(_OPENING_S, self.options.timeout_s),
            close_timeout=self.options.timeout_s,
            additional_headers=self.authorization if headers is None else headers,
            compression=None,
            max_size=None,
            proxy=None,
        )

    def handshake_status(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        """The HTTP status of a WebSocket handshake: 101 when it is accepted.

        `headers` replace the token.
        """
        try:
            connection = self._connect(path, self.url, headers)
        except InvalidStatus as refused:
            return refused.response.status_code
        with connection:
            self._session(connection).end()
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
        """An action for the environment: one of the options', or one from `/schema`.

        Raises `NotChecked` when no action is known that the environment accepts.
        """
        actions, problem = self._actions
        if not actions:
            raise NotChecked(problem)
        return actions[number % len(actions)]

    def prepare(self) -> None:
        """Find actions while no session is open: the server may hold only one."""
        _ = self._actions

    @cached_property
    def _actions(self) -> tuple[Sequence[dict[str, Any]], str]:
        """Actions that the environment accepts, or why there are none."""
        if self.options.actions:
            return self.options.actions, ""
        try:
            schema = self.schemas().get("action", {})
        except CheckFailed as failure:
            return (), f"No action is known. {failure}"
        try:
            try:
                with self.session():
                    pass
            except CheckFailed:  # without sessions, actions cannot be tried
                return example_actions(schema), ""
            accepted, refused = accepted_actions(schema, self._refusal)
        except NoExample as error:
            return (), f"No action could be made from /schema. {error}. {_HOW_TO_NAME_ACTIONS}"
        except (CheckFailed, NotChecked) as failure:
            return (), f"No action could be tried. {failure}"
        shown = "\n".join(refused[:_MOST_REFUSALS])
        return accepted, (
            f"The environment refused all {len(refused)} actions that were made from /schema. "
            f"Either it wants others, or its steps fail. {_HOW_TO_NAME_ACTIONS}\n{shown}"
        )

    def _refusal(self, action: dict[str, Any]) -> str:
        """Why the environment does not take an action after a reset; empty when it takes it."""
        with self.session() as session:
            session.begin()
            try:
                reply = session.ask({"type": "step", "data": action})
            except CheckFailed as failure:
                if "No reply" in str(failure):
                    raise NotChecked(f"The step {action}: {failure}") from None
                return str(failure)
        if kind_of(reply) == "error":
            return str(reply.get("data"))[:300]
        return ""

    @cached_property
    def wants_reset(self) -> bool:
        """Whether the environment refuses a step before the first reset, but not after it."""
        step = {"type": "step", "data": self.action()}
        with self.session() as session:
            if error_code(session.ask(step)) is None:
                return False
            session.begin()
            return bool(kind_of(session.ask(step)) == "observation")

    @cached_property
    def wants_reset_for_state(self) -> bool:
        """Whether the environment has no state before the first reset."""
        with self.session() as session:
            return error_code(session.ask({"type": "state"})) is not None
