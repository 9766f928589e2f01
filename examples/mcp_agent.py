# SPDX-License-Identifier: BSD-3-Clause
"""The loop of an MCP agent, with the official SDK: list the tools, choose one, call it, look.

A real agent would ask a language model in `choose`. A few lines stand in for it here.
"""

import asyncio
import sys
from typing import Any

from mcp import Client

url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"

Call = tuple[str, dict[str, Any]]


def choose(tools: list[str], seen: list[Any]) -> Call | None:
    """The next call, given the results so far: a longer text each time, then `None`."""
    text = "ha" if not seen else seen[-1]["message"] + "ha"
    if len(text) > 8:
        return None
    return next(tool for tool in tools if "length" in tool), {"message": text}


async def main() -> None:
    async with Client(f"{url}/mcp") as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        print("tools:", ", ".join(tools))
        seen: list[Any] = []
        while (call := choose(tools, seen)) is not None:
            name, arguments = call
            result = await client.call_tool(name, arguments)
            seen.append(result.structured_content)
            print(f"{name}({arguments['message']!r}) -> {seen[-1]}")


asyncio.run(main())
