# SPDX-License-Identifier: BSD-3-Clause
"""`python -m stepwire.conformance URL`: check the server at URL against the contract."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from stepwire.conformance.actions import parse_action, read_actions
from stepwire.conformance.findings import ServerUnreachable
from stepwire.conformance.registry import CHECKS, Check
from stepwire.conformance.report import Progress, as_json, as_junit, option_of, print_table
from stepwire.conformance.runner import Baseline, is_incomplete, run, selected
from stepwire.conformance.server_under_test import Options, ServerUnderTest

_PROGRAM = "python -m stepwire.conformance"
_PASSED, _FAILED, _NOT_CHECKED = 0, 1, 2
_DEADLINE_S = 300.0
_STDOUT = Path("-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 without failures, 1 with some, 2 if a verdict is missing."""
    given = _parser().parse_args(arguments)
    try:
        options = _options(given)
        checks = _checks(options, given.only)
        baseline = Baseline.read(given.baseline) if given.baseline else Baseline()
        for path in (given.json, given.junit):
            if path not in (None, _STDOUT):
                path.open("a").close()  # a bad path must fail before the run
        server = ServerUnderTest(given.url, options)
    except (OSError, ValueError, ServerUnreachable) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return _NOT_CHECKED
    deadline_s = given.deadline or _DEADLINE_S + (options.idle_timeout_s or 0)
    progress = Progress(len(checks), sys.stderr)
    results = run(
        server,
        checks,
        baseline,
        strict=given.strict,
        deadline_s=deadline_s,
        report=progress.show,
    )
    progress.clear()
    if given.json == _STDOUT:
        print(as_json(server.url, results))
    else:
        print_table(server.url, results, Console())
        if given.json:
            given.json.write_text(as_json(server.url, results), encoding="utf-8")
    if given.junit:
        given.junit.write_text(as_junit(server.url, results), encoding="utf-8")
    if any(result.verdict.is_failure for result in results):
        return _FAILED
    return _NOT_CHECKED if is_incomplete(results, strict=given.strict) else _PASSED


def _checks(options: Options, only: Sequence[str]) -> list[Check]:
    """The checks to run; raises `ValueError` when `only` names one that cannot run."""
    unknown = sorted(set(only) - set(CHECKS))
    if unknown:
        raise ValueError(f"Unknown checks: {', '.join(unknown)}")
    checks = selected(options, only)
    lacking = sorted(set(only) - {check.id for check in checks})
    if lacking:
        needs = ", ".join(f"{each} needs {option_of(CHECKS[each])}" for each in lacking)
        raise ValueError(f"Some checks of --only cannot run: {needs}")
    return checks


def _options(given: argparse.Namespace) -> Options:
    """Raises `ValueError` for a bad value, and `OSError` for a missing file."""
    if given.deadline is not None and not given.deadline > 0:
        raise ValueError(f"--deadline is a number above 0, not {given.deadline}")
    return Options(
        actions=read_actions(given.actions) if given.actions else (),
        timeout_s=given.timeout,
        capacity=given.capacity,
        failing_action=parse_action(given.failing_action) if given.failing_action else None,
        unbuildable_url=given.unbuildable_url,
        token=given.token,
        idle_timeout_s=given.idle_timeout_s,
        stop_pid=given.stop_pid,
        ca_file=given.ca_file,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _PROGRAM,
        description="Check a running server against the OpenEnv wire contract (CONTRACT.md). "
        "`openenv validate` checks an environment's package and manifest; this command checks what "
        "its server sends.",
        epilog="Exit code: 0 if no check fails, 1 if one does, 2 if nothing, or not every MUST, "
        "could be checked.",
    )
    parser.add_argument("url", help="address of the server: http://host:port")
    parser.add_argument(
        "--actions",
        type=Path,
        metavar="FILE",
        help="actions to take, one JSON object per line [made from /schema]",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="checks known to fail, one id per line; one that passes is a failure",
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="ID", help="run only these checks")
    parser.add_argument("--strict", action="store_true", help="treat SHOULD like MUST")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds a reply may take [10]"
    )
    parser.add_argument(
        "--deadline",
        type=float,
        metavar="S",
        help=f"seconds that all checks together may take [{_DEADLINE_S:g}, and the idle timeout]",
    )
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help="certificates to trust, for HTTP and WebSockets [SSL_CERT_FILE]",
    )
    parser.add_argument(
        "--capacity",
        type=int,
        metavar="N",
        help="how many sessions the server holds; a check opens them all",
    )
    parser.add_argument(
        "--failing-action", metavar="JSON", help="an action at which the environment raises"
    )
    parser.add_argument(
        "--unbuildable-url",
        metavar="URL",
        help="address at which the server serves an environment whose constructor raises",
    )
    parser.add_argument("--token", help="the server's bearer token")
    parser.add_argument(
        "--idle-timeout-s",
        type=float,
        metavar="S",
        help="the server's idle timeout; a check waits that long",
    )
    parser.add_argument(
        "--stop-pid", type=int, metavar="PID", help="the server's process; the last check stops it"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the results as JSON; - prints them instead of the table",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write them as JUnit XML")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
