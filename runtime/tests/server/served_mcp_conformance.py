# SPDX-License-Identifier: BSD-3-Clause
"""An environment with the tools that MCP's own conformance suite calls by their names."""

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
from base64 import b64decode
from typing import Any

from fastmcp import FastMCP
from fastmcp.tools import Tool, ToolResult
from fastmcp.utilities.types import Audio, File, Image
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, Observation, State

from stepwire.server import create_app

_PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)
_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}


class Exhibition(MCPEnvironment):
    """Shows every kind of content."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        mcp: Any = FastMCP("exhibition")

        @mcp.tool
        def test_simple_text() -> str:
            """Return text."""
            return "This is a simple text response for testing."

        @mcp.tool
        def test_image_content() -> Any:
            """Return an image."""
            return Image(data=_PIXEL, format="png")

        @mcp.tool
        def test_audio_content() -> Any:
            """Return a sound."""
            return Audio(data=b"RIFF", format="wav")

        @mcp.tool
        def test_embedded_resource() -> Any:
            """Return a resource."""
            return File(data=b"This is an embedded resource content.", format="plain")

        @mcp.tool
        def test_multiple_content_types() -> Any:
            """Return text, an image and a resource."""
            file = File(data=b'{"test":"data"}', format="json")
            return ["Multiple content types test:", Image(data=_PIXEL, format="png"), file]

        @mcp.tool
        def test_error_handling() -> str:
            """Fail."""
            raise ValueError("This tool intentionally returns an error for testing")

        class SchemaTool(Tool):  # type: ignore[misc] # FastMCP's types are not followed
            async def run(self, arguments: dict[str, Any]) -> Any:
                return ToolResult(content="fine")

        about = "Has a schema with references."
        name = "json_schema_2020_12_tool"
        mcp.add_tool(SchemaTool(name=name, description=about, parameters=_SCHEMA))
        super().__init__(mcp)

    def reset(self, **_: Any) -> Observation:
        return Observation()

    def _step_impl(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        return Observation()

    @property
    def state(self) -> State:
        return State()


app = create_app(Exhibition, CallToolAction, CallToolObservation)
