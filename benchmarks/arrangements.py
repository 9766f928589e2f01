# SPDX-License-Identifier: BSD-3-Clause
"""One worker, four workers, and four servers behind HAProxy: how they fill, step and break.

    uv run --group benchmark python benchmarks/arrangements.py

Each has 200 places, and 200 sessions are opened, 64 at a time. Then they step, and the process with
the most sessions is killed. It needs Linux and HAProxy. All processes share this machine's cores.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop
from load import Load, allow_many_files
from rich.console import Console
from rich.table import Table
from serving import workers_of

from stepwire.deploy.haproxy import Options, configuration
from stepwire.testing.servers import (
    Server,
    reserved_port,
    running_server,
    serving_command,
    wait_until_healthy,
)

_PLACES = 200
_STEPS = 60_000
_COLUMNS = ("refused", "steps/s", "p50 (ms)", "p99 (ms)", "lost on kill", "on the killed process")


def main() -> None:
    allow_many_files()
    table = Table("Arrangement", *_COLUMNS)
    for name, servers, workers in (
        ("one worker", 1, 1),
        ("four workers", 1, 4),
        ("HAProxy, four servers", 4, 1),
    ):
        with serving(servers, workers) as (port, processes):
            table.add_row(name, *uvloop.run(_measure(port, processes)))
    Console().print(table, f"{os.cpu_count()} cores, CPython {sys.version}", sep="\n")


async def _measure(port: int, processes: list[int]) -> list[str]:
    load = Load(port, processes[0], '{"message":"Hello, World!"}')
    await asyncio.sleep(1)  # the connections that asked for `/health` close
    before = {process: _sockets(process) for process in processes}
    refused = (await load.open(_PLACES))["refused"]
    held = {process: _sockets(process) - before[process] for process in processes}
    figures = await load.step(_STEPS)
    assert not figures["lost"]
    killed = max(held, key=lambda process: held[process])
    os.kill(killed, signal.SIGKILL)
    await asyncio.sleep(3)
    latencies = [f"{figures[which] / 1000:.1f}" for which in ("p50_us", "p99_us")]
    lost = load.ended()
    return [f"{refused:.0f}", f"{figures['rate']:,.0f}", *latencies, str(lost), str(held[killed])]


@contextmanager
def serving(servers: int, workers: int) -> Iterator[tuple[int, list[int]]]:
    """The port for clients, and the processes that have sessions."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        variables = {
            "MAX_CONCURRENT_ENVS": str(_PLACES // servers),
            "WORKERS": str(workers),
            "SECRET_KEY": "x" * 32,
            "LOG_LEVEL": "info",
        }
        started: list[Server] = []
        for _ in range(servers):
            port = running.enter_context(reserved_port())
            command = serving_command("echo_env.server.app", port)
            server = running_server(command, folder, port=port, env=variables)
            started.append(running.enter_context(server))
        if workers == 1:
            processes = [server.process.pid for server in started]
        else:
            processes = workers_of(started[0], workers)
        port = started[0].port
        if servers > 1:
            port = running.enter_context(reserved_port())
            _start_haproxy(running, folder, port, [server.port for server in started])
        yield port, processes


def _start_haproxy(running: ExitStack, folder: Path, port: int, behind: list[int]) -> None:
    addresses = [f"127.0.0.1:{each}" for each in behind]
    options = Options(addresses, _PLACES // len(behind), listen=f"127.0.0.1:{port}")
    (folder / "haproxy.cfg").write_text(configuration(options))
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    log = running.enter_context((folder / "haproxy.log").open("wb"))
    process = subprocess.Popen(
        [program or "haproxy", "-db", "-f", folder / "haproxy.cfg"], stderr=log
    )
    running.callback(process.wait)
    running.callback(process.terminate)
    wait_until_healthy(Server(port, process, folder / "haproxy.log"))


def _sockets(process: int) -> int:
    descriptors = Path(f"/proc/{process}/fd").iterdir()
    return sum(os.readlink(each).startswith("socket:") for each in descriptors)


if __name__ == "__main__":
    main()
