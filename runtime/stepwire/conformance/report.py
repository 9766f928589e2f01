# SPDX-License-Identifier: BSD-3-Clause
"""Results as a table for people, as JSON for programs and as JUnit XML for CI."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.conformance.contract import VERSION
from stepwire.conformance.registry import CHECKS, Check
from stepwire.conformance.runner import Result, Verdict

_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.WARNED: "yellow",
    Verdict.KNOWN: "cyan",
    Verdict.STALE: "bold red",
    Verdict.NOT_CHECKED: "bold yellow",
    Verdict.NOT_APPLICABLE: "dim",
}
_LINE_EVERY_S = 5.0
_SKIPPED = {Verdict.KNOWN, Verdict.NOT_CHECKED, Verdict.NOT_APPLICABLE}


def print_table(url: str, results: Sequence[Result], console: Console) -> None:
    """Print all verdicts, then an explanation of each one that is not `passed`, then the counts."""
    table = Table("Check", "Row", "Level", "Verdict", "What it asks", box=box.SIMPLE_HEAD)
    table.title, table.title_justify = f"OpenEnv contract {VERSION}: {url}", "left"
    for result in results:
        check = result.check
        verdict = Text(result.verdict.value, style=_STYLES[result.verdict])
        table.add_row(check.id, check.row.id, check.level.value, verdict, Text(check.purpose))
    console.print(table)
    for message, alike in _by_message(results).items():
        first = alike[0]
        ids = ", ".join(result.check.id for result in alike)
        row = f": {first.check.row.text}" if len(alike) == 1 else ""
        title = f"\n{ids} ({first.verdict.value}){row}"
        console.print(Text(title, style=_STYLES[first.verdict]))
        console.print(Text(message))
    skipped = [c for c in CHECKS.values() if c.needs and c.id not in _ids(results)]
    if skipped:
        options = ", ".join(sorted({option_of(check) for check in skipped}))
        console.print(Text(f"\n{len(skipped)} checks not run; they need: {options}"))
    counts = Counter(result.verdict for result in results)
    summary = ", ".join(
        f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]
    )
    console.print(Text(f"\n{summary or 'nothing checked'}"))


def option_of(check: Check) -> str:
    """The option without which a check cannot run."""
    return f"--{str(check.needs).replace('_', '-')}"


class Progress:
    """Show which check is running: on a terminal in one changing line, else in a line at times."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._next_line = time.monotonic() + _LINE_EVERY_S

    def show(self, number: int, check: Check) -> None:
        text = f"{number} of {self._total}: {check.id}"
        if self._stream.isatty():
            print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)
        elif time.monotonic() >= self._next_line:
            print(text, file=self._stream, flush=True)
            self._next_line = time.monotonic() + _LINE_EVERY_S

    def clear(self) -> None:
        if self._stream.isatty():
            print("\r\x1b[K", end="", file=self._stream, flush=True)


def _by_message(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results that have a message; many checks may have the same reason for no verdict."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.message:
            found.setdefault(result.message, []).append(result)
    return found


def _ids(results: Sequence[Result]) -> set[str]:
    return {result.check.id for result in results}


def as_json(url: str, results: Sequence[Result]) -> str:
    """A JSON object with `contract`, `url` and a list of `checks`."""
    checks: list[dict[str, Any]] = [
        {
            "id": result.check.id,
            "row": result.check.row.id,
            "level": result.check.level.value,
            "verdict": result.verdict.value,
            "asks": result.check.purpose,
            "message": result.message,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    return json.dumps({"contract": VERSION, "url": url, "checks": checks}, indent=2)


def as_junit(url: str, results: Sequence[Result]) -> str:
    """A JUnit test suite with a case for each check.

    Known failures and checks without a verdict count as skipped.
    """
    suite = ElementTree.Element(
        "testsuite",
        name=f"OpenEnv contract {VERSION}",
        hostname=url,
        tests=str(len(results)),
        failures=str(sum(result.verdict.is_failure for result in results)),
        skipped=str(sum(result.verdict in _SKIPPED for result in results)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{result.check.level.value}.{result.check.row.id}",
            name=result.check.id,
            time=f"{result.seconds:.3f}",
        )
        if result.verdict.is_failure:
            summary = result.message.partition("\n")[0]
            ElementTree.SubElement(case, "failure", message=summary).text = result.message
        elif result.verdict in _SKIPPED:
            known = result.verdict is Verdict.KNOWN
            reason = "known failure: in the baseline" if known else result.message
            ElementTree.SubElement(case, "skipped", message=reason)
        elif result.message:
            ElementTree.SubElement(case, "system-out").text = result.message
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
