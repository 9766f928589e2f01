# SPDX-License-Identifier: BSD-3-Clause
"""Runs checks against a server and compares the results with a baseline of known failures."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import stepwire.conformance.checks  # noqa: F401 - registers them
from stepwire.conformance.contract import ROWS, Level
from stepwire.conformance.deadlines import within
from stepwire.conformance.findings import NotApplicable, NotChecked
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
    NOT_CHECKED = "not checked"
    """A preparation failed, so the rule may hold or not."""
    NOT_APPLICABLE = "not applicable"
    """The environment makes the rule impossible to keep."""

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


def examine(check: Check, server: ServerUnderTest) -> tuple[Verdict, str]:
    """Run one check: `PASSED`, `FAILED`, `NOT_CHECKED` or `NOT_APPLICABLE`, and why."""
    try:
        server.prepare()
        check.run(server)
    except NotChecked as reason:
        return Verdict.NOT_CHECKED, str(reason)
    except NotApplicable as reason:
        return Verdict.NOT_APPLICABLE, str(reason)
    except Exception as error:  # noqa: BLE001 - any exception is a failure
        return Verdict.FAILED, check.explain(error)
    return Verdict.PASSED, ""


def run_check(check: Check, server: ServerUnderTest) -> str:
    """Run one check; returns why it does not pass, or an empty string when it passes."""
    return examine(check, server)[1]


def run(
    server: ServerUnderTest,
    checks: Sequence[Check],
    baseline: Baseline = Baseline(),  # noqa: B008 - it is frozen
    *,
    strict: bool = False,
    deadline_s: float | None = None,
    report: Callable[[int, Check], object] = lambda _number, _check: None,
) -> list[Result]:
    """Run the checks one after the other; `strict` treats SHOULD like MUST.

    `report` is called before each check, with its number, from 1. Checks that do not end within
    `deadline_s` seconds, counted from now, come to no verdict.
    """
    results = []
    end = math.inf if deadline_s is None else time.monotonic() + deadline_s
    for number, check in enumerate(checks, 1):
        started = time.monotonic()
        report(number, check)
        try:
            verdict, message = within(end - started, partial(examine, check, server))
        except TimeoutError:
            verdict = Verdict.NOT_CHECKED
            message = f"The checks were to end within {deadline_s:g} s."
        seconds = time.monotonic() - started
        if check.id in baseline.ids:
            verdict, message = _known(verdict, message)
        elif verdict is Verdict.FAILED and check.level is Level.SHOULD and not strict:
            verdict = Verdict.WARNED
        results.append(Result(check, verdict, message, seconds))
    return results


def _known(verdict: Verdict, message: str) -> tuple[Verdict, str]:
    """The verdict for a check that is in the baseline."""
    if verdict is Verdict.PASSED:
        return (
            Verdict.STALE,
            "It passes, but the baseline says that it fails: remove it from the baseline.",
        )
    return Verdict.KNOWN, message


def is_incomplete(results: Iterable[Result], *, strict: bool = False) -> bool:
    """Whether a row that is a MUST (or, with `strict`, any row) has no verdict."""
    return any(
        result.verdict is Verdict.NOT_CHECKED and (strict or result.check.level is Level.MUST)
        for result in results
    )
