# SPDX-License-Identifier: BSD-3-Clause
"""`python -m stepwire.conformance URL`: does the server at URL speak OpenEnv?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from stepwire.conformance.actions import parse_action, read_actions
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.report import as_json, as_junit, print_table
from stepwire.conformance.runner import Baseline, run, selected
from stepwire.conformance.server_under_test import Options, ServerUnderTest, ServerUnreachable

_NOTHING_WRONG, _SOMETHING_WRONG, _NOT_CHECKED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing is wrong. 1: something is. 2: nothing could be checked."""
    asked = _parser().parse_args(arguments)
    try:
        options = _options(asked)
        baseline = Baseline.read(asked.baseline) if asked.baseline else Baseline()
        server = ServerUnderTest(asked.url, options)
    except (OSError, ValueError, ServerUnreachable) as error:
        print(f"conformance: error: {error}", file=sys.stderr)
        return _NOT_CHECKED
    checks = selected(options, asked.only)
    results = run(server, checks, baseline, strict=asked.strict)
    if asked.json == Path("-"):
        print(as_json(server.url, results))
    else:
        print_table(server.url, results, Console())
        if asked.json:
            asked.json.write_text(as_json(server.url, results), encoding="utf-8")
    if asked.junit:
        asked.junit.write_text(as_junit(server.url, results), encoding="utf-8")
    failed = any(result.verdict.is_failure for result in results)
    return _SOMETHING_WRONG if failed else _NOTHING_WRONG


def _options(asked: argparse.Namespace) -> Options:
    """Raises `ValueError` for what is no action or no check, `OSError` for a missing file."""
    unknown = sorted(set(asked.only) - set(CHECKS))
    if unknown:
        raise ValueError(f"There are no checks {', '.join(unknown)}")
    return Options(
        actions=read_actions(asked.actions) if asked.actions else (),
        timeout_s=asked.timeout,
        capacity=asked.capacity,
        failing_action=parse_action(asked.failing_action) if asked.failing_action else None,
        unbuildable_url=asked.unbuildable_url,
        token=asked.token,
        idle_timeout_s=asked.idle_timeout_s,
        stop_pid=asked.stop_pid,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m stepwire.conformance",
        description="Check a running server against the OpenEnv wire contract (CONTRACT.md). "
        "`openenv validate` looks at an environment's package and manifest; this looks at what its "
        "server says.",
        epilog="Exit code: 0 when nothing is wrong, 1 when something is, 2 when nothing could be "
        "checked.",
    )
    parser.add_argument("url", help="http://host:port of the server")
    parser.add_argument(
        "--actions",
        type=Path,
        metavar="FILE",
        help="actions to take, one JSON object a line; otherwise they are made up from /schema",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="checks known to fail, one id a line; one of them that passes is a failure",
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="ID", help="ask only these checks")
    parser.add_argument("--strict", action="store_true", help="what should be, must be")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds a reply may take [10]"
    )
    parser.add_argument(
        "--capacity", type=int, metavar="N", help="how many sessions the server holds: fill it"
    )
    parser.add_argument(
        "--failing-action", metavar="JSON", help="an action at which the environment raises"
    )
    parser.add_argument(
        "--unbuildable-url",
        metavar="URL",
        help="where the server serves an environment whose constructor raises",
    )
    parser.add_argument("--token", help="what the server asks for; sent as a bearer token")
    parser.add_argument(
        "--idle-timeout-s", type=float, metavar="S", help="how long a session may be idle: wait"
    )
    parser.add_argument(
        "--stop-pid", type=int, metavar="PID", help="the server's process, to be stopped at the end"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results as JSON; - for stdout alone"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write them as JUnit XML")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
