# SPDX-License-Identifier: BSD-3-Clause
"""`python -m echo_env.demo`: an episode over every surface, on a server of its own.

It needs neither Docker nor a network nor a model, and fails when anything does: the quickest proof
that an installation works.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from echo_env.client import EchoEnv, EchoEnvPool
from echo_env.models import EchoAction

_MESSAGES = ("Hello, World!", "Testing echo", "Final message")
_TIMEOUT_S = 60


def _synchronous(url: str) -> Iterator[str]:
    with EchoEnv(base_url=url) as env:
        env.reset()
        for message in _MESSAGES:
            result = env.step(EchoAction(message=message))
            yield _told(result.observation.echoed_message, result.reward)


def _asynchronous(url: str) -> Iterator[str]:
    async def episode() -> list[str]:
        async with EchoEnv(base_url=url) as env:
            await env.reset()
            results = [await env.step(EchoAction(message=message)) for message in _MESSAGES]
        return [_told(result.observation.echoed_message, result.reward) for result in results]

    yield from asyncio.run(episode())


def _pool(url: str) -> Iterator[str]:
    with EchoEnvPool(url, num_envs=64) as pool:
        pool.reset()
        for message in _MESSAGES:
            actions = [EchoAction(message=f"{message} {i}") for i in range(64)]
            started = time.perf_counter()
            replies = [result.observation.echoed_message for result in pool.step(actions)]
            yield f"{len(replies)} replies in {time.perf_counter() - started:.3f} s"


def _http(url: str) -> Iterator[str]:
    with requests.Session() as session:  # it keeps the cookie that holds the episode
        session.post(f"{url}/reset", json={}, timeout=_TIMEOUT_S).raise_for_status()
        for message in _MESSAGES:
            action = {"action": {"message": message}}
            answer = session.post(f"{url}/step", json=action, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            result = answer.json()
            yield _told(result["observation"]["echoed_message"], result["reward"])


def _mcp(url: str) -> Iterator[str]:
    def ask(method: str, **params: Any) -> Any:
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = requests.post(f"{url}/mcp", json=request, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()["result"]

    yield ", ".join(tool["name"] for tool in ask("tools/list")["tools"])
    for message in _MESSAGES:
        called = ask("tools/call", name="echo_with_length", arguments={"message": message})
        result = called["structuredContent"]
        yield f"{result['message']!r}, length {result['length']}"


def _told(message: str, reward: float | None) -> str:
    return f"{message!r}, reward {reward:.1f}"


@dataclass
class _Row:
    """A surface, and how far its episode has come."""

    name: str
    how: str
    episode: Callable[[str], Iterator[str]]
    state: str = ""
    reply: str = ""


def _rows() -> list[_Row]:
    return [
        _Row("Client", "env.step(action)", _synchronous),
        _Row("Client, async", "await env.step(action)", _asynchronous),
        _Row("Pool of 64", "pool.step(actions)", _pool),
        _Row("HTTP", "POST /step, with cookies", _http),
        _Row("MCP", "POST /mcp, tools/call", _mcp),
    ]


def _table(rows: Sequence[_Row]) -> Table:
    table = Table("", "Surface", "Call", "Latest reply", box=box.SIMPLE_HEAD)
    marks = {"": " ", "running": "[yellow]…", "ok": "[green]✓", "failed": "[bold red]✗"}
    for row in rows:
        table.add_row(marks[row.state], row.name, row.how, Text(row.reply))
    return table


_NEXT = {
    "server": "The same on port 8000, with a page at /web",
    "python -m stepwire.conformance URL": "Is a server of OpenEnv what it should be?",
    "README.md": "Client, protocol, faults on request",
    "examples/README.md": "TRL, Gymnasium, MCP, JavaScript, notebooks",
}


def _print_what_next(console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    for name, what in _NEXT.items():
        table.add_row(f"  [bold]{name}", what)
    console.print("\nEverything works. What to try next:", table, sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every surface works, 1 when one does not."""
    parser = argparse.ArgumentParser(prog="python -m echo_env.demo", description=__doc__)
    parser.add_argument("--pause", type=float, default=0.25, help="seconds after each step")
    pause = parser.parse_args(arguments).pause
    console = Console()
    with console.status("Starting a server on this machine…"):
        started = time.perf_counter()
        server = EchoEnv.from_local()
    took = time.perf_counter() - started
    console.print(f"A server of the echo environment at {server.base_url}, up in {took:.1f} s")
    rows = _rows()
    with server, Live(_table(rows), console=console, auto_refresh=False) as live:
        for row in rows:
            row.state = "running"
            try:
                for reply in row.episode(server.base_url):
                    row.reply = reply
                    live.update(_table(rows), refresh=True)
                    time.sleep(pause)
                row.state = "ok"
            except Exception as error:  # noqa: BLE001 - shown, and the next surface is tried
                row.state, row.reply = "failed", repr(error)
            live.update(_table(rows), refresh=True)
    failed = [row.name for row in rows if row.state == "failed"]
    if failed:
        console.print(f"\n[bold red]Does not work: {', '.join(failed)}")
        return 1
    _print_what_next(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
