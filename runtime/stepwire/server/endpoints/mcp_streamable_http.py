# SPDX-License-Identifier: BSD-3-Clause
"""Standard MCP on `POST /mcp`: the Streamable HTTP transport, spoken by FastMCP.

It is stateless and answers in JSON, so any worker can serve any request. FastMCP takes seconds and
45 MB to load: a thread loads it when the first client speaks the standard protocol.
"""

import asyncio
from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi import Request, Response
from openenv.core.env_server.mcp_types import (
    CallToolObservation,
    JsonRpcErrorCode,
    JsonRpcResponse,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.description import metadata_of
from stepwire.server.encoding import encode_json_rpc
from stepwire.server.endpoints.mcp import read_request
from stepwire.server.errors import MessageError, encodable, log_failure
from stepwire.server.json_values import jsonable
from stepwire.server.logs import logger
from stepwire.server.mcp_tools import use_our_log
from stepwire.server.sessions import Sessions
from stepwire.server.tool_functions import FunctionTools
from stepwire.server.tools import ToolFailure, ToolResult, Tools

_ACCEPT = (b"accept", b"application/json, text/event-stream")
_CONTENT_TYPE = (b"content-type", b"application/json")
_REPLACED = (b"accept", b"content-type", b"content-length", b"transfer-encoding")
# The path inside FastMCP's application; ours may be below a prefix.
_PATH = "/mcp"


def is_standard_client(request: Request) -> bool:
    """Whether the headers are those of a client of the standard protocol."""
    accepts_stream = "text/event-stream" in request.headers.get("accept", "")
    return accepts_stream or "mcp-protocol-version" in request.headers


def speaks_standard_mcp(request: Request, payload: Any) -> bool:
    """Whether a request uses the standard protocol rather than bare JSON-RPC.

    Standard clients must accept an event stream (MCP 2025-06-18, Transports, "Sending Messages to
    the Server"); only they send handshakes and notifications. Bare JSON-RPC answers `ping` for
    both, because later versions of the standard drop it, and explains what neither accepts.
    """
    try:
        method = read_request(payload).method
    except MessageError:
        return False
    if method == "ping" or method.startswith("openenv/"):
        return False
    return (
        is_standard_client(request) or method == "initialize" or method.startswith("notifications/")
    )


class StreamableHttp:
    """FastMCP's server of an environment's tools. The first request starts it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._serving: asyncio.Task[None] | None = None
        self._started: asyncio.Future[ASGIApp] | None = None
        self._stop = asyncio.Event()

    async def answer(self, request: Request, payload: dict[str, Any], body: bytes) -> Response:
        """Answer the message in `body`, with a JSON-RPC error if FastMCP is missing."""
        try:
            application = await self._start()
        except ImportError as error:
            log_failure(error)
            failure = JsonRpcResponse.error_response(
                JsonRpcErrorCode.INTERNAL_ERROR,
                "Standard MCP needs FastMCP, which this server cannot import. JSON-RPC without the "
                "handshake works: leave text/event-stream out of Accept.",
                request_id=payload.get("id"),
            )
            return Response(encode_json_rpc(failure.model_dump()), media_type="application/json")
        return _Delegated(application, body)

    async def aclose(self) -> None:
        """Stop FastMCP's server, if it was started."""
        self._stop.set()
        if self._serving is not None:
            await self._serving
        self._serving = self._started = None
        self._stop = asyncio.Event()

    async def _start(self) -> ASGIApp:
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            # FastMCP's lifespan must start and stop in one task, which outlives this request.
            self._serving = asyncio.create_task(self._serve(self._started))
        return await asyncio.shield(self._started)

    async def _serve(self, started: asyncio.Future[ASGIApp]) -> None:
        try:
            async with self._sessions.temporary() as session:
                about = await session.call(metadata_of, session.environment)
                tools = session.tools
                specifications = await tools.specifications(session)
            application = await asyncio.to_thread(
                self._load, about.name, about.version or "unknown", tools, specifications
            )
            async with application.lifespan(application):
                started.set_result(application)
                await self._stop.wait()
        except Exception as error:
            self._started = None  # the next request tries again
            if started.done():
                raise
            started.set_exception(error)

    def _load(
        self, name: str, version: str, tools: Tools, specifications: list[dict[str, Any]]
    ) -> Any:
        from fastmcp import FastMCP
        from fastmcp.tools import Tool

        use_our_log()
        sessions = self._sessions

        class EnvironmentTool(Tool):  # type: ignore[misc] # FastMCP's types are not followed
            async def run(self, arguments: dict[str, Any]) -> Any:
                async with sessions.temporary() as session:
                    try:
                        result = await session.tools.call(session, self.name, arguments)
                    except ToolFailure as failure:
                        return _failed(str(failure))
                return _converted(result, self)

        server = FastMCP(encodable(name), version=encodable(version))
        functions = tools.functions if isinstance(tools, FunctionTools) else {}
        for tool in jsonable(specifications):
            if offered := functions.get(tool["name"]):
                output_schema = _output_schema(offered.function)
            else:
                output_schema = tool.get("outputSchema", tool.get("output_schema"))
            try:
                server.add_tool(
                    EnvironmentTool(
                        name=tool["name"],
                        description=tool["description"],
                        parameters={"type": "object", **(tool["inputSchema"] or {})},
                        output_schema=output_schema,
                    )
                )
            except ValueError as error:  # the other tools are still offered
                logger.warning("Standard MCP does not offer the tool %r: %s", tool["name"], error)
        return server.http_app(path=_PATH, stateless_http=True, json_response=True)


def _output_schema(function: Callable[..., Any]) -> dict[str, Any] | None:
    """FastMCP's schema of what a function returns, whichever parameters it has."""
    from fastmcp.tools import Tool

    def returning() -> None:
        """Stands for the function: FastMCP refuses `**kwargs` and `*args`."""

    try:
        hints = get_type_hints(function, include_extras=True)
        returning.__annotations__ = {"return": hints["return"]} if "return" in hints else {}
        schema: dict[str, Any] | None = Tool.from_function(returning).output_schema
    except Exception:  # noqa: BLE001 - an annotation may fail in any way; a schema is optional
        return None
    return schema


def _converted(result: Any, tool: Any) -> Any:
    """The result of a tool as FastMCP's server sends it."""
    from fastmcp.tools import ToolResult as Reply

    if isinstance(result, CallToolObservation):
        if result.error is not None:
            return _failed(result.error.message)
        result = result.result
    if isinstance(result, ToolResult):
        return tool.convert_result(result.data)
    if hasattr(result, "structured_content"):  # of FastMCP: its content may be images
        return Reply(result.content, result.structured_content, result.meta, result.is_error)
    return tool.convert_result(result)


def _failed(message: str) -> Any:
    from fastmcp.tools import ToolResult as Reply

    return Reply(content=message, is_error=True)


class _Delegated(Response):
    """A response that another ASGI application produces for the same request."""

    def __init__(self, application: ASGIApp, body: bytes) -> None:
        super().__init__()
        self._application = application
        self._body: bytes | None = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def replay() -> Message:
            if self._body is None:
                return await receive()
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}

        # The body may be one message of a batch, or was in another encoding.
        headers = [header for header in scope["headers"] if header[0] not in _REPLACED]
        headers += [_ACCEPT, _CONTENT_TYPE]
        scope = {**scope, "path": _PATH, "root_path": "", "headers": headers}
        await self._application(scope, replay, send)
