# SPDX-License-Identifier: BSD-3-Clause
"""The load generator of `servers.py`, a process of its own: opens sessions, steps them, counts.

    python benchmarks/load.py --port 8000 --pid PID --sessions 32 --steps 20000

It prints one JSON object. Every session resets, then steps with one step in flight; in the end it
asks the server for its count. No compression is offered, and frames are masked with zeros, which
costs the server the same as any other mask and this process nothing. The server's CPU time is read
from its own clock (Linux only), so that other processes of the machine do not count.
"""

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import cast

import uvloop
from serving import process_clock, process_size

_CONNECTING_AT_ONCE = 64
# Each source address has about 28,000 ports.
_SESSIONS_PER_ADDRESS = 8192
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def _frame(payload: bytes, first: int = 0x81) -> bytes:
    assert len(payload) < 126
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


RESET = _frame(b'{"type":"reset","data":{}}')
_STATE = _frame(b'{"type":"state"}')


class Session(asyncio.Protocol):
    """One connection; whoever asks is called with the reply, or with `None` when it is lost."""

    def __init__(self) -> None:
        self.on_reply: Callable[[bytes | None], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.steps_left = 0
        self.asked_at = 0.0
        self._received = b""
        self._handshake_done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._reply(None)

    def ask(self, request: bytes) -> "asyncio.Future[bytes | None]":
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.on_reply = lambda reply: None if future.done() else future.set_result(reply)
        if self.transport is None:
            self._reply(None)
        else:
            self.transport.write(request)
        return future

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        if not self._handshake_done:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self._received = data
                return
            self._handshake_done = True
            self._reply(head)
            data = rest
        while len(data) > 1:
            begin, size = 2, data[1]
            if size > 125:
                begin = 4
                size = int.from_bytes(data[2:4], "big")
            if len(data) < begin + size:
                break
            if data[0] == 0x81:
                self._reply(data[begin : begin + size])
            elif data[0] == 0x89 and self.transport is not None:
                self.transport.write(_frame(data[begin : begin + size], 0x8A))
            data = data[begin + size :]
        self._received = data

    def _reply(self, reply: bytes | None) -> None:
        if self.on_reply is not None:
            on_reply, self.on_reply = self.on_reply, None
            on_reply(reply)


class Load:
    """Sessions with one server process."""

    def __init__(self, port: int, pid: int, action: str) -> None:
        self._port = port
        self._step = _frame(f'{{"type":"step","data":{action}}}'.encode())
        self._pid = pid
        self._clock = process_clock(pid)
        self._sessions: list[Session] = []

    async def open(self, number: int) -> dict[str, float]:
        """Open that many sessions and reset each, or as many as the server takes."""
        places = asyncio.Semaphore(_CONNECTING_AT_ONCE)
        loop = asyncio.get_running_loop()

        async def open_one(index: int) -> None:
            source = f"127.0.0.{2 + index // _SESSIONS_PER_ADDRESS}"
            async with places:
                try:
                    _, session = await loop.create_connection(
                        Session, "127.0.0.1", self._port, local_addr=(source, 0)
                    )
                except OSError:
                    return
                head = await session.ask(HANDSHAKE.format(port=self._port).encode())
                if head is None or b" 101 " not in head:
                    return
                reply = await session.ask(RESET)
                if reply is not None and b'"error"' not in reply:
                    self._sessions.append(session)

        rss, threads = process_size(self._pid)
        began = time.perf_counter()
        await asyncio.gather(*map(open_one, range(number)))
        seconds = time.perf_counter() - began
        rss_after, threads_after = process_size(self._pid)
        return {
            "sessions": len(self._sessions),
            "refused": number - len(self._sessions),
            "open_s": seconds,
            "rss_kb": (rss_after - rss) / number,
            "threads": (threads_after - threads) / number,
        }

    async def step(self, steps: int) -> dict[str, float]:
        """Step all sessions, `steps` in total; the figures are those of the later nine tenths."""
        each = max(steps // len(self._sessions), 1)
        warm_up = each // 10
        await self._step_each(warm_up)
        rss, _ = process_size(self._pid)
        cpu, began = time.clock_gettime(self._clock), time.perf_counter()
        latencies = await self._step_each(each - warm_up)
        seconds = time.perf_counter() - began
        cpu = time.clock_gettime(self._clock) - cpu
        percentiles = statistics.quantiles(latencies, n=100)
        return {
            "steps": len(latencies),
            "cpu_us": cpu / len(latencies) * 1e6,
            "rate": len(latencies) / seconds,
            "p50_us": percentiles[49] * 1e6,
            "p99_us": percentiles[98] * 1e6,
            "rss_growth_kb": process_size(self._pid)[0] - rss,
            "lost": await self._lost(each),
        }

    def ended(self) -> int:
        """How many sessions have lost their connection."""
        return sum(session.transport is None for session in self._sessions)

    def close(self) -> None:
        """Cut all connections."""
        for session in self._sessions:
            if session.transport is not None:
                session.transport.abort()
        self._sessions.clear()

    async def _step_each(self, steps: int) -> list[float]:
        latencies: list[float] = []
        if not steps:
            return latencies
        done = asyncio.get_running_loop().create_future()
        stepping = len(self._sessions)
        clock, step = time.perf_counter, self._step

        def begin(session: Session) -> None:
            def on_reply(reply: bytes | None) -> None:
                nonlocal stepping
                now = clock()
                if reply is not None:
                    latencies.append(now - session.asked_at)
                    session.steps_left -= 1
                    if session.steps_left and session.transport is not None:
                        session.asked_at = now
                        session.on_reply = on_reply
                        session.transport.write(step)
                        return
                stepping -= 1
                if not stepping:
                    done.set_result(None)

            session.steps_left = steps
            session.asked_at = clock()
            session.on_reply = on_reply
            if session.transport is None:
                on_reply(None)
            else:
                session.transport.write(step)

        for session in self._sessions:
            begin(session)
        await done
        return latencies

    async def _lost(self, steps_each: int) -> int:
        """By how many steps the server's counts and ours differ, over all sessions."""
        lost = 0
        for session in self._sessions:
            reply = await session.ask(_STATE)
            if reply is None:
                lost += steps_each
            elif b"step_count" in reply:  # a bare echo counts nothing
                lost += abs(steps_each - int(json.loads(reply)["data"]["step_count"]))
        return lost


async def _drive(port: int, pid: int, action: str, sessions: int, steps: int) -> dict[str, float]:
    load = Load(port, pid, action)
    return {**await load.open(sessions), **await load.step(steps)}


def allow_many_files() -> None:
    """Raise the limit of file descriptors as far as it goes, also for processes started later."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("port", "pid", "sessions", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument(
        "--action", default='{"message":"Hello, World!"}', help="the action of each step, as JSON"
    )
    options = parser.parse_args()
    allow_many_files()
    print(json.dumps(uvloop.run(_drive(**vars(options)))))


if __name__ == "__main__":
    main()
