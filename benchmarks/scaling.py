# SPDX-License-Identifier: BSD-3-Clause
"""OpenEnv's scaling experiment: many sessions at once, each in a step that waits.

    uv run python benchmarks/scaling.py [--delay 1.0] [--sessions 32 … 16384] [--json FILE]

One worker of this server, one process of clients. A session connects and resets with a scenario of
that delay; when all have, all take a step at once. A session succeeds when its reply bears its own
stamp. The latencies are those of the step, so that the delay is the least they can be.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from echo_env import EchoAction, EchoEnv, verify_stamp

_CONNECTING_AT_ONCE = 32
_SIZES = [32, 128, 512, 2048, 8192, 16384]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that each step waits")
    parser.add_argument("--sessions", type=int, nargs="+", default=_SIZES)
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    rows = []
    with Progress(transient=True) as progress, _serving(max(options.sessions)) as server:
        for sessions in options.sessions:
            task = progress.add_task(f"{sessions} sessions", total=2 * sessions)
            row = asyncio.run(
                _measure(server.url, sessions, options.delay, lambda t=task: progress.advance(t))
            )
            rows.append({**row, **server.size()})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    _print_table(rows, options.delay)


async def _measure(url: str, sessions: int, delay: float, advance: Any) -> dict[str, float]:
    places = asyncio.Semaphore(_CONNECTING_AT_ONCE)
    action = EchoAction(message="Hello, World!")
    latencies: list[float] = []

    async def begin(number: int) -> EchoEnv | None:
        async with places:
            env = EchoEnv(base_url=url, connect_timeout_s=60, message_timeout_s=120)
            try:
                scenario = {"delay_s": delay, "stamp": True}
                await env.reset(seed=number, episode_id=f"episode {number}", scenario=scenario)
            except (ConnectionError, TimeoutError, RuntimeError):
                return None
            finally:
                advance()
            return env

    async def step(number: int, env: EchoEnv) -> bool:
        began = time.perf_counter()
        try:
            result = await env.step(action)
        except (ConnectionError, TimeoutError, RuntimeError):
            return False
        finally:
            advance()
        latencies.append(time.perf_counter() - began)
        whose = {"seed": number, "episode_id": f"episode {number}"}
        return verify_stamp(result, **whose, step=1, action=action)

    began = time.perf_counter()
    opened = await asyncio.gather(*map(begin, range(sessions)))
    connected = time.perf_counter()
    envs = [(number, env) for number, env in enumerate(opened) if env is not None]
    succeeded = sum(await asyncio.gather(*(step(number, env) for number, env in envs)))
    done = time.perf_counter()
    for _, env in envs:
        await env.close()
    percentiles = statistics.quantiles(latencies, n=100)
    return {
        "sessions": sessions,
        "success": succeeded / sessions,
        "p50_s": percentiles[49],
        "p99_s": percentiles[98],
        "connect_s": connected - began,
        "all_s": done - connected,
    }


class _Server:
    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._process = Path(f"/proc/{pid}")

    def size(self) -> dict[str, float]:
        status = dict(
            line.split(":", 1) for line in (self._process / "status").read_text().splitlines()
        )
        return {"rss_mb": int(status["VmHWM"].split()[0]) / 1024, "threads": int(status["Threads"])}


@contextmanager
def _serving(capacity: int) -> Iterator[_Server]:
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "echo_env.server.app", "--port", "8610"],
            env=os.environ | {"MAX_CONCURRENT_ENVS": str(capacity), "LOG_LEVEL": "warning"},
            stderr=log,
        )
        try:
            env = EchoEnv("http://127.0.0.1:8610")
            while server.poll() is None:
                try:
                    env.reset()
                    break
                except ConnectionError:
                    time.sleep(0.1)
            env.close()
            yield _Server("http://127.0.0.1:8610", server.pid)
        finally:
            server.terminate()
            server.wait()


def _print_table(rows: list[dict[str, float]], delay: float) -> None:
    table = Table(
        *("sessions", "succeeded", "p50 (s)", "p99 (s)", "server RSS (MB)", "threads"),
        title=f"Steps that wait {delay:g} s, one worker",
    )
    for row in rows:
        table.add_row(
            f"{row['sessions']}",
            f"{row['success']:.1%}",
            f"{row['p50_s']:.2f}",
            f"{row['p99_s']:.2f}",
            f"{row['rss_mb']:.0f}",
            f"{row['threads']}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
