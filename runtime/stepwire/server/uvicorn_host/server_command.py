# SPDX-License-Identifier: BSD-3-Clause
"""Which environment the command `server` serves where several have a command of that name."""

import re
import sys
from importlib import metadata
from pathlib import Path


def server_command_of_dependent(application: str) -> metadata.EntryPoint | None:
    """The `server` command of the installed environment that depends on this one, if any.

    Each environment installs a command of that name over the others'. In the project of an
    environment that depends on another, it is a matter of luck which file is there, so the command
    hands over to the dependent. Between unrelated environments it warns and serves its own.
    """
    if Path(sys.argv[0]).stem != "server":
        return None
    commands = _server_commands()
    package = application.partition(".")[0]
    own = {name for name, (_, entry) in commands.items() if _package(entry) == package}
    others = {name: entry for name, (_, entry) in commands.items() if name not in own}
    dependents = [name for name in others if own & commands[name][0]]
    if len(dependents) == 1:
        return others[dependents[0]]
    required = set().union(*(commands[name][0] for name in own))
    for name in sorted(set(others) - required):
        module = others[name].value.partition(":")[0]
        print(
            f"server: serving {package}. {name} has a command `server` as well: "
            f"`python -m {module}` serves it",
            file=sys.stderr,
        )
    return None


def _server_commands() -> dict[str, tuple[set[str], metadata.EntryPoint]]:
    """What each installed distribution with a command `server` requires, and that command."""
    return {
        _normalized(distribution.name): (
            {_normalized(requirement) for requirement in distribution.requires or ()},
            entry,
        )
        for distribution in metadata.distributions()
        for entry in distribution.entry_points
        if (entry.group, entry.name) == ("console_scripts", "server")
    }


def _normalized(requirement: str) -> str:
    """The name that `requirement` starts with, as package indexes compare names."""
    name = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def _package(entry: metadata.EntryPoint) -> str:
    return entry.value.partition(".")[0]
