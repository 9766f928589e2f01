# SPDX-License-Identifier: BSD-3-Clause
"""Every check: our server passes it, a broken one fails it, and the stock server as documented."""

import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from defects import CAPACITY, DEFECTS, FAILING_ACTION, TOKEN

from stepwire.conformance.contract import GENERATIONS, ROWS, Level
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.runner import run_check, selected
from stepwire.conformance.server_under_test import Options, ServerUnderTest

_FOLDER = Path(__file__).parent
_CORE, _LATER = GENERATIONS
_INSTALLED = _CORE if list(metadata.distributions(name="openenv-core")) else _LATER
# These need a server with a token, one with an idle timeout and one to stop.
_NEED_OTHER_SERVERS = {"ops-token", "ops-idle", "ops-stop"}
# For this one the server loads FastMCP, which takes seconds in each process.
_SLOW = "mcp-handshake"
# Until a check says that a server does not close. A busy server takes less for all other replies.
_NOT_CLOSED_S = 5.0


def _options(url: str, timeout_s: float = 60.0, **more: Any) -> Options:
    return Options(
        timeout_s=timeout_s,
        capacity=CAPACITY,
        failing_action=FAILING_ACTION,
        unbuildable_url=f"{url}/unbuildable",
        **more,
    )


def _failed(url: str, *, without: Collection[str] = (), **options: Any) -> dict[str, str]:
    """The message of each check that fails; all are run that these options allow."""
    server = ServerUnderTest(url, _options(url, **options))
    checks = selected(server.options)
    assert set(CHECKS) - {check.id for check in checks} <= _NEED_OTHER_SERVERS
    messages = {check.id: run_check(check, server) for check in checks if check.id not in without}
    return {check_id: message for check_id, message in messages.items() if message}


def _message(check_id: str, url: str, options: Options) -> str:
    return run_check(CHECKS[check_id], ServerUnderTest(url, options))


def test_our_server_passes_every_check(broken_servers: Any) -> None:
    assert _failed(f"{broken_servers.url}/sound") == {}


def test_our_server_passes_every_check_with_a_token(broken_servers: Any) -> None:
    assert _failed(f"{broken_servers.url}/guarded", token=TOKEN) == {}


@pytest.mark.parametrize("check_id", DEFECTS)
def test_a_broken_server_fails_its_check(broken_servers: Any, check_id: str) -> None:
    url = f"{broken_servers.url}/{check_id}"
    message = _message(check_id, url, _options(url))
    check = CHECKS[check_id]
    assert f"Likely cause: {check.cause}\nFix: {check.fix}" in message


@pytest.mark.slow
@pytest.mark.parametrize("check_id", DEFECTS)
def test_a_broken_server_fails_no_other_check(broken_servers: Any, check_id: str) -> None:
    without = {_SLOW} - {check_id}
    failed = _failed(f"{broken_servers.url}/{check_id}", without=without)
    assert set(failed) == {check_id}, failed


_UNLIMITED = """
import uvicorn
from broken_servers import app

class Unlimited(uvicorn.Config):
    ws_max_size = property(lambda self: 1 << 31, lambda self, value: None)

uvicorn.Server(Unlimited(app, port={port}, log_level="error")).run()
"""


@pytest.mark.slow
def test_a_server_without_frame_limit_fails_no_other_check(start_server: Any) -> None:
    server = start_server(command=[sys.executable, "-c", _UNLIMITED], cwd=_FOLDER)
    url, check_id = f"{server.url}/sound", "limit-frame-size"
    message = _message(check_id, url, _options(url, timeout_s=_NOT_CLOSED_S))
    assert message.startswith(f"The connection was not closed in {_NOT_CLOSED_S:g} s\n")
    assert _failed(url, without={_SLOW, check_id}) == {}


@pytest.mark.slow
def test_a_server_without_token_fails_the_check_of_the_token_and_no_other(
    broken_servers: Any,
) -> None:
    failed = _failed(f"{broken_servers.url}/sound", token=TOKEN, without={_SLOW})
    assert set(failed) == {"ops-token"}, failed


@pytest.mark.slow
def test_our_server_ends_idle_sessions_and_closes_the_others_when_it_stops(
    start_server: Callable[..., Any],
) -> None:
    # The limit is for a client that a busy machine lets wait, too.
    server = start_server(env={"SESSION_IDLE_TIMEOUT_S": "5"})
    options = Options(timeout_s=60, idle_timeout_s=5, stop_pid=server.process.pid)
    assert _message("ops-idle", server.url, options) == ""
    assert _message("ops-stop", server.url, options) == ""


@pytest.mark.slow
def test_a_careless_server_fails_the_checks_of_frame_size_idle_time_and_stop(
    start_server: Callable[..., Any],
) -> None:
    careless = start_server(command=[sys.executable, str(_FOLDER / "careless_server.py"), "{port}"])
    options = Options(
        ({"text": "Hi"},),
        timeout_s=_NOT_CLOSED_S,
        idle_timeout_s=0.5,
        stop_pid=careless.process.pid,
    )
    failed = [
        _message(check_id, careless.url, options)
        for check_id in ("limit-frame-size", "ops-idle", "ops-stop")
    ]
    assert failed[0].startswith(f"The connection was not closed in {_NOT_CLOSED_S:g} s\n")
    assert failed[1].startswith(f"No reply within {_NOT_CLOSED_S + 0.5:g} s\n")
    assert failed[2].startswith("Expected close code 1012, got Closed(code=None")


@pytest.mark.slow
def test_a_server_that_never_sees_malformed_frames_fails_their_check(broken_servers: Any) -> None:
    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        forwarding = (listening, broken_servers.port, opened)
        threading.Thread(target=_forward, args=forwarding, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/sound"
        message = _message("limit-malformed-frame", url, Options(timeout_s=_NOT_CLOSED_S))
    for each in opened:
        with suppress(OSError):  # the other side has closed
            # With `close` alone, the session would stay open as long as a thread reads.
            each.shutdown(socket.SHUT_RDWR)
        each.close()
    not_closed = f"The connection was not closed in {_NOT_CLOSED_S:g} s\n"
    assert message.startswith(f"{not_closed}Likely cause: the server r")


def _forward(listening: socket.socket, port: int, opened: list[socket.socket]) -> None:
    """Pass on what both sides send, but for frames that begin with a reserved opcode."""
    with suppress(OSError):
        while True:
            client = listening.accept()[0]
            server = socket.create_connection(("127.0.0.1", port))
            opened += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if not data.startswith(b"\x83"):
                target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_every_check_has_a_broken_server() -> None:
    others = {"limit-frame-size", "limit-malformed-frame"}
    assert set(CHECKS) == {*DEFECTS, *others, *_NEED_OTHER_SERVERS}


def test_every_row_of_the_contract_has_a_check() -> None:
    assert {check.row.id for check in CHECKS.values()} == set(ROWS)


def test_the_contract_says_what_each_check_asks() -> None:
    for row in ROWS.values():
        checks = [check for check in CHECKS.values() if check.row is row]
        assert row.asks == " ".join(f"`{each.id}`: {each.purpose}" for each in checks)


def test_every_check_has_a_purpose_a_cause_and_a_fix() -> None:
    for check in CHECKS.values():
        assert check.purpose.endswith("."), check.id
        assert check.cause, check.id
        assert check.fix, check.id


def test_rows_that_only_our_server_has_are_checked_only_with_an_option() -> None:
    own = {row.id for row in ROWS.values() if "own" in row.stock.values()}
    assert own == {"OPS-2", "OPS-5"}
    assert all(check.needs for check in CHECKS.values() if check.row.id in own)


def test_a_row_that_a_stock_server_does_not_keep_is_a_should() -> None:
    for row in ROWS.values():
        kept = all(cell == "✓" for cell in row.stock.values())
        assert kept or row.level is Level.SHOULD, row.id


def test_the_stock_server_deviates_where_the_contract_says_so(
    stock_server_that_fails: Any,
) -> None:
    server = stock_server_that_fails
    options = _options(server.url, stop_pid=server.process.pid)
    stock = ServerUnderTest(server.url, replace(options, failing_action={"message": "fail"}))
    failed = {check.row.id for check in selected(stock.options) if run_check(check, stock)}
    documented = {row.id for row in ROWS.values() if row.stock[_INSTALLED] not in {"✓", "own"}}
    assert failed == documented
