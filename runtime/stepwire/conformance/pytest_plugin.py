# SPDX-License-Identifier: BSD-3-Clause
"""`pytest --openenv-url URL`: each check of the contract is a test.

pytest loads this module in every run of every project, so it imports the checks only when used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stepwire.conformance.registry import Check
    from stepwire.conformance.runner import Baseline
    from stepwire.conformance.server_under_test import ServerUnderTest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("openenv", "OpenEnv conformance")
    group.addoption(
        "--openenv-url", metavar="URL", help="check the server at URL against the OpenEnv contract"
    )
    group.addoption(
        "--openenv-actions",
        type=Path,
        metavar="FILE",
        help="actions to take, one JSON object per line",
    )
    group.addoption(
        "--openenv-baseline",
        type=Path,
        metavar="FILE",
        help="checks known to fail, one id per line",
    )
    group.addoption(
        "--openenv-capacity",
        type=int,
        metavar="N",
        help="how many sessions the server holds; a check opens them all",
    )
    group.addoption("--openenv-token", metavar="TOKEN", help="the server's bearer token")
    group.addoption("--openenv-strict", action="store_true", help="treat SHOULD like MUST")


@pytest.hookimpl(tryfirst=True)  # so that `-k` sees the checks
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.getoption("--openenv-url"):
        items.extend(CheckSuite.from_parent(session, name="openenv", nodeid="openenv").collect())


class CheckSuite(pytest.Collector):
    """The checks that can run with the given options."""

    def collect(self) -> Iterator[pytest.Item]:
        from stepwire.conformance.actions import read_actions
        from stepwire.conformance.findings import ServerUnreachable
        from stepwire.conformance.runner import Baseline, selected
        from stepwire.conformance.server_under_test import Options, ServerUnderTest

        option = self.config.getoption
        actions, baseline = option("--openenv-actions"), option("--openenv-baseline")
        try:
            options = Options(
                actions=read_actions(actions) if actions else (),
                capacity=option("--openenv-capacity"),
                token=option("--openenv-token"),
            )
            known = Baseline.read(baseline) if baseline else Baseline()
            server = ServerUnderTest(option("--openenv-url"), options)
        except (OSError, ValueError, ServerUnreachable) as error:
            raise pytest.UsageError(str(error)) from None
        for check in selected(options):
            yield CheckItem.from_parent(
                self, name=check.id, check=check, server=server, baseline=known
            )


class CheckItem(pytest.Item):
    """One check. A failing SHOULD is an expected failure, like a check in the baseline."""

    def __init__(
        self, *, check: "Check", server: "ServerUnderTest", baseline: "Baseline", **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._check = check
        self._server = server
        if check.id in baseline.ids:
            self.add_marker(pytest.mark.xfail(reason="known failure: in the baseline", strict=True))

    def runtest(self) -> None:
        from stepwire.conformance.contract import Level
        from stepwire.conformance.findings import CheckFailed
        from stepwire.conformance.runner import Verdict, examine

        with _alone(self._server.url):
            verdict, message = examine(self._check, self._server)
        strict = self.config.getoption("--openenv-strict") or self._check.level is Level.MUST
        if verdict is Verdict.FAILED and strict:
            raise CheckFailed(message)
        if verdict is Verdict.FAILED:
            pytest.xfail(message)
        if verdict is not Verdict.PASSED:
            pytest.skip(f"{verdict.value}: {message}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any) -> str:
        return f"{self._check.row.id}: {self._check.row.text}\n{excinfo.value}"

    def reportinfo(self) -> tuple[str, None, str]:
        return "openenv", None, f"openenv::{self.name}"


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Wait until no other process checks the server: pytest-xdist runs checks in parallel.

    A check may need all of the server's sessions, or see those of another check.
    """
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:  # not on Windows
        yield
        return
    name = f"openenv-conformance-{getuser()}-{sha256(url.encode()).hexdigest()[:16]}.lock"
    with Path(gettempdir(), name).open("w") as file:
        flock(file, LOCK_EX)  # ends with the file, or with the process
        yield
