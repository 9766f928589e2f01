# SPDX-License-Identifier: BSD-3-Clause
"""Runs checks against a server, and judges the results by what is known to fail."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import stepwire.conformance.checks  # noqa: F401 - registers them
from stepwire.conformance.contract import ROWS, Level
from stepwire.conformance.registry import CHECKS, Check
from stepwire.conformance.server_under_test import Options, ServerUnderTest


class Verdict(str, Enum):
    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    """It failed, at what a server only should do."""
    KNOWN = "known"
    """It failed, as the baseline says."""
    STALE = "stale"
    """It passed, though the baseline says that it fails."""

    @property
    def is_failure(self) -> bool:
        return self in {Verdict.FAILED, Verdict.STALE}


@dataclass(frozen=True)
class Result:
    """What came of one check; `message` is empty when it passed."""

    check: Check
    verdict: Verdict
    message: str
    seconds: float


@dataclass(frozen=True)
class Baseline:
    """The checks that a server is known to fail: one id a line, after `#` why."""

    ids: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Raises `ValueError` for a check that does not exist, `OSError` for a file that does."""
        lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
        ids = frozenset(line for line in lines if line)
        unknown = sorted(ids - set(CHECKS))
        if unknown:
            raise ValueError(f"{path} names checks that do not exist: {', '.join(unknown)}")
        return cls(ids)


def selected(options: Options, only: Collection[str] = ()) -> list[Check]:
    """The checks that can be asked with these options, in the contract's order.

    `only` those of certain ids.
    """
    order = list(ROWS)
    return [
        check
        for check in sorted(CHECKS.values(), key=lambda check: order.index(check.row.id))
        if (not only or check.id in only)
        and (check.needs is None or getattr(options, check.needs) is not None)
    ]


def run_check(check: Check, server: ServerUnderTest) -> str:
    """Why the check fails; empty when it passes."""
    try:
        check.ask(server)
    except Exception as error:  # noqa: BLE001 - whatever a server makes us raise, it failed
        return check.explain(error)
    return ""


def run(
    server: ServerUnderTest,
    checks: Iterable[Check],
    baseline: Baseline = Baseline(),  # noqa: B008 - it is frozen
    *,
    strict: bool = False,
) -> list[Result]:
    """Ask everything, one after the other; `strict` takes SHOULD for MUST."""
    results = []
    for check in checks:
        started = time.monotonic()
        message = run_check(check, server)
        seconds = time.monotonic() - started
        known = check.id in baseline.ids
        if known and not message:
            message = "It passes, but the baseline says that it fails: take it out of the baseline."
            verdict = Verdict.STALE
        elif known:
            verdict = Verdict.KNOWN
        elif message:
            tolerated = check.level is Level.SHOULD and not strict
            verdict = Verdict.WARNED if tolerated else Verdict.FAILED
        else:
            verdict = Verdict.PASSED
        results.append(Result(check, verdict, message, seconds))
    return results
