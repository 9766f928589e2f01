# SPDX-License-Identifier: BSD-3-Clause
"""`Document`: a Markdown file whose code blocks are run by tests.

page = Document("docs/client.md")

@page.tests("Starting a server, 2")        a block with a test of its own
def test_…

test_blocks = page.test_the_other_blocks() all others run as printed, and print what the page says

A block is named by the heading above it and its place there. A block of text or JSON that follows
"prints" is what the block before it prints.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS = "http://localhost:8000"
"""Where a reader's server runs; tests put the address of theirs in its place."""

_PART = re.compile(
    r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_PRINTS = re.compile(r"\s*(It )?prints\b[^\n]*\s*")


@dataclass
class Block:
    """A fenced code block; `prints` is what it prints, where the page says so."""

    language: str
    code: str
    prints: str | None = None

    def require_printed(self, printed: str) -> None:
        if self.prints is not None and self.prints.startswith("{\n"):
            assert json.loads(printed) == json.loads(self.prints)
        elif self.prints is not None:
            assert printed == self.prints


class Document:
    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text("utf-8")
        self.blocks = dict(_blocks(self.text))
        self._tested: set[str] = set()

    def code(self, name: str) -> str:
        return self.blocks[name].code

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next one of any level."""
        return re.split(
            r"^#+ ", self.text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE
        )[0]

    def table(self, heading: str, place: int = 1) -> list[list[str]]:
        """The cells of a table below `heading`, without its head; `place` counts from 1."""
        found = re.findall(r"^(?:\|.*\n)+", self.section(heading), re.MULTILINE)[place - 1]
        rows = [row.strip("|").split("|") for row in found.splitlines()]
        return [[cell.strip() for cell in row] for row in rows[2:]]

    def tests(self, *names: str) -> Callable[[Any], Any]:
        """Mark a test as the one of these blocks."""
        assert set(names) <= set(self.blocks), f"{self.path} has only the blocks {[*self.blocks]}"
        self._tested.update(names)
        return lambda test: test

    def test_the_other_blocks(self, slow: Collection[str] = ()) -> Any:
        """A test of each block that has no test of its own yet; `None` where all have one."""
        names = [
            pytest.param(name, marks=pytest.mark.slow if name in slow else ())
            for name in self.blocks
            if name not in self._tested
        ]

        @pytest.mark.parametrize("name", names)
        def test(name: str, run_block: Callable[[Block], str]) -> None:
            block = self.blocks[name]
            block.require_printed(run_block(block))

        return test if names else None


def _blocks(text: str) -> Iterator[tuple[str, Block]]:
    heading, place, end = "", 0, 0
    last: Block | None = None
    for part in _PART.finditer(text):
        between, end = text[end : part.start()], part.end()
        if part["heading"]:
            heading, place, last = part["heading"], 0, None
        elif last and part["language"] in ("text", "json") and _PRINTS.fullmatch(between):
            last.prints = part["code"]
        else:
            place += 1
            last = Block(part["language"], part["code"])
            yield f"{heading}, {place}", last
