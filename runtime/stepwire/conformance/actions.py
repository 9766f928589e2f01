# SPDX-License-Identifier: BSD-3-Clause
"""Actions to take: read from a file, or made up from a JSON Schema.

Those made up are always the same, and enough for an environment to take a step. What a schema
cannot say (a legal move, an existing tool) has to be in a file.
"""

import json
from pathlib import Path
from typing import Any

from stepwire.protocol.examples import example_of


def read_actions(path: Path) -> list[dict[str, Any]]:
    """One JSON object a line; raises `ValueError` for anything else, and where there is none."""
    actions = [parse_action(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not actions:
        raise ValueError(f"{path} has no actions")
    return actions


def parse_action(text: str) -> dict[str, Any]:
    """Raises `ValueError` for what is no JSON object."""
    action = json.loads(text)
    if not isinstance(action, dict):
        raise ValueError(f"An action is a JSON object, not {text[:80]}")  # noqa: TRY004
    return action


def example_actions(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Three actions that `schema`, the schema of an object, allows."""
    examples = [example_of(schema, number) for number in range(3)]
    return [example if isinstance(example, dict) else {} for example in examples]
