# SPDX-License-Identifier: BSD-3-Clause
"""Our server beside the stock template's: CPU per step, latency, memory, sessions, start-up.

    uv run --group benchmark python benchmarks/servers.py [--rounds 5] [--json FILE] [--svg FILE]

The full sizes, and the README's table and picture of earlier figures:

    uv run --group benchmark python benchmarks/servers.py --rounds 1 --sessions 16384 --soak 1000000
    uv run python benchmarks/servers.py --read benchmarks/servers.json --markdown --svg FILE

A round starts all servers anew: the stock one (what `openenv init` of the installed framework
writes), ours, ours with uvicorn's own WebSocket protocol, and the two in C of
`reference_servers.py`. Then they take turns, in short slices, at the same load from a process of
its own (`load.py`). The table shows medians; on a shared machine only ratios mean something. Linux
only.
"""

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from bars import draw_bars
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from serving import process_clock, process_size, write_stock_template

_FIRST_PORT = 8620
_HERE = Path(__file__).parent
_UVICORN = ["-m", "uvicorn", "--log-level", "critical"]
_SERVERS = {
    "stock": [*_UVICORN, "server.app:app", "--port"],
    "ours": ["-m", "echo_env.server.app", "--log-level", "critical", "--port"],
    "ours, uvicorn's protocol": [
        *(*_UVICORN, "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"),
        *("echo_env.server.app:app", "--port"),
    ],
    "in C, same work": [str(_HERE / "reference_servers.py"), "environment"],
    "in C, bare echo": [str(_HERE / "reference_servers.py"), "echo"],
}
_COMPARED = ("stock", "in C, same work")
_STEPS = {1: 1000, 32: 5000, 256: 5000}  # of a slice, by sessions
_SLICES = 6  # of a round
_SOAKED = 32


class Row(NamedTuple):
    """One row of the table: a figure of every server."""

    label: str
    name: str
    places: int
    target: str = ""


_SIZES = {n: f"{n} sessions" if n > 1 else "1 session" for n in _STEPS}
_CPU_TARGET = "≤ 0.25 and 1.4 at 32"
_ROWS = [
    *(Row(f"CPU per step, {of} (µs)", f"cpu_us {n}", 1, _CPU_TARGET) for n, of in _SIZES.items()),
    *(Row(f"steps/s, {of}", f"rate {n}", 0) for n, of in _SIZES.items()),
    *(Row(f"p50, {of} (µs)", f"p50_us {n}", 0) for n, of in _SIZES.items()),
    *(Row(f"p99, {of} (µs)", f"p99_us {n}", 0) for n, of in _SIZES.items()),
    Row("sessions reached", "sessions", 0),
    Row("RSS per session (KB)", "rss_kb", 1, "≤ 32 KB"),
    Row("threads per session", "threads", 2, "0"),
    Row("start-up, CPU (s)", "start_cpu_s", 2, "≤ 0.45"),
    Row("start-up, RSS (MB)", "start_rss_mb", 0),
    Row("start-up, time (s)", "start_s", 1),
    Row("steps lost", "lost", 0, "0"),
]
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=1024, help="opened, reset and stepped")
    parser.add_argument("--soak", type=int, default=0, help="steps of our server, at the end")
    parser.add_argument("--servers", nargs="+", default=list(_SERVERS), choices=list(_SERVERS))
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parser.add_argument("--svg", type=Path, help="draw the medians here")
    parser.add_argument("--read", type=Path, help="take the figures from here, measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    results = json.loads(options.read.read_text()) if options.read else _run(options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False))
    if options.markdown:
        print("\n".join(_markdown(results)))
    else:
        _print(results)
    if options.svg and results["rounds"]:
        _draw(results, options.svg)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    results: dict[str, Any] = {"machine": _machine(), "sessions": options.sessions}
    names: list[str] = options.servers
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        stock = write_stock_template(Path(folder), sessions=options.sessions + 1)
        turns = options.rounds * len(names) * (2 + _SLICES * len(_STEPS))
        task = progress.add_task("", total=turns)
        results["rounds"] = []
        for number in range(1, options.rounds + 1):

            def report(what: str, number: int = number) -> None:
                progress.update(task, advance=1, description=f"round {number}: {what}")

            results["rounds"].append(_measure(names, stock, options.sessions, report))
        if options.soak:
            progress.add_task(f"soak, {options.soak} steps", total=None)
            with _started("ours", stock, _SOAKED) as server:
                results["soak"] = server.load(_SOAKED, options.soak)
    return results


def _machine() -> dict[str, str]:
    cpu = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    versions = {name: metadata.version(name) for name in ("openenv-core", "uvicorn", "pydantic")}
    return {
        "processor": f"{len(cpu)} × {cpu[0]}" if cpu else platform.machine(),
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        **versions,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


class _Server:
    """A server process, and its figures so far."""

    def __init__(self, port: int, pid: int, figures: Figures) -> None:
        self.figures = figures
        self._address = ("--port", str(port), "--pid", str(pid))

    def load(self, sessions: int, steps: int) -> Figures:
        size = ("--sessions", str(sessions), "--steps", str(steps))
        command = [sys.executable, str(_HERE / "load.py"), *self._address, *size]
        figures: Figures = json.loads(subprocess.check_output(command, text=True))
        return figures


def _measure(
    names: list[str], stock: Path, sessions: int, report: Callable[[str], None]
) -> dict[str, Figures]:
    """A round: the figures of each server."""
    with ExitStack() as stack:
        servers: dict[str, _Server] = {}
        for name in names:
            report(f"{name}, start")
            servers[name] = stack.enter_context(_started(name, stock, sessions))
        for name, server in servers.items():
            report(f"{name}, {sessions} sessions")
            opened = server.load(sessions, 2 * sessions)
            for key in ("sessions", "rss_kb", "threads", "lost"):
                server.figures[key] = opened[key]
        slices: dict[tuple[str, int], list[Figures]] = defaultdict(list)
        for number, steps in list(_STEPS.items()) * _SLICES:
            for name, server in servers.items():
                report(f"{name}, {steps} steps of {number}")
                slices[name, number].append(server.load(number, steps))
        for (name, number), measured in slices.items():
            figures = servers[name].figures
            figures["lost"] += sum(one["lost"] for one in measured)
            for key in ("cpu_us", "rate", "p50_us", "p99_us"):
                figures[f"{key} {number}"] = statistics.median(one[key] for one in measured)
    return {name: server.figures for name, server in servers.items()}


@contextmanager
def _started(name: str, stock: Path, sessions: int) -> Iterator[_Server]:
    port = _FIRST_PORT + list(_SERVERS).index(name)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *_SERVERS[name], str(port)],
        cwd=stock if name == "stock" else None,
        env=os.environ | {"MAX_CONCURRENT_ENVS": str(sessions + 1)},
        # The stock server logs a traceback for each client that leaves without a word.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _listens(port):
            if process.poll() is not None:
                raise SystemExit(f"the server did not start: {name}")
            time.sleep(0.02)
        figures = {
            "start_s": time.perf_counter() - began,
            "start_cpu_s": time.clock_gettime(process_clock(process.pid)),
            "start_rss_mb": process_size(process.pid)[0] / 1024,
        }
        yield _Server(port, process.pid, figures)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # the stock server may wait for its threads
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _median(results: dict[str, Any], server: str, name: str) -> float:
    return statistics.median(one[server][name] for one in results["rounds"])


def _cells(results: dict[str, Any]) -> Iterator[list[str]]:
    """The table, its head first."""
    names = list(results["rounds"][0])
    compared = [name for name in _COMPARED if {"ours", name} <= set(names)]
    yield ["", *names, *(f"ours / {name}" for name in compared)]
    for row in _ROWS:
        figures = {name: _median(results, name, row.name) for name in names}
        ours = figures.get("ours", 0)
        cells = [f"{figure:,.{row.places}f}" for figure in figures.values()]
        ratios = [f"{ours / figures[name]:.2f}" if figures[name] else "" for name in compared]
        yield [row.label, *cells, *ratios]


def _markdown(results: dict[str, Any]) -> list[str]:
    head, *rows = ("| " + " | ".join(cells) + " |" for cells in _cells(results))
    return [head, "|---|" + "---:|" * (head.count("|") - 2), *rows]


def _print(results: dict[str, Any]) -> None:
    console = Console(width=140)
    console.print(results["machine"])
    if results["rounds"]:
        head, *rows = _cells(results)
        table = Table(*head, "target", title="Servers, medians")
        for row, cells in zip(_ROWS, rows, strict=True):
            table.add_row(*cells, row.target)
        console.print(table)
    if "soak" in results:
        soak = results["soak"]
        console.print(
            f"soak: {soak['steps']:,.0f} steps, {soak['lost']:.0f} lost, "
            f"RSS {soak['rss_growth_kb']:+.0f} KB"
        )


def _draw(results: dict[str, Any], file: Path) -> None:
    names = results["rounds"][0].keys()
    panels = {
        label: {name: _median(results, name, figure) for name in names}
        for label, figure in (
            ("CPU per step, 32 sessions (µs)", "cpu_us 32"),
            ("Memory per session (KB)", "rss_kb"),
            ("CPU to start (s)", "start_cpu_s"),
        )
    }
    file.write_text(draw_bars(panels, highlighted="ours"))


if __name__ == "__main__":
    main()
