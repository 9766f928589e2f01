# SPDX-License-Identifier: BSD-3-Clause
"""`Check` and the registry of all checks: functions that raise when a server breaks a rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from stepwire.conformance.contract import ROWS, Level, Row
from stepwire.conformance.findings import CheckFailed
from stepwire.conformance.server_under_test import ServerUnderTest

CheckFunction: TypeAlias = Callable[[ServerUnderTest], None]


@dataclass(frozen=True)
class Check:
    """One check of a row. It never passes when its preparations fail."""

    id: str
    row: Row
    cause: str
    fix: str
    needs: str | None
    """The field of `Options` without which the check cannot run."""
    run: CheckFunction

    @property
    def level(self) -> Level:
        return self.row.level

    @property
    def purpose(self) -> str:
        return (self.run.__doc__ or "").strip()

    def explain(self, error: Exception) -> str:
        """What went wrong; also the likely cause and the fix, if the check found them."""
        if not isinstance(error, CheckFailed):
            return f"{type(error).__name__}: {error}"
        if not error.cause_known:
            return str(error)
        return f"{error}\nLikely cause: {self.cause}\nFix: {self.fix}"


CHECKS: dict[str, Check] = {}


def check(
    check_id: str, row: str, *, cause: str, fix: str, needs: str | None = None
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check of a row of the contract."""

    def register(function: CheckFunction) -> CheckFunction:
        if check_id in CHECKS:
            raise ValueError(f"There are two checks {check_id}")
        CHECKS[check_id] = Check(check_id, ROWS[row], cause, fix, needs, function)
        return function

    return register


def require(holds: Any, what: str, got: Any) -> None:
    """Fail the check unless `holds`; the message says that `what` was expected."""
    if not holds:
        fail(f"Expected {what}, got {got!r:.300}")


def fail(message: str) -> NoReturn:
    raise CheckFailed(message)
