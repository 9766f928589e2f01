# SPDX-License-Identifier: BSD-3-Clause
"""Standard MCP on `POST /mcp`: the Streamable HTTP transport, spoken by FastMCP.

Stateless and answered in JSON, so that any worker serves any request. FastMCP takes seconds and
45 MB to load, so that waits for the first client that speaks the standard protocol, in a thread.
"""

import asyncio
import logging
from typing import Any

from fastapi import Request, Response
from openenv.core.env_server.mcp_types import JsonRpcErrorCode, JsonRpcRequest, JsonRpcResponse
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwire.server.endpoints.mcp import ToolBox, ToolFailure
from stepwire.server.errors import log_failure
from stepwire.server.logs import logger
from stepwire.server.sessions import Sessions
from stepwire.server.wire import encode_json_rpc

_ACCEPT = (b"accept", b"application/json, text/event-stream")
# Where FastMCP's application has its endpoint; ours may be anywhere.
_PATH = "/mcp"


def speaks_standard_mcp(request: Request, payload: Any) -> bool:
    """Whether a request is one of the standard protocol, not bare JSON-RPC.

    The standard's clients have to accept an event stream (MCP 2025-06-18, Transports, "Sending
    Messages to the Server"). Bare JSON-RPC has neither handshake nor notifications; `ping` it
    answers for both, since the standard's later versions leave it out, and what is no request of
    either, it explains.
    """
    try:
        method = JsonRpcRequest.model_validate(payload).method
    except ValidationError:
        return False
    if method == "ping" or method.startswith("openenv/"):
        return False
    return (
        "text/event-stream" in request.headers.get("accept", "")
        or "mcp-protocol-version" in request.headers
        or method == "initialize"
        or method.startswith("notifications/")
    )


class StreamableHttp:
    """FastMCP's server of an environment's tools, started when it is first needed."""

    def __init__(self, sessions: Sessions, tools: ToolBox) -> None:
        self._sessions = sessions
        self._tools = tools
        self._serving: asyncio.Task[None] | None = None
        self._started: asyncio.Future[ASGIApp] | None = None
        self._stop = asyncio.Event()

    async def answer(self, request: Request, payload: dict[str, Any]) -> Response:
        """Answer a request whose body has been read, or say why that is not possible."""
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
        return _Delegated(application, await request.body())

    async def aclose(self) -> None:
        """Stop FastMCP's server, if it was started."""
        self._stop.set()
        if self._serving is not None:
            await self._serving

    async def _start(self) -> ASGIApp:
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            # Its tasks belong to one that starts and stops them; no request lives long enough.
            self._serving = asyncio.create_task(self._serve(self._started))
        return await asyncio.shield(self._started)

    async def _serve(self, started: asyncio.Future[ASGIApp]) -> None:
        try:
            async with self._sessions.temporary() as session:
                about = session.environment.get_metadata()
            application = await asyncio.to_thread(self._load, about.name, about.version)
            async with application.lifespan(application):
                started.set_result(application)
                await self._stop.wait()
        except Exception as error:
            self._started = None  # the next request tries again
            if started.done():
                raise
            started.set_exception(error)

    def _load(self, name: str, version: str | None) -> Any:
        from fastmcp import FastMCP
        from fastmcp.tools import Tool, ToolResult

        # FastMCP's log lines go where the server's go, instead of through handlers of its own.
        log = logging.getLogger("fastmcp")
        log.handlers[:] = logger.handlers
        log.propagate = logger.propagate
        log.setLevel(logging.WARNING)

        sessions, tools = self._sessions, self._tools

        class EnvironmentTool(Tool):  # type: ignore[misc] # FastMCP's types are not followed
            async def run(self, arguments: dict[str, Any]) -> Any:
                async with sessions.temporary() as session:
                    try:
                        value = await tools.call(session, self.name, arguments)
                    except ToolFailure as failure:
                        return ToolResult(content=str(failure), is_error=True)
                return self.convert_result(value)

        server = FastMCP(name, version=version)
        for tool in tools.offered(sessions.environment_cls):
            server.add_tool(
                EnvironmentTool(
                    name=tool.specification.name,
                    description=tool.specification.description,
                    parameters=tool.specification.input_schema,
                    output_schema=Tool.from_function(tool.function).output_schema,
                )
            )
        return server.http_app(path=_PATH, stateless_http=True, json_response=True)


class _Delegated(Response):
    """A response that another ASGI application gives to the same request."""

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

        headers = [header for header in scope["headers"] if header[0] != b"accept"]
        scope = {**scope, "path": _PATH, "root_path": "", "headers": [*headers, _ACCEPT]}
        await self._application(scope, replay, send)
