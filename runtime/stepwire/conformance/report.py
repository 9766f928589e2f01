# SPDX-License-Identifier: BSD-3-Clause
"""Results as a table for people, as JSON for programs and as JUnit XML for CI."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stepwire.conformance.contract import VERSION
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.runner import Result, Verdict

_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.WARNED: "yellow",
    Verdict.KNOWN: "cyan",
    Verdict.STALE: "bold red",
}


def print_table(url: str, results: Sequence[Result], console: Console) -> None:
    """Print all verdicts, then an explanation of each failure, then the counts."""
    table = Table("Check", "Row", "Level", "Verdict", box=box.SIMPLE_HEAD)
    table.title, table.title_justify = f"OpenEnv contract {VERSION}: {url}", "left"
    for result in results:
        check = result.check
        verdict = Text(result.verdict.value, style=_STYLES[result.verdict])
        table.add_row(check.id, check.row.id, check.level.value, verdict)
    console.print(table)
    for result in results:
        if result.message:
            title = f"\n{result.check.id} ({result.verdict.value}): {result.check.row.text}"
            console.print(Text(title, style=_STYLES[result.verdict]))
            console.print(Text(result.message))
    skipped = [c for c in CHECKS.values() if c.needs and c.id not in _ids(results)]
    if skipped:
        names = sorted({str(check.needs) for check in skipped})
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        console.print(Text(f"\n{len(skipped)} checks not run; they need: {options}"))
    counts = Counter(result.verdict for result in results)
    summary = ", ".join(
        f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]
    )
    console.print(Text(f"\n{summary or 'nothing checked'}"))


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
            "message": result.message,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    return json.dumps({"contract": VERSION, "url": url, "checks": checks}, indent=2)


def as_junit(url: str, results: Sequence[Result]) -> str:
    """A JUnit test suite with a case for each check; known failures count as skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"OpenEnv contract {VERSION}",
        hostname=url,
        tests=str(len(results)),
        failures=str(sum(result.verdict.is_failure for result in results)),
        skipped=str(sum(result.verdict is Verdict.KNOWN for result in results)),
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
        elif result.verdict is Verdict.KNOWN:
            ElementTree.SubElement(case, "skipped", message="known failure: in the baseline")
        elif result.message:
            ElementTree.SubElement(case, "system-out").text = result.message
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
