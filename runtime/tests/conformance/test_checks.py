# SPDX-License-Identifier: BSD-3-Clause
"""Every check, against our server, against one that is broken so that it fails, and the stock's."""

import importlib.util
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stepwire.conformance.contract import GENERATIONS, ROWS, Level
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.runner import run_check, selected
from stepwire.conformance.server_under_test import Options, ServerUnderTest

_FOLDER = Path(__file__).parent
_CORE, _LATER = GENERATIONS
_INSTALLED = _CORE if list(metadata.distributions(name="openenv-core")) else _LATER
# They need a server with a token, one that is impatient and one that may be stopped.
_SERVERS_OF_THEIR_OWN = {"ops-token", "ops-idle", "ops-stop"}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_BROKEN = _load("broken_servers")


@pytest.fixture(scope="session")
def server_without_frame_limit(start_shared_server: Callable[..., Any]) -> Any:
    limit = str(1 << 31)
    return start_shared_server("--ws-max-size", limit, application=_FOLDER / "broken_servers.py")


def _asked(
    url: str,
    timeout_s: float = 60.0,
    token: str | None = None,
    stop_pid: int | None = None,
    leave_out: str = "",
) -> dict[str, str]:
    """What each check that fails says; all are asked but those of `_SERVERS_OF_THEIR_OWN`."""
    options = Options(
        timeout_s=timeout_s,
        capacity=_BROKEN.CAPACITY,
        failing_action=_BROKEN.FAILING_ACTION,
        unbuildable_url=f"{url}/unbuildable",
        token=token,
        stop_pid=stop_pid,
    )
    server = ServerUnderTest(url, options)
    checks = selected(options)
    assert set(CHECKS) - {check.id for check in checks} <= _SERVERS_OF_THEIR_OWN
    messages = {check.id: run_check(check, server) for check in checks if check.id != leave_out}
    return {check_id: message for check_id, message in messages.items() if message}


def test_our_server_passes_every_check(broken_servers: Any) -> None:
    assert _asked(f"{broken_servers.url}/sound") == {}


@pytest.mark.parametrize("check_id", _BROKEN.DEFECTS)
def test_a_broken_server_fails_its_check_and_no_other(broken_servers: Any, check_id: str) -> None:
    # For this one the server loads FastMCP, which takes seconds in each process of the tests.
    leave_out = "" if check_id == "mcp-handshake" else "mcp-handshake"
    failed = _asked(f"{broken_servers.url}/{check_id}", leave_out=leave_out)
    assert set(failed) == {check_id}, failed
    check = CHECKS[check_id]
    assert f"Likely cause: {check.cause}\nFix: {check.fix}" in failed[check_id]


def test_a_server_without_frame_limit_fails_its_check_and_no_other(
    server_without_frame_limit: Any,
) -> None:
    url = f"{server_without_frame_limit.url}/sound"
    failed = _asked(url, timeout_s=3, leave_out="mcp-handshake")
    assert set(failed) == {"limit-frame-size"}, failed


def test_our_server_passes_every_check_with_a_token(broken_servers: Any) -> None:
    assert _asked(f"{broken_servers.url}/guarded", token=_BROKEN.TOKEN) == {}


def test_a_server_that_asks_for_no_token_fails_its_check_and_no_other(broken_servers: Any) -> None:
    failed = _asked(f"{broken_servers.url}/sound", token=_BROKEN.TOKEN)
    assert set(failed) == {"ops-token"}, failed


def test_idle_sessions_are_ended_by_our_server_and_not_by_one_without_a_limit(
    impatient_server: Any, broken_servers: Any
) -> None:
    options = Options(timeout_s=60, idle_timeout_s=1)
    assert run_check(CHECKS["ops-idle"], ServerUnderTest(impatient_server.url, options)) == ""
    options = Options(timeout_s=0.5, idle_timeout_s=0.5)
    failed = run_check(CHECKS["ops-idle"], ServerUnderTest(f"{broken_servers.url}/sound", options))
    assert failed.startswith("No reply within 1 s\n")


def test_sessions_are_closed_by_our_server_when_it_stops_and_cut_by_one_that_dies(
    start_server: Callable[..., Any],
) -> None:
    ours = start_server()
    dying = start_server(command=[sys.executable, str(_FOLDER / "dying_server.py"), "{port}"])
    failed = [
        run_check(
            CHECKS["ops-stop"],
            ServerUnderTest(
                server.url,
                Options(({"text": "Hi"},), timeout_s=60, stop_pid=server.process.pid),
            ),
        )
        for server in (ours, dying)
    ]
    assert failed[0] == ""
    assert failed[1].startswith("Expected close code 1012, got Closed(code=None")


def test_every_check_has_a_broken_server() -> None:
    assert set(CHECKS) == {*_BROKEN.DEFECTS, "limit-frame-size", *_SERVERS_OF_THEIR_OWN}


def test_every_row_of_the_contract_has_a_check() -> None:
    assert {check.row.id for check in CHECKS.values()} == set(ROWS)


def test_every_check_says_what_it_asks_and_what_to_do() -> None:
    for check in CHECKS.values():
        assert check.purpose.endswith("."), check.id
        assert check.cause, check.id
        assert check.fix, check.id


def test_what_only_our_server_has_cannot_be_asked_without_an_option() -> None:
    own = {row.id for row in ROWS.values() if "own" in row.stock.values()}
    assert own == {"OPS-2", "OPS-5"}
    assert all(check.needs for check in CHECKS.values() if check.row.id in own)


def test_what_both_stock_servers_do_not_keep_is_no_must() -> None:
    for row in ROWS.values():
        kept = all(told == "✓" for told in row.stock.values())
        assert kept or row.level is Level.SHOULD, row.id


def test_the_stock_server_deviates_where_the_contract_says_so(
    stock_server_that_fails: Any,
) -> None:
    server = stock_server_that_fails
    messages = _asked(server.url, stop_pid=server.process.pid)
    failed = {CHECKS[check_id].row.id for check_id in messages}
    documented = {row.id for row in ROWS.values() if row.stock[_INSTALLED] not in {"✓", "own"}}
    assert failed == documented
