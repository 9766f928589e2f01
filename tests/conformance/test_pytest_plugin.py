# SPDX-License-Identifier: BSD-3-Clause
"""`pytest --openenv-url`: a test for each check, and nothing without the option."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echo_env.conformance.registry import CHECKS

Pytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(run: Any, tmp_path: Path) -> Pytest:
    """Runs pytest in an empty folder, as in any project that has this package installed."""

    def run_one(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = run(
            "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments, cwd=tmp_path
        )
        return done

    return run_one


def test_each_check_is_a_test_beside_the_projects_own(
    server: Any, run_pytest: Pytest, tmp_path: Path
) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    done = run_pytest("--openenv-url", server.url)
    assert done.returncode == 0, done.stdout
    asked = [check.id for check in CHECKS.values() if check.needs is None]
    for name in ("test_own.py::test_own", *(f"openenv::{check_id}" for check_id in asked)):
        assert f"PASSED {name}\n" in done.stdout
    assert f"{len(asked) + 1} passed" in done.stdout


def test_a_must_fails_with_cause_and_fix_and_a_should_is_expected_to(
    broken_servers: Any, run_pytest: Pytest
) -> None:
    done = run_pytest("--openenv-url", f"{broken_servers.url}/ws-step", "-k", "ws-st")
    assert done.returncode == 1
    assert "FAILED openenv::ws-step - WS-3: " in done.stdout
    assert f"Fix: {CHECKS['ws-step'].fix}" in done.stdout
    assert "PASSED openenv::ws-state\n" in done.stdout
    should = ("--openenv-url", f"{broken_servers.url}/ws-metadata", "-k", "ws-metadata")
    done = run_pytest(*should)
    assert (done.returncode, "1 xfailed" in done.stdout) == (0, True)
    assert run_pytest(*should, "--openenv-strict").returncode == 1


def test_what_the_baseline_names_has_to_fail(
    broken_servers: Any, run_pytest: Pytest, tmp_path: Path
) -> None:
    (tmp_path / "known").write_text("ws-step\n")
    asked = ("--openenv-baseline", "known", "-k", "ws-step and not first and not count")
    done = run_pytest("--openenv-url", f"{broken_servers.url}/ws-step", *asked)
    assert (done.returncode, "1 xfailed" in done.stdout) == (0, True)
    done = run_pytest("--openenv-url", f"{broken_servers.url}/sound", *asked)
    assert (done.returncode, "XPASS(strict)" in done.stdout) == (1, True)


def test_options_are_handed_on(broken_servers: Any, run_pytest: Pytest, tmp_path: Path) -> None:
    (tmp_path / "actions").write_text('{"message": "fail"}\n')  # which the environment does
    url = ("--openenv-url", f"{broken_servers.url}/sound")
    done = run_pytest(*url, "--openenv-capacity", "4", "-k", "err-capacity")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)
    done = run_pytest(*url, "--openenv-actions", "actions", "-k", "http-step")
    assert (done.returncode, "FAILED openenv::http-step - " in done.stdout) == (1, True)


def test_a_server_that_is_not_there_is_an_error_of_usage(
    free_port: int, run_pytest: Pytest
) -> None:
    done = run_pytest("--openenv-url", f"http://127.0.0.1:{free_port}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: Nobody answers at" in done.stderr


def test_without_the_option_there_is_nothing_of_it(run_pytest: Pytest) -> None:
    done = run_pytest()
    assert (done.returncode, done.stderr) == (pytest.ExitCode.NO_TESTS_COLLECTED, "")
    assert "openenv" not in done.stdout
