# SPDX-License-Identifier: BSD-3-Clause
"""CPU time of a step without and with metrics, for one worker and for four.

    uv run --group benchmark python benchmarks/metrics.py

Both servers run at the same time and take turns. Without the package `prometheus_client`, a server
does not count; here it is hidden from one of them. It needs Linux.
"""

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop
from load import Load
from rich.console import Console
from rich.table import Table
from serving import process_clock, workers_of

from stepwire.testing.servers import reserved_port, running_server, serving_command

_SESSIONS, _STEPS, _TURNS, _ROUNDS = 32, 6_400, 12, 5
_HIDE = "import sys\nsys.modules['prometheus_client'] = None\n"


def main() -> None:
    table = Table("Workers", "Off (µs)", "On (µs)", "On - off (µs)", "Rounds")
    for workers in (1, 4):
        rounds = [_round(workers) for _ in range(_ROUNDS)]
        more = [on - off for off, on in rounds]
        figures = [statistics.median(each) for each in (*zip(*rounds, strict=True), more)]
        spread = " ".join(f"{each:.2f}" for each in more)
        table.add_row(str(workers), *(f"{each:.2f}" for each in figures), spread)
    Console().print(table, f"{os.cpu_count()} cores, CPython {sys.version}", sep="\n")


def _round(workers: int) -> tuple[float, float]:
    """The least CPU time of a step over all turns, without and with metrics."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        (folder / "hidden").mkdir()
        (folder / "hidden" / "sitecustomize.py").write_text(_HIDE)
        loads = []
        for hidden in (True, False):
            port = running.enter_context(reserved_port())
            env = {"WORKERS": str(workers), "LOG_LEVEL": "info"}
            if hidden:
                env["PYTHONPATH"] = str(folder / "hidden")
            command = serving_command("echo_env.server.app", port)
            server = running.enter_context(running_server(command, folder, port=port, env=env))
            processes = [server.process.pid] if workers == 1 else workers_of(server, workers)
            load = Load(port, processes[0], '{"message":"Hello, World!"}')
            loads.append((load, [process_clock(each) for each in processes]))
        return uvloop.run(_measure(loads))


async def _measure(loads: list[tuple[Load, list[int]]]) -> tuple[float, float]:
    least = [float("inf")] * 2
    for load, _ in loads:
        assert not (await load.open(_SESSIONS))["refused"]
        await load.step(_STEPS)
    for turn in range(_TURNS):
        for index in (0, 1) if turn % 2 else (1, 0):
            load, clocks = loads[index]
            before = sum(map(time.clock_gettime, clocks))
            await load.step(_STEPS)
            taken = sum(map(time.clock_gettime, clocks)) - before
            least[index] = min(least[index], taken / _STEPS * 1e6)
    return least[0], least[1]


if __name__ == "__main__":
    main()
