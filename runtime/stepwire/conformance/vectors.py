# SPDX-License-Identifier: BSD-3-Clause
"""The conversations in `vectors/*.jsonl`, with the exact frames of both sides.

`CONTRACT.md` describes the fields of a line.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("vectors")
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Vector:
    """A conversation with a server, on one or more connections."""

    id: str
    contract: str
    rows: tuple[str, ...]
    server: str
    """`default`, or the name of a server with another configuration."""
    path: str = "/ws"
    headers: dict[str, str] = field(default_factory=dict)
    events: tuple[dict[str, Any], ...] = ()

    def as_line(self) -> str:
        """Its line in the file, without the newline."""
        fields = {key: value for key, value in vars(self).items() if value != {}}
        return json.dumps(fields)


def load(folder: Path = FOLDER) -> Iterator[Vector]:
    """All vectors, in the order of their files and lines."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            fields = json.loads(line)
            fields["rows"], fields["events"] = tuple(fields["rows"]), tuple(fields["events"])
            yield Vector(**fields)


def text_to_send(sent: Any, known: dict[str, str]) -> str:
    """The text of a `send` event, with its parts joined and its placeholders filled in."""
    parts = [sent] if isinstance(sent, str) else sent
    text = "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)
    return _PLACEHOLDER.sub(lambda found: known[found[1]], text)


def matches(expected: str, text: str, known: dict[str, str]) -> bool:
    """Whether `text` is as expected; adds the values of new placeholders to `known`."""
    pattern, position, named = "", 0, []
    for found in _PLACEHOLDER.finditer(expected):
        name = found[1]
        pattern += re.escape(expected[position : found.start()])
        if name in known:
            pattern += re.escape(known[name])
        elif name in named:
            pattern += f"(?P={name})"
        else:
            pattern += f"(?P<{name}>.+?)"
            named.append(name)
        position = found.end()
    found_all = re.fullmatch(pattern + re.escape(expected[position:]), text, re.DOTALL)
    if found_all is None:
        return False
    known.update(found_all.groupdict())
    return True
