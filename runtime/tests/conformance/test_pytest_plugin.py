# SPDX-License-Identifier: BSD-3-Clause
"""`pytest --openenv-url`: a test for each check, and nothing without the option."""

from pathlib import Path
from typing import Any

import pytest

from stepwire.conformance.registry import CHECKS


def _run(pytester: pytest.Pytester, *arguments: str) -> tuple[int, str]:
    """Run pytest in an empty folder, as in any project that has this package installed."""
    result = pytester.runpytest_inprocess("-q", "-rA", "-p", "no:cacheprovider", *arguments)
    return int(result.ret), result.stdout.str() + result.stderr.str()


def test_each_check_is_a_test_beside_the_projects_own(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_own="def test_own(): pass")
    code, told = _run(pytester, "--openenv-url", f"{broken_servers.url}/sound")
    assert code == 0, told
    asked = [check.id for check in CHECKS.values() if check.needs is None]
    for name in ("test_own.py::test_own", *(f"openenv::{check_id}" for check_id in asked)):
        assert f"PASSED {name}\n" in told
    assert f"{len(asked) + 1} passed" in told


def test_a_must_fails_with_cause_and_fix_and_a_should_is_expected_to(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    url = f"{broken_servers.url}/ws-step"
    code, told = _run(pytester, "--openenv-url", url, "-k", "ws-st")
    assert code == 1
    assert "FAILED openenv::ws-step - WS-3: " in told
    assert f"Fix: {CHECKS['ws-step'].fix}" in told
    assert "PASSED openenv::ws-state\n" in told
    should = ("--openenv-url", f"{broken_servers.url}/ws-metadata", "-k", "ws-metadata")
    code, told = _run(pytester, *should)
    assert (code, "1 xfailed" in told) == (0, True)
    assert _run(pytester, *should, "--openenv-strict")[0] == 1


def test_what_the_baseline_names_has_to_fail(
    broken_servers: Any, pytester: pytest.Pytester
) -> None:
    (pytester.path / "known").write_text("ws-step\n")
    asked = ("--openenv-baseline", "known", "-k", "ws-step and not first and not count")
    code, told = _run(pytester, "--openenv-url", f"{broken_servers.url}/ws-step", *asked)
    assert (code, "1 xfailed" in told) == (0, True)
    code, told = _run(pytester, "--openenv-url", f"{broken_servers.url}/sound", *asked)
    assert (code, "XPASS(strict)" in told) == (1, True)


def test_options_are_handed_on(broken_servers: Any, pytester: pytest.Pytester) -> None:
    (pytester.path / "actions").write_text('{"text": "fail"}\n')  # which the environment does
    url = ("--openenv-url", f"{broken_servers.url}/sound")
    code, told = _run(pytester, *url, "--openenv-capacity", "4", "-k", "err-capacity")
    assert (code, "1 passed" in told) == (0, True)
    code, told = _run(pytester, *url, "--openenv-actions", "actions", "-k", "http-step")
    assert (code, "FAILED openenv::http-step - " in told) == (1, True)
    url = ("--openenv-url", f"{broken_servers.url}/guarded")
    code, told = _run(pytester, *url, "--openenv-token", "a-token-of-the-tests", "-k", "token")
    assert (code, "1 passed" in told) == (0, True)


def test_a_server_that_is_not_there_is_an_error_of_usage(
    free_port: int, pytester: pytest.Pytester
) -> None:
    code, told = _run(pytester, "--openenv-url", f"http://127.0.0.1:{free_port}")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: Nobody answers at" in told


def test_without_the_option_there_is_nothing_of_it(run: Any, tmp_path: Path) -> None:
    done = run("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (pytest.ExitCode.NO_TESTS_COLLECTED, "")
    assert "openenv" not in done.stdout
