# SPDX-License-Identifier: BSD-3-Clause
"""`docs/capacity.md`: its figures are those of the committed runs and of the code."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from document import ROOT, Document

page = Document("docs/capacity.md")
_PROSE = " ".join(page.text.split())
_FIGURES = json.loads((ROOT / "benchmarks" / "capacity.json").read_text("utf-8"))
_COSTS = _FIGURES["costs"]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import fleet

    yield fleet
    for name in ("fleet", "capacity", "lines"):
        del sys.modules[name]


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


def test_the_tables_are_those_of_the_simulation_and_of_real_runs() -> None:
    rows: dict[str, list[str]] = {}
    for run in _FIGURES["simulated"]:
        back = f"{run['p99_s']:.1f} s" if run["p99_s"] else f"{run['open']:.0%} back"
        rows.setdefault(run["fault"], []).append(f"{run['machines']}: {back}")
    for run in _FIGURES["simulated"][-len(rows) :]:
        rows[run["fault"]].append(f"{run['attempts']:.1f}")
    assert page.table("Faults, simulated") == [[name, *cells] for name, cells in rows.items()]
    real = [
        [
            f"{run['sessions']:,} {'in a pool' if run['clients'] == 'pool' else 'alone'}",
            f"{run['timeout_s']:g}",
            f"{run['down_s']:g}",
            f"{run['share']:.2f}",
            f"{run['all_s']:.1f}",
            f"{model['all_s']:.1f}",
            f"{run['attempts']:.1f}" if "attempts" in run else "",
            f"{model['attempts']:.1f}",
        ]
        for run, model in zip(_FIGURES["reconnects"], _FIGURES["modelled"], strict=True)
    ]
    assert page.table("Where the model is wrong") == real


def test_the_simulation_gives_what_is_committed(fleet: Any) -> None:
    (row,) = (
        row
        for row in _FIGURES["simulated"]
        if (row["sessions"], row["fault"]) == (100_000, "machine lost")
    )
    assert fleet.simulate(100_000, "machine lost", _COSTS) == row
    drawn = fleet.picture(_FIGURES["simulated"], _COSTS)
    assert drawn == (ROOT / "docs" / "capacity.svg").read_text("utf-8")


def test_the_time_to_reconnect_is_that_of_the_formula(fleet: Any) -> None:
    machine, load = fleet.Machine(cores=4), fleet.Load(4_000, 0)
    planned = fleet.plan(load, machine, _COSTS)
    simulated = fleet.Fleet(load, machine, 2, _COSTS, fleet.Clients(size=0, timeout_s=60))
    simulated.env.process(fleet.all_cut(simulated, 0))
    simulated.env.run(until=60)
    assert sum(size for _, size in simulated.waits) == simulated.attempts == load.sessions
    longest = max(wait for wait, _ in simulated.waits)
    assert longest == pytest.approx(planned.by_reconnect * fleet.CONNECT_TIMEOUT_S / 2, rel=0.01)


test_blocks = page.test_the_other_blocks()
