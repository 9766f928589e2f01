# SPDX-License-Identifier: BSD-3-Clause
"""Actions for an environment: read from a file, or made from a JSON Schema.

Actions from a schema are the same every time. Rules that a schema does not express, such as the
length of a list, are found by trying; others, such as a legal move, need a file.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stepwire.protocol.examples import NoExample, example_of

_DIFFERENT = 3
_LENGTHS = (*range(1, 25), 28, 32, 38, 48, 56, 64)


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


def example_actions(
    schema: dict[str, Any], *, optional: bool = False, length: int = 0
) -> list[dict[str, Any]]:
    """Three actions that `schema`, the schema of an object, allows; raises `NoExample`."""
    examples = [
        example_of(schema, number, optional=optional, length=length) for number in range(_DIFFERENT)
    ]
    return [example if isinstance(example, dict) else {} for example in examples]


def accepted_actions(
    schema: dict[str, Any], refusal: Callable[[dict[str, Any]], str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Example actions that the environment accepts, and the refusals of those tried before.

    `refusal` tries an action; its result is empty when the environment accepts it. Raises
    `NoExample` when the schema allows no action at all.
    """
    refused: list[str] = []
    tried: list[dict[str, Any]] = []
    for actions in _candidates(schema):
        accepted = []
        for action in actions:
            if action in tried:
                continue
            tried.append(action)
            if reason := refusal(action):
                refused.append(f"{json.dumps(action)[:200]}: {reason}")
                break
            accepted.append(action)
        if accepted:
            return accepted, refused
    return [], refused


def _candidates(schema: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Lists of similar actions: the shortest first, then with all fields and longer lists."""
    yield example_actions(schema)
    for number in range(_DIFFERENT):
        yield example_actions(schema)[number:]
    for optional in (True, False):
        for length in (0, *_LENGTHS):
            try:
                yield example_actions(schema, optional=optional, length=length)
            except NoExample:
                return
