# SPDX-License-Identifier: BSD-3-Clause
"""The version and the rows of `CONTRACT.md`; checks and vectors refer to rows by id."""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_DOCUMENT = Path(__file__).with_name("CONTRACT.md")
GENERATIONS = ("0.3.0", "0.10.0")


class Level(str, Enum):
    MUST = "MUST"
    SHOULD = "SHOULD"


@dataclass(frozen=True)
class Row:
    """One line of the contract."""

    id: str
    level: Level
    text: str
    stock: dict[str, str]
    """What the framework's servers do, by version: `✓`, `own`, or how they deviate."""
    asks: str
    """The checks of the row, each with what it asks of a server."""


def _rows(document: str) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for line in re.findall(r"^\| ([A-Z]+-\d+ \|.*) \|$", document, re.MULTILINE):
        row_id, level, text, *stock, asks = (cell.strip() for cell in line.split(" | "))
        if row_id in rows:
            raise ValueError(f"The contract has two rows {row_id}")
        found = dict(zip(GENERATIONS, stock, strict=True))
        rows[row_id] = Row(row_id, Level(level), text, found, asks)
    return rows


def _version(document: str) -> str:
    found = re.search(r"^Version (\d+\.\d+)\.", document, re.MULTILINE)
    assert found is not None, "CONTRACT.md has no version"
    return found[1]


_TEXT = _DOCUMENT.read_text(encoding="utf-8")
VERSION = _version(_TEXT)
ROWS = _rows(_TEXT)
