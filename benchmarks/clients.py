# SPDX-License-Identifier: BSD-3-Clause
"""Our client beside the stock template's: CPU per step, latency, many sessions, import.

    uv run python benchmarks/clients.py [--rounds 5] [--steps 2000] [--json FILE]

The stock side is what `openenv init` of the installed framework writes, served by its own server.
Every measurement is a process of its own; the rounds interleave them, and the table shows medians
and their ratio to the stock client's. On a shared machine only the ratios mean something.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from serving import write_stock_template

_MESSAGE = "Hello, World!"
_SESSIONS = 64


class Figure(NamedTuple):
    """One row of the table: a figure of ours, beside the same figure of the stock client."""

    label: str
    name: str
    ours: str  # variant on server
    stock: str
    target: str


_FIGURES = [
    Figure("synchronous step, CPU (µs)", "cpu_us", "ours-sync ours", "stock-sync ours", "≤ 0.25"),
    Figure("asynchronous step, CPU (µs)", "cpu_us", "ours-async ours", "stock-async ours", "≤ 0.6"),
    Figure(
        "step and server, latency (µs)", "p50_us", "ours-sync ours", "stock-sync stock", "≤ 0.25"
    ),
    Figure(
        f"{_SESSIONS} sessions, steps/s", "rate", "ours-pool ours", "stock-threads ours", "≥ 10"
    ),
    Figure("import, CPU (s)", "cpu_s", "ours-import ours", "stock-import ours", "≤ 0.06"),
]

# What remains of the figures above without a client. The same frame is sent again and again, and
# the replies are not parsed.
_FLOORS = [
    Figure(
        "asynchronous, no client, CPU (µs)", "cpu_us", "bare-async ours", "stock-async ours", ""
    ),
    Figure(
        "no client and server, latency (µs)", "p50_us", "bare-sync ours", "stock-sync stock", ""
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="per session and measurement")
    parser.add_argument("--json", type=Path, help="write every figure of every round here")
    parser.add_argument("--measure", nargs=2, metavar=("VARIANT", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        variant, url = options.measure
        print(json.dumps(_VARIANTS[variant](url, options.steps)))
        return
    figures = _run_rounds(options.rounds, options.steps)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    _print_table(figures)


def _run_rounds(rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    """Every (variant, server) once a round; its figures of all rounds."""
    wanted = sorted({side for row in _FIGURES + _FLOORS for side in (row.ours, row.stock)})
    figures: dict[str, list[dict[str, float]]] = {side: [] for side in wanted}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_stock_template(folder)
        # The stock client is imported as the package `echo`, from the folder above it.
        environment = os.environ | {"PYTHONPATH": str(folder)}
        urls = {
            "ours": stack.enter_context(serving(["-m", "echo_env.server.app"], 8600, folder)),
            "stock": stack.enter_context(
                serving(["-m", "uvicorn", "server.app:app"], 8601, folder / "echo")
            ),
        }
        progress = stack.enter_context(Progress(transient=True))
        task = progress.add_task("measuring", total=rounds * len(wanted))
        for _ in range(rounds):
            for side in wanted:
                variant, server = side.split()
                progress.update(task, description=f"{variant} on {server}'s server")
                command = [sys.executable, __file__, "--steps", str(steps)]
                command += ["--measure", variant, urls[server]]
                output = subprocess.check_output(command, env=environment, text=True)
                figures[side].append(json.loads(output))
                progress.advance(task)
    return figures


@contextmanager
def serving(
    arguments: list[str], port: int, cwd: Path, environment: dict[str, str] | None = None
) -> Iterator[str]:
    """A server as a process of its own, until the block ends; its address."""
    import requests

    command = [sys.executable, *arguments, "--port", str(port), "--log-level", "warning"]
    # Our client drops its connection where the stock server wants a close frame; it logs that.
    variables = os.environ | (environment or {})
    server = subprocess.Popen(command, cwd=cwd, env=variables, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            try:
                requests.get(f"{url}/health", timeout=60)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def _timed(step: Callable[[], Any], steps: int) -> dict[str, float]:
    for _ in range(steps // 10):
        step()
    latencies = []
    cpu = time.process_time()
    for _ in range(steps):
        started = time.perf_counter()
        step()
        latencies.append(time.perf_counter() - started)
    return _summary(time.process_time() - cpu, latencies)


async def _timed_async(step: Callable[[], Awaitable[Any]], steps: int) -> dict[str, float]:
    for _ in range(steps // 10):
        await step()
    latencies = []
    cpu = time.process_time()
    for _ in range(steps):
        started = time.perf_counter()
        await step()
        latencies.append(time.perf_counter() - started)
    return _summary(time.process_time() - cpu, latencies)


def _summary(cpu: float, latencies: list[float]) -> dict[str, float]:
    percentiles = statistics.quantiles(latencies, n=100)
    return {
        "cpu_us": cpu / len(latencies) * 1e6,
        "p50_us": percentiles[49] * 1e6,
        "p99_us": percentiles[98] * 1e6,
    }


def _rated(step_all: Callable[[], Any], steps: int) -> dict[str, float]:
    rounds = max(steps // _SESSIONS, 10)
    step_all()
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        step_all()
    seconds = time.perf_counter() - started
    total = rounds * _SESSIONS
    return {"rate": total / seconds, "cpu_us": (time.process_time() - cpu) / total * 1e6}


def _ours_sync(url: str, steps: int) -> dict[str, float]:
    from echo_env import EchoAction, EchoEnv

    with EchoEnv(base_url=url) as env:
        env.reset()
        return _timed(lambda: env.step(EchoAction(message=_MESSAGE)), steps)


def _stock_sync(url: str, steps: int) -> dict[str, float]:
    from echo import EchoAction, EchoEnv

    with EchoEnv(base_url=url).sync() as env:
        env.reset()
        return _timed(lambda: env.step(EchoAction(message=_MESSAGE)), steps)


def _ours_async(url: str, steps: int) -> dict[str, float]:
    from echo_env import EchoAction, EchoEnv

    async def drive() -> dict[str, float]:
        async with EchoEnv(base_url=url) as env:
            await env.reset()
            return await _timed_async(lambda: env.step(EchoAction(message=_MESSAGE)), steps)

    return asyncio.run(drive())


def _stock_async(url: str, steps: int) -> dict[str, float]:
    from echo import EchoAction, EchoEnv

    async def drive() -> dict[str, float]:
        async with EchoEnv(base_url=url) as env:
            await env.reset()
            return await _timed_async(lambda: env.step(EchoAction(message=_MESSAGE)), steps)

    return asyncio.run(drive())


def _opened(url: str) -> tuple[socket.socket, bytes]:
    """An open WebSocket, and the frame of a step."""
    from urllib.parse import urlsplit

    from stepwire.protocol.frames import client_frame

    host = urlsplit(url).netloc
    connection = socket.create_connection(host.split(":"))  # type: ignore[arg-type]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    fields = (
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    connection.sendall(fields.encode())
    assert connection.recv(4096).startswith(b"HTTP/1.1 101")
    request = {"type": "step", "data": {"message": _MESSAGE}}
    return connection, client_frame(json.dumps(request).encode())


def _bare_sync(url: str, steps: int) -> dict[str, float]:
    connection, frame = _opened(url)

    def step() -> None:
        connection.send(frame)
        connection.recv(4096)

    return _timed(step, steps)


def _bare_async(url: str, steps: int) -> dict[str, float]:
    connection, frame = _opened(url)

    class Replies(asyncio.Protocol):
        reply: asyncio.Future[None]

        def data_received(self, _: bytes) -> None:
            self.reply.set_result(None)

    async def drive() -> dict[str, float]:
        loop = asyncio.get_running_loop()
        transport, replies = await loop.create_connection(Replies, sock=connection)

        def step() -> asyncio.Future[None]:
            replies.reply = loop.create_future()
            transport.write(frame)
            return replies.reply

        return await _timed_async(step, steps)

    return asyncio.run(drive())


def _ours_pool(url: str, steps: int) -> dict[str, float]:
    from echo_env import EchoAction, EchoEnvPool

    with EchoEnvPool(url, num_envs=_SESSIONS) as pool:
        pool.reset()
        return _rated(lambda: pool.step([EchoAction(message=_MESSAGE)] * _SESSIONS), steps)


def _stock_threads(url: str, steps: int) -> dict[str, float]:
    from echo import EchoAction, EchoEnv

    clients = [EchoEnv(base_url=url).sync() for _ in range(_SESSIONS)]
    with ThreadPoolExecutor(_SESSIONS) as threads:
        list(threads.map(lambda client: client.reset(), clients))
        action = EchoAction(message=_MESSAGE)
        figures = _rated(lambda: list(threads.map(lambda env: env.step(action), clients)), steps)
        list(threads.map(lambda client: client.close(), clients))
    return figures


def _import(statement: str) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss_mb": after.ru_maxrss / 1024,
    }


_VARIANTS: dict[str, Callable[[str, int], dict[str, float]]] = {
    "ours-sync": _ours_sync,
    "stock-sync": _stock_sync,
    "ours-async": _ours_async,
    "stock-async": _stock_async,
    "bare-sync": _bare_sync,
    "bare-async": _bare_async,
    "ours-pool": _ours_pool,
    "stock-threads": _stock_threads,
    "ours-import": lambda *_: _import("from echo_env import EchoEnv"),
    "stock-import": lambda *_: _import("from echo import EchoEnv"),
}


def _print_table(figures: dict[str, list[dict[str, float]]]) -> None:
    table = Table("", "stock", "ours", "ratio", "target", title="Client, medians")
    for row in _FIGURES + _FLOORS:
        ours, stock = (
            statistics.median(figure[row.name] for figure in figures[side])
            for side in (row.ours, row.stock)
        )
        places = 2 if row.name == "cpu_s" else 0
        cells = (f"{stock:.{places}f}", f"{ours:.{places}f}", f"{ours / stock:.2f}")
        table.add_row(row.label, *cells, row.target)
    Console().print(table)


if __name__ == "__main__":
    main()
