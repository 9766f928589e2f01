# SPDX-License-Identifier: BSD-3-Clause
"""Rows `OPS`: access to a server, and what its operators need."""

import os
import signal

from stepwire.conformance.checks.refusals import require_error
from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest

_ELSEWHERE = {"Origin": "https://conformance.invalid"}


@check(
    "ops-origin",
    "OPS-1",
    cause="a page of any site can use the server with the rights of its visitor",
    fix="refuse an `Origin` that is neither the server's own nor allowed",
)
def pages_of_other_sites_are_refused(server: ServerUnderTest) -> None:
    """A page of another site gets 403, for a handshake and for a `POST`."""
    headers = _ELSEWHERE | server.authorization
    status = server.handshake_status("/ws", headers)
    require(status == 403, "the handshake to be refused with 403", status)
    response = server.http("POST", "/reset", {}, headers=headers)
    require(response.status_code == 403, "403 for `POST /reset`", response.status_code)


@check(
    "ops-token",
    "OPS-2",
    cause="some routes do not check the token",
    fix="check it first, for requests and for handshakes; leave `/health` open",
    needs="token",
)
def clients_without_the_token_are_refused(server: ServerUnderTest) -> None:
    """Without the token, or with a wrong one, the answer is 401 everywhere except `/health`."""
    wrong = {"Authorization": "Bearer conformance-no-such-token"}
    for headers in ({}, wrong):
        status = server.http("GET", "/state", headers=headers).status_code
        require(status == 401, f"401 for `GET /state` with {headers}", status)
        status = server.handshake_status("/ws", headers)
        require(status == 401, f"the handshake to be refused with 401 with {headers}", status)
        status = server.http("GET", "/health", headers=headers).status_code
        require(status == 200, "200 for `GET /health`", status)


@check(
    "ops-ready",
    "OPS-3",
    cause="the route is missing: load balancers send sessions to a stopping server",
    fix='answer `{"status":"ready"}`, and 503 `{"status":"draining"}` when stopping',
)
def readiness_is_reported(server: ServerUnderTest) -> None:
    """`GET /ready` says `ready`."""
    ready = server.http_json("GET", "/ready")
    require(isinstance(ready, dict) and ready.get("status") == "ready", "`ready`", ready)


@check(
    "ops-sessions",
    "OPS-4",
    cause="the route is missing: operators cannot see how full the server is",
    fix="answer with both numbers of the process that gets the request",
)
def sessions_are_counted(server: ServerUnderTest) -> None:
    """`GET /sessions` counts an open session."""
    with server.session() as session:
        session.begin()
        counts = server.http_json("GET", "/sessions")
        active, most = counts.get("active_sessions"), counts.get("max_sessions")
        numbers = isinstance(active, int) and isinstance(most, int)
        require(
            numbers and 1 <= active <= most,
            "at least one session and at most `max_sessions`",
            counts,
        )


@check(
    "ops-idle",
    "OPS-5",
    cause="sessions with a silent client stay open, or end without an error frame",
    fix="send a `SESSION_ERROR` that names the limit, then close with code 1001",
    needs="idle_timeout_s",
)
def an_idle_session_is_ended(server: ServerUnderTest) -> None:
    """A session that is idle too long gets an error with the limit and close code 1001."""
    limit = server.options.idle_timeout_s or 0
    with server.session() as session:
        session.begin()
        data = require_error(session.receive(after_s=limit), "SESSION_ERROR")
        require(f"{limit:g}" in data["message"], f"a message that names {limit:g}", data)
        closed = session.closing()
        require(closed.code == 1001, "close code 1001", closed)


@check(
    "ops-stop",
    "OPS-6",
    cause="the process ends without closing its connections, or is killed too early",
    fix="close every session with code 1012 on `SIGTERM`, and allow enough time for it",
    needs="stop_pid",
)
def a_stopping_server_ends_its_sessions(server: ServerUnderTest) -> None:
    """`SIGTERM` closes an open session with code 1012."""
    with server.session() as session:
        session.begin()
        session.play(1)
        os.kill(server.options.stop_pid or 0, signal.SIGTERM)
        closed = session.closing()
        require(closed.code == 1012, "close code 1012", closed)
