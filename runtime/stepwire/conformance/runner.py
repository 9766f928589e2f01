# SPDX-License-Identifier: BSD-3-Clause
"""Runs checks against a server and compares the results with a baseline of known failures."""

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
    """It failed, and its row is a SHOULD."""
    KNOWN = "known"
    """It failed, as the baseline says."""
    STALE = "stale"
    """It passed, but the baseline says that it fails."""

    @property
    def is_failure(self) -> bool:
        return self in {Verdict.FAILED, Verdict.STALE}


@dataclass(frozen=True)
class Result:
    """The result of one check; `message` is empty when it passed."""

    check: Check
    verdict: Verdict
    message: str
    seconds: float


@dataclass(frozen=True)
class Baseline:
    """The checks that a server is known to fail."""

    ids: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> "Baseline":
        """Read one check id per line; `#` starts a comment.

        Raises `ValueError` for an unknown check and `OSError` for a missing file.
        """
        lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
        ids = frozenset(line for line in lines if line)
        unknown = sorted(ids - set(CHECKS))
        if unknown:
            raise ValueError(f"{path} names checks that do not exist: {', '.join(unknown)}")
        return cls(ids)


def selected(options: Options, only: Collection[str] = ()) -> list[Check]:
    """The checks that can run with these options, in the order of the contract.

    `only` limits them to these ids.
    """
    order = list(ROWS)
    return [
        check
        for check in sorted(CHECKS.values(), key=lambda check: order.index(check.row.id))
        if (not only or check.id in only)
        and (check.needs is None or getattr(options, check.needs) is not None)
    ]


def run_check(check: Check, server: ServerUnderTest) -> str:
    """Run one check; returns why it fails, or an empty string when it passes."""
    try:
        check.run(server)
    except Exception as error:  # noqa: BLE001 - any exception is a failure
        return check.explain(error)
    return ""


def run(
    server: ServerUnderTest,
    checks: Iterable[Check],
    baseline: Baseline = Baseline(),  # noqa: B008 - it is frozen
    *,
    strict: bool = False,
) -> list[Result]:
    """Run the checks one after the other; `strict` treats SHOULD like MUST."""
    results = []
    for check in checks:
        started = time.monotonic()
        message = run_check(check, server)
        seconds = time.monotonic() - started
        known = check.id in baseline.ids
        if known and not message:
            message = "It passes, but the baseline says that it fails: remove it from the baseline."
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
