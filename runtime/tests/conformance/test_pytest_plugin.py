# SPDX-License-Identifier: BSD-3-Clause
"""`pytest --openenv-url`: a test for each check, and no effect without the option."""

from typing import Any

import pytest

import stepwire.conformance.checks  # noqa: F401 - before runs in this process, which unload modules
from stepwire.conformance.registry import CHECKS

_CHECKS = CHECKS.values()


def _run(pytester: pytest.Pytester, *arguments: str) -> tuple[int, str]:
    """Run pytest in an empty folder, as in a project with this package installed."""
    result = pytester.runpytest_inprocess("-q", "-rA", "-p", "no:cacheprovider", *arguments)
    return int(result.ret), result.stdout.str() + result.stderr.str()


def test_each_check_is_a_test_beside_the_projects_own(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_own="def test_own(): pass")
    # The server would load FastMCP for this one, which takes seconds.
    without = ("-k", "not mcp-handshake")
    code, output = _run(pytester, "--openenv-url", f"{broken_servers.url}/sound", *without)
    assert code == 0, output
    ids = [check.id for check in CHECKS.values() if check.needs is None]
    ids.remove("mcp-handshake")
    for name in ("test_own.py::test_own", *(f"openenv::{check_id}" for check_id in ids)):
        assert f"PASSED {name}\n" in output
    assert f"{len(ids) + 1} passed, 1 deselected" in output


def test_a_must_fails_with_cause_and_fix_and_a_should_is_expected_to(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    url = f"{broken_servers.url}/ws-step"
    code, output = _run(pytester, "--openenv-url", url, "-k", "ws-st")
    assert code == 1
    assert "FAILED openenv::ws-step - WS-3: " in output
    assert f"Fix: {CHECKS['ws-step'].fix}" in output
    assert "PASSED openenv::ws-state\n" in output
    should = ("--openenv-url", f"{broken_servers.url}/ws-metadata", "-k", "ws-metadata")
    code, output = _run(pytester, *should)
    assert (code, "1 xfailed" in output) == (0, True)
    assert _run(pytester, *should, "--openenv-strict")[0] == 1


def test_a_check_in_the_baseline_has_to_fail(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    (pytester.path / "known").write_text("ws-step\n")
    selection = ("--openenv-baseline", "known", "-k", "ws-step and not first and not count")
    code, output = _run(pytester, "--openenv-url", f"{broken_servers.url}/ws-step", *selection)
    assert (code, "1 xfailed" in output) == (0, True)
    code, output = _run(pytester, "--openenv-url", f"{broken_servers.url}/sound", *selection)
    assert (code, "XPASS(strict)" in output) == (1, True)


@pytest.mark.slow
def test_checks_wait_for_each_other_in_parallel_runs(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    result = pytester.runpytest_subprocess(
        *("-q", "-p", "no:cacheprovider", "-n", "2", "--openenv-capacity", "4"),
        *("--openenv-url", f"{broken_servers.url}/sound", "-k", "not mcp-handshake"),
    )
    result.assert_outcomes(passed=sum(check.needs in (None, "capacity") for check in _CHECKS) - 1)


def test_options_reach_the_checks(broken_servers: Any, pytester: pytest.Pytester) -> None:
    (pytester.path / "actions").write_text('{"text": "fail"}\n')  # at which the environment raises
    url = ("--openenv-url", f"{broken_servers.url}/sound")
    code, output = _run(pytester, *url, "--openenv-capacity", "4", "-k", "err-capacity")
    assert (code, "1 passed" in output) == (0, True)
    code, output = _run(pytester, *url, "--openenv-actions", "actions", "-k", "http-step")
    assert (code, "FAILED openenv::http-step - " in output) == (1, True)
    url = ("--openenv-url", f"{broken_servers.url}/guarded")
    code, output = _run(pytester, *url, "--openenv-token", "a-token-of-the-tests", "-k", "token")
    assert (code, "1 passed" in output) == (0, True)


def test_an_unreachable_server_is_a_usage_error(free_port: int, pytester: pytest.Pytester) -> None:
    code, output = _run(pytester, "--openenv-url", f"http://127.0.0.1:{free_port}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: No server answers at" in output


def test_without_the_option_there_are_no_checks(pytester: pytest.Pytester) -> None:
    code, output = _run(pytester)
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "openenv" not in output


def test_loading_the_plugin_imports_neither_framework_nor_network_libraries(run: Any) -> None:
    code = "import sys, stepwire.conformance.pytest_plugin; print(*sys.modules)"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    heavy = {"asyncio", "fastapi", "openenv.core.env_server.types", "pydantic", "requests"}
    assert not heavy & set(done.stdout.split())
