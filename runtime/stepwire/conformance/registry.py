# SPDX-License-Identifier: BSD-3-Clause
"""What a check is: a function that asks a server and raises when it does not like the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from stepwire.conformance.contract import ROWS, Level, Row
from stepwire.conformance.server_under_test import CheckFailed, ServerUnderTest

CheckFunction: TypeAlias = Callable[[ServerUnderTest], None]


@dataclass(frozen=True)
class Check:
    """One question to a server; it fails, never skips, also when the way to the question does."""

    id: str
    row: Row
    cause: str
    fix: str
    needs: str | None
    """The option that it cannot be asked without, by its name in `Options`."""
    ask: CheckFunction

    @property
    def level(self) -> Level:
        return self.row.level

    @property
    def purpose(self) -> str:
        return (self.ask.__doc__ or "").strip()

    def explain(self, error: Exception) -> str:
        """What went wrong, its likely cause and what to do about it."""
        found = str(error) if isinstance(error, CheckFailed) else f"{type(error).__name__}: {error}"
        return f"{found}\nLikely cause: {self.cause}\nFix: {self.fix}"


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
    """Fail the check unless `holds`; `what` was expected."""
    if not holds:
        fail(f"Expected {what}, got {got!r:.300}")


def fail(message: str) -> NoReturn:
    raise CheckFailed(message)
