# SPDX-License-Identifier: BSD-3-Clause
"""Uses an MCP server with the installed release of the Python SDK: python mcp_sdk_client.py URL"""

import asyncio
import json
import sys

import mcp.client.streamable_http as transport
from mcp import ClientSession

# The function has lost an underscore in later releases.
_open = getattr(transport, "streamable_http_client", None) or transport.streamablehttp_client


async def _use(url: str) -> dict[str, object]:
    async with _open(url) as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        await session.send_ping()
        tools = await session.list_tools()
        called = await session.call_tool("test_simple_text", {})
        failed = await session.call_tool("test_error_handling", {})
    is_error = getattr(failed, "is_error", None) or getattr(failed, "isError", None)
    return {
        "tools": [tool.name for tool in tools.tools],
        "text": called.content[0].text,
        "failed": is_error,
    }


print(json.dumps(asyncio.run(_use(sys.argv[1]))))
