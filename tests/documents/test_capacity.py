# SPDX-License-Identifier: BSD-3-Clause
"""`docs/capacity.md`: its figures are those of the committed measurements and of the code."""

import json

from document import ROOT, Document

page = Document("docs/capacity.md")
_PROSE = " ".join(page.text.split())
_FIGURES = json.loads((ROOT / "benchmarks" / "capacity.json").read_text("utf-8"))
_COSTS = _FIGURES["costs"]


def test_the_costs_are_the_measured_ones() -> None:
    keys = ("step_us", "open_us", "close_us", "abandoned_us", "session_kb", "worker_mb")
    columns = ("", "blocking_", "proxy_")
    rows = [[f"{_COSTS.get(column + key, '')}" for column in columns] for key in keys]
    assert [row[1:] for row in page.table("The formula", 2)] == rows
    assert all(part in _PROSE for part in _FIGURES["machine"].values())


def test_the_example_is_calculated_with_these_costs() -> None:
    opening_s = 50_000 * (_COSTS["open_us"] + 500) / 1e6
    for line in (
        f"100,000 × ({_COSTS['step_us']} + 500) µs is {0.1 * (_COSTS['step_us'] + 500):.1f} cores",
        f"50,000 × ({_COSTS['session_kb']} + 200) KB is",
        f"50,000 × ({_COSTS['open_us']} + 500) µs is {opening_s:.0f} s of CPU",
        f"100,000 × {_COSTS['proxy_step_us']} µs",
        f"as long as {(_COSTS['open_us'] + _COSTS['close_us']) / _COSTS['step_us']:.0f} steps",
    ):
        assert line in _PROSE
    printed = page.blocks["An example, 1"].prints
    assert printed is not None
    for line in printed.splitlines()[:3]:
        assert f"which is {line.split()[-1]} machines" in _PROSE


test_blocks = page.test_the_other_blocks()
