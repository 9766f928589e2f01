# SPDX-License-Identifier: BSD-3-Clause
"""`python -m echo_env.demo`: an episode over every surface, on a server of its own."""

import asyncio
import sys
import time
from typing import Any

import requests
from rich.console import Console
from rich.markup import escape

from echo_env.client import EchoEnv, EchoEnvPool
from echo_env.models import EchoAction

_MESSAGES = ("Hello, World!", "Testing echo", "Final message")
_NEXT = """
Everything works. What to try next:
  uv run server                              port 8000, with a page at /web
  uv run python -m stepwire.conformance URL  does a server speak OpenEnv?
  README.md, docs/, examples/                TRL, Gymnasium, MCP, notebooks"""


def _synchronous(url: str) -> str:
    with EchoEnv(base_url=url) as env:
        env.reset()
        return _summary([env.step(EchoAction(message=message)) for message in _MESSAGES])


def _asynchronous(url: str) -> str:
    async def episode() -> str:
        async with EchoEnv(base_url=url) as env:
            await env.reset()
            return _summary([await env.step(EchoAction(message=message)) for message in _MESSAGES])

    return asyncio.run(episode())


def _pool(url: str) -> str:
    with EchoEnvPool(url, num_envs=64, capacity_wait_s=0) as pool:
        pool.reset()
        started = time.perf_counter()
        steps = pool.step([EchoAction(message=f"Message {i}") for i in range(64)])
        replies = [step.observation for step in steps]  # a failed one raises its error
        return f"{len(replies)} replies in {time.perf_counter() - started:.3f} s"


def _http(url: str) -> str:
    with requests.Session() as session:  # it keeps the cookie that holds the episode
        _post(session, f"{url}/reset", {})
        for message in _MESSAGES:
            last = _post(session, f"{url}/step", {"action": {"message": message}})
    return f"{last['observation']['echoed_message']!r}, reward {last['reward']:.1f}"


def _mcp(url: str) -> str:
    call = {"name": "echo_with_length", "arguments": {"message": _MESSAGES[-1]}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    result = _post(requests, f"{url}/mcp", request)["result"]["structuredContent"]
    return f"{result['message']!r}, length {result['length']}"


def _post(session: Any, url: str, body: dict[str, Any]) -> Any:
    response = session.post(url, json=body, timeout=60)
    response.raise_for_status()
    return response.json()


def _summary(results: list[Any]) -> str:
    return f"{results[-1].observation.echoed_message!r}, reward {results[-1].reward:.1f}"


SURFACES = {
    "Client": (_synchronous, "env.step(action)"),
    "Client, async": (_asynchronous, "await env.step(action)"),
    "Pool of 64": (_pool, "pool.step(actions)"),
    "HTTP": (_http, "POST /step, with cookies"),
    "MCP": (_mcp, "POST /mcp, tools/call"),
}


def main() -> int:
    """0 when every surface works, 1 when one does not."""
    console = Console(highlight=False)
    failed = []
    with console.status("Starting a server on this machine…"):
        server = EchoEnv.from_local()
    with server:
        console.print(f"Serving the echo environment at {server.base_url}\n")
        for name, (play, call) in SURFACES.items():
            mark = "[green]✓[/]"
            try:
                outcome = play(str(server.base_url))
            except Exception as error:  # noqa: BLE001 - shown, and the next surface is tried
                failed.append(name)
                mark, outcome = "[bold red]✗[/]", repr(error)
            console.print(f"  {mark} {name:<14} {call:<25}{escape(outcome)}", soft_wrap=True)
    print(f"\nDoes not work: {', '.join(failed)}" if failed else _NEXT)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
