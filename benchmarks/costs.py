# SPDX-License-Identifier: BSD-3-Clause
"""Measures what `capacity.py` calculates with, and reconnects; writes both to `capacity.json`.

    uv run python benchmarks/costs.py

It needs Linux and HAProxy, and takes minutes. CPU is that of the server's process, or of HAProxy's,
so other processes of the machine hardly count; each cost is the least of several rounds.
"""

import asyncio
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import requests
import uvloop
from capacity import record
from load import HANDSHAKE, RESET, Load, Session, allow_many_files
from serving import process_clock, process_size

from stepwire.client.calls import pauses
from stepwire.testing.servers import (
    PATIENCE_S,
    Server,
    reserved_port,
    running_server,
    serving_command,
)

_ROUNDS = 5
_SESSIONS = 1000  # fewer than uvicorn's backlog
_STEPS = 40_000
_RECONNECTING = ((2000, 10.0), (500, 0.5), (500, 0.2))  # clients, and their timeout in seconds
_ACTION = '{"message":"Hello, World!"}'
# Each session's step reads its own 3,000 numbers, as a step that works does.
_WORKING = """\
import os, time
from echo_env import EchoAction, EchoObservation
from echo_env.server.echo_env_environment import EchoEnvironment
from stepwire.server import create_app, serve

class Environment(EchoEnvironment):
    BLOCKING = os.environ["KIND"] == "blocking"
    numbers = {}

    def reset(self, **arguments):
        if os.environ["KIND"] == "working":
            self.numbers = {number: str(number) for number in range(3000)}
        return super().reset(**arguments)

    def step(self, action, **arguments):
        sum(len(self.numbers[number]) for number in self.numbers)
        return super().step(action, **arguments)

app = create_app(Environment, EchoAction, EchoObservation, env_name="working")
if __name__ == "__main__":
    serve("working:app")
"""
_HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend all
    bind 127.0.0.1:{port}
    default_backend server
backend server
    server one 127.0.0.1:{server}
"""


def main() -> None:
    allow_many_files()
    costs: dict[str, float] = {}
    with _serving() as server, _proxy(server) as proxy:
        costs["worker_mb"] = process_size(server.process.pid)[0] / 1024
        costs |= _measure(server, server)
        costs |= {f"proxy_{key}": value for key, value in _measure(proxy, server).items()}
        abandoned = (_cpu(server, lambda: _abandon(server)) for _ in range(_ROUNDS))
        costs["abandoned_us"] = min(map(asyncio.run, abandoned))
    for kind in ("blocking", "working"):
        with _serving(kind) as server:
            costs |= {f"{kind}_{key}": value for key, value in _measure(server, server).items()}
    costs["working_env_us"] = _own_step_us()
    costs = {key: round(value, 1) for key, value in sorted(costs.items())}
    record(machine=_machine(), costs=costs)
    reconnects = [_reconnect_alone(*clients) for clients in _RECONNECTING]
    record(reconnects=[*reconnects, _reconnect_pool()])


@contextmanager
def _serving(kind: str = "", port: int = 0) -> Iterator[Server]:
    """A server of one worker: of echo, or of the environment above."""
    with tempfile.TemporaryDirectory() as name, reserved_port() as free:
        port, folder = port or free, Path(name)
        (folder / "working.py").write_text(_WORKING)
        command = serving_command("working" if kind else "echo_env.server.app", port)
        variables = {"MAX_CONCURRENT_ENVS": "10000", "LOG_LEVEL": "critical", "KIND": kind}
        with running_server(command, folder, port=port, env=variables) as server:
            yield server


@contextmanager
def _proxy(server: Server) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as name, reserved_port() as port:
        file = Path(name, "haproxy.cfg")
        file.write_text(_HAPROXY.format(port=port, server=server.port))
        command = [_haproxy(), "-db", "-f", str(file)]
        with running_server(command, Path(name), port=port) as proxy:
            yield proxy


def _haproxy() -> str:
    # Debian installs it in a folder that only root's PATH has.
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    return program or sys.exit("This needs HAProxy.")


def _measure(entry: Server, server: Server) -> dict[str, float]:
    """What sessions that come in at `entry` cost its process: memory of the first round."""
    rounds = [uvloop.run(_round(entry, server)) for _ in range(_ROUNDS)]
    least = {key: min(one[key] for one in rounds) for key in rounds[0]}
    return least | {"session_kb": rounds[0]["session_kb"]}


async def _round(entry: Server, server: Server) -> dict[str, float]:
    pid = entry.process.pid
    load = Load(entry.port, pid, _ACTION)
    before = process_size(pid)[0]
    figures = {"open_us": await _cpu(entry, lambda: load.open(_SESSIONS))}
    figures["session_kb"] = (process_size(pid)[0] - before) / _SESSIONS
    figures["step_us"] = (await load.step(_STEPS))["cpu_us"]

    async def close() -> None:
        load.close()
        await _settle(server)

    figures["close_us"] = await _cpu(entry, close)
    return figures


async def _cpu(server: Server, work: Callable[[], Awaitable[object]]) -> float:
    """CPU of the server's process for that work, by session."""
    clock = process_clock(server.process.pid)
    before = time.clock_gettime(clock)
    await work()
    return (time.clock_gettime(clock) - before) / _SESSIONS * 1e6


async def _abandon(server: Server) -> None:
    """Handshakes whose clients have left when the server reads them."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for _ in range(_SESSIONS):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(HANDSHAKE.format(port=server.port).encode())
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    await _settle(server)


async def _settle(server: Server) -> None:
    """Wait until the server has read all there is and has no session."""
    deadline = time.monotonic() + 60
    while (await asyncio.to_thread(requests.get, f"{server.url}/sessions", timeout=60)).json()[
        "active_sessions"
    ]:
        if time.monotonic() > deadline:
            sys.exit(f"Sessions do not end; the server's log:\n{server.log}")
        await asyncio.sleep(0.05)


def _reconnect_alone(clients: int, timeout_s: float) -> dict[str, Any]:
    """Clients that come to one worker at once, and come again when they time out."""
    back: list[float] = []
    kept: list[Session] = []  # the others are closed
    attempts = 0

    async def one(port: int) -> None:
        nonlocal attempts
        for pause_s in pauses(PATIENCE_S):
            attempts += 1
            session = Session()
            try:
                await asyncio.wait_for(_shake_hands(session, port), timeout_s)
                await session.ask(RESET)
            except (asyncio.TimeoutError, OSError):
                session.on_reply = None
                if session.transport is not None:
                    session.transport.abort()
                await asyncio.sleep(pause_s)
                continue
            back.append(time.perf_counter() - began)
            kept.append(session)
            return

    async def everyone(port: int) -> None:
        await asyncio.gather(*(one(port) for _ in range(clients)))

    with _serving() as server:
        clock = process_clock(server.process.pid)
        cpu, began = time.clock_gettime(clock), time.perf_counter()
        uvloop.run(everyone(server.port))
        cpu = time.clock_gettime(clock) - cpu
    if len(back) < clients:
        sys.exit(f"With a timeout of {timeout_s} s, this machine is too busy to reconnect")
    back.sort()
    return {
        "clients": "alone",
        "sessions": clients,
        "timeout_s": timeout_s,
        "down_s": 0.0,
        "share": round(cpu / back[-1], 2),  # of a core that the worker had
        "p50_s": round(back[len(back) // 2], 2),
        "all_s": round(back[-1], 2),
        "attempts": round(attempts / clients, 1),
    }


async def _shake_hands(session: Session, port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: session, "127.0.0.1", port)
    head = await session.ask(HANDSHAKE.format(port=port).encode())
    if head is None or b" 101 " not in head:
        raise ConnectionRefusedError


def _reconnect_pool() -> dict[str, Any]:
    """A pool whose server is killed, and started again at once."""
    from echo_env import EchoEnvPool

    with reserved_port() as port, ThreadPoolExecutor() as threads:
        with _serving(port=port) as server:
            pool = EchoEnvPool(server.url, _SESSIONS, capacity_wait_s=PATIENCE_S)
            list(pool.reset())
            server.process.kill()
            server.process.wait()
        began = time.perf_counter()
        resetting = threads.submit(lambda: [result.error for result in pool.reset()])
        with _serving(port=port) as server:
            down_s = time.perf_counter() - began
            clock = process_clock(server.process.pid)
            cpu, up = time.clock_gettime(clock), time.perf_counter()
            assert not any(resetting.result())
            now = time.perf_counter()
            share = (time.clock_gettime(clock) - cpu) / (now - up)
            pool.close()
    return {
        "clients": "pool",
        "sessions": _SESSIONS,
        "timeout_s": 10.0,
        "down_s": round(down_s, 2),
        "share": round(share, 2),
        "all_s": round(now - began, 2),
    }


def _own_step_us() -> float:
    """CPU of the working environment's step, of one environment, without a server."""
    os.environ["KIND"] = "working"
    names: dict[str, type] = {"__name__": "working"}
    exec(_WORKING, names)
    from echo_env import EchoAction

    action = EchoAction(message="Hello, World!")
    environment = names["Environment"]()
    environment.reset()
    least = 1.0
    for _ in range(_STEPS // 20):
        began = time.process_time()
        environment.step(action)
        least = min(least, time.process_time() - began)
    return least * 1e6


def _machine() -> dict[str, str]:
    """What the figures were measured with."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    build = "with" if "--enable-optimizations" in arguments else "without"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    haproxy = subprocess.run([_haproxy(), "-v"], capture_output=True, text=True, check=True).stdout
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "processor": f"{len(names)} shared cores of an {names[0]}",
        "python": f"{python}, {platform.python_compiler()}, {build} --enable-optimizations",
        "haproxy": haproxy.split()[2],
        "openenv-core": metadata.version("openenv-core"),
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
    }


if __name__ == "__main__":
    main()
