# SPDX-License-Identifier: BSD-3-Clause
"""Actions for an environment, from a file or generated from a JSON Schema.

Generated actions are the same every time and enough for a step. Rules that a schema cannot express
(a legal move, an existing tool) need a file.
"""

import json
from pathlib import Path
from typing import Any

from stepwire.protocol.examples import example_of


def read_actions(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object per line; raises `ValueError` for another value or an empty file."""
    actions = [parse_action(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not actions:
        raise ValueError(f"{path} has no actions")
    return actions


def parse_action(text: str) -> dict[str, Any]:
    """Parse a JSON object; raises `ValueError` for anything else."""
    action = json.loads(text)
    if not isinstance(action, dict):
        raise ValueError(f"An action is a JSON object, not {text[:80]}")  # noqa: TRY004
    return action


def example_actions(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Three actions that `schema`, the schema of an object, allows."""
    examples = [example_of(schema, number) for number in range(3)]
    return [example if isinstance(example, dict) else {} for example in examples]
