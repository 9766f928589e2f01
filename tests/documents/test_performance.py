# SPDX-License-Identifier: BSD-3-Clause
"""`docs/performance.md`: its figures are those of the committed runs, and keep their targets."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from document import ROOT, Document
from stepwire.new import create_environment

page = Document("docs/performance.md")
_BENCHMARKS = ROOT / "benchmarks"
_PROSE = " ".join(page.text.split())


def test_every_command_is_that_of_a_benchmark_that_is_there() -> None:
    commands = re.findall(r"`uv run [\w -]*?python (\S+)` \(\[source\]\(\.\./(\S+)\)\)", _PROSE)
    assert len(commands) == 7
    for program, source in commands:
        assert program == source
        assert (ROOT / program).exists()


def test_the_clients_figures_keep_their_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_BENCHMARKS)
    figures = runpy.run_path(str(_BENCHMARKS / "clients.py"))["_FIGURES"]
    targets = {figure.label: figure.target for figure in figures}
    rows = page.table("The client")
    assert [row[0] for row in rows] == list(targets)
    for label, stock, ours, ratio in rows:
        assert float(ours) / float(stock) == pytest.approx(float(ratio), abs=0.01)
        relation, target = targets[label].split()
        assert float(ratio) <= float(target) if relation == "≤" else float(ratio) >= float(target)


def test_the_servers_figures_are_those_of_the_committed_runs(tmp_path: Path) -> None:
    picture = tmp_path / "bars.svg"
    options = ("--read", _BENCHMARKS / "servers.json", "--markdown", "--svg", picture)
    done = subprocess.run(
        [sys.executable, "-X", "utf8", _BENCHMARKS / "servers.py", *options],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout in page.text
    assert picture.read_text("utf-8") == (_BENCHMARKS / "servers.svg").read_text("utf-8")
    figures = {row[0]: row[1:] for row in page.table("The server")}
    to_stock, to_c = map(float, figures["CPU per step, 32 sessions (µs)"][-2:])
    assert to_stock <= 0.25
    assert to_c <= 1.4
    rounds = json.loads((_BENCHMARKS / "servers.json").read_text("utf-8"))["rounds"]
    for other, form in (
        ("in C, same work", "{:.2f} to {:.2f} × its CPU"),
        ("stock", "{:.2f} to {:.2f} × the stock server's"),
    ):
        ratios = [one["ours"]["cpu_us 32"] / one[other]["cpu_us 32"] for one in rounds]
        assert form.format(min(ratios), max(ratios)) in _PROSE
    assert float(figures["start-up, CPU (s)"][-2]) <= 0.45
    assert float(figures["RSS per session (KB)"][1]) <= 32
    assert set(figures["steps lost"][:2]) == {"0"}


def test_the_figures_at_full_size_are_those_of_the_committed_run() -> None:
    full = json.loads((_BENCHMARKS / "servers-full.json").read_text("utf-8"))
    (sizes,) = full["rounds"]
    stock, ours, soak = sizes["stock"], sizes["ours"], full["soak"]
    held = (
        f"held {ours['sessions']:,.0f} sessions, each reset and stepped, {ours['lost']:.0f} steps"
        f" lost, {ours['rss_kb']:.1f} KB each; the stock server did so with"
        f" {stock['sessions'] * stock['threads']:,.0f} threads, {stock['rss_kb']:.1f} KB each."
    )
    assert held in _PROSE
    assert (ours["sessions"], ours["lost"]) == (16384, 0)
    grown = f"{soak['rss_growth_kb']:,.0f} KB more memory after the last {soak['steps']:,.0f}"
    assert f"A soak of 1,000,000 steps: {soak['lost']:.0f} lost, {grown}." in _PROSE


def test_the_scaling_figures_are_those_of_the_committed_run() -> None:
    measured = json.loads((_BENCHMARKS / "scaling.json").read_text("utf-8"))
    rows = [
        [
            f"{row['sessions']:,}",
            f"{row['success']:.1%}",
            *(f"{row[key]:.2f}" for key in ("p50_s", "p99_s")),
            *(f"{row[key]:.0f}" for key in ("rss_mb", "threads")),
        ]
        for row in measured
    ]
    assert page.table("Many sessions at once") == rows


def test_the_figures_of_a_new_environment_are_those_of_what_is_written(tmp_path: Path) -> None:
    package = create_environment("maze", tmp_path)
    texts = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".whl"]
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in texts)
    rows = page.table("A new environment")
    for _, *figures in rows[2:]:
        assert int(figures[0]) == len(texts)
        assert int(figures[1]) == pytest.approx(lines, rel=0.1)
        assert float(figures[-1]) <= 0.25 * min(float(row[-1]) for row in rows[:2])


test_blocks = page.test_the_other_blocks()
