# SPDX-License-Identifier: BSD-3-Clause
"""`python -m stepwire.new`: the command line."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from stepwire.new.names import NewEnvironmentError
from stepwire.new.package import FRAMEWORKS, create_environment
from stepwire.new.takeover import take_over, undo

_PROGRAM = "python -m stepwire.new"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when it is done; 2, with one line on stderr, when nothing was written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _refuse_unused(parser, options)
    try:
        if options.undo is not None:
            print(undo(options.undo))
        elif options.take is not None:
            print(take_over(options.take, write=options.write, runtime=options.runtime))
        else:
            _create(parser, options)
    except NewEnvironmentError as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _PROGRAM, description="Write the package of a new OpenEnv environment."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="in snake_case; may be a path")
    parser.add_argument(
        "directory",
        nargs="?",
        default=".",
        metavar="DIRECTORY",
        help="the folder in which the folder NAME is made; by default this one",
    )
    parser.add_argument(
        "--like",
        choices=FRAMEWORKS,
        help="the framework's distribution to depend on (default: openenv-core)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from-index",
        dest="runtime",
        action="store_const",
        const="index",
        default="wheel",
        help="take stepwire from the package index, rather than from a wheel in the folder",
    )
    source.add_argument(
        "--vendor",
        dest="runtime",
        action="store_const",
        const="vendor",
        help="copy stepwire into the package instead",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--from",
        dest="take",
        metavar="DIRECTORY",
        type=Path,
        help="show how a package of `openenv init` is served with stepwire instead",
    )
    existing.add_argument(
        "--undo", metavar="DIRECTORY", type=Path, help="undo what `--from … --write` has changed"
    )
    parser.add_argument("--write", action="store_true", help="with --from: make these changes")
    return parser


def _refuse_unused(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with an error for arguments that would have no effect."""
    if options.write and options.take is None:
        parser.error("--write needs --from")
    if (options.take or options.undo) and (options.name or options.like):
        parser.error("--from and --undo take no NAME and no --like")
    if options.undo and options.runtime != "wheel":
        parser.error("--undo takes no --from-index and no --vendor")


def _create(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    name = options.name
    if name is None:
        if not sys.stdin.isatty():
            parser.error("the name of the environment is missing")
        name = input("Name of the environment, in snake_case: ").strip()
    folder = create_environment(
        name,
        options.directory,
        like=options.like or "openenv-core",
        runtime=options.runtime,
    )
    print(_summary(folder))


def _summary(folder: Path) -> str:
    own = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    shown = [path for path in own if not path.startswith("stepwire/")]
    lines = [f"Made {folder}{os.sep}", *(f"  {path}" for path in shown)]
    if len(shown) < len(own):
        lines.append(f"  stepwire/ ({len(own) - len(shown)} files)")
    return "\n".join(
        [
            *lines,
            "",
            f"Go on with `cd {shlex.quote(str(folder))}`, and",
            "  uv run server                          serve it, with a page at http://localhost:8000/web",
            "  uv run pytest                          run its tests",
            "  uv lock && uv run openenv validate     check it for the framework",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
