# SPDX-License-Identifier: BSD-3-Clause
"""Everything the runtime uses of uvicorn beyond its documented API.

A new version of uvicorn may change any of it. `test_internals.py` has a test for each item. Run it
before you raise the upper bounds on uvicorn and websockets in `pyproject.toml`.
"""

import asyncio
import inspect
import signal
from enum import Enum
from typing import Any, Literal

from uvicorn import Config, Server
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors.multiprocess import Process
from websockets.http11 import Request, Response

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:  # uvicorn then uses h11, which has bounds of its own
    HttpToolsProtocol = None  # type: ignore[assignment, misc]

__all__ = [
    "Awaited",
    "ClientDisconnected",
    "HttpToolsProtocol",
    "Request",
    "UvicornWebSocketProtocol",
    "awaited_by",
    "awaits_close",
    "close_health_pipes",
    "default_option",
    "has_begun",
    "is_websocket",
    "mark_as_ended",
    "open_connections",
    "request_exit",
    "running_server",
]


def running_server() -> Server | None:
    """The uvicorn server of this process, once it has installed its signal handlers."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, Server) else None


def request_exit(server: Server, number: int) -> None:
    """Act as if uvicorn had received the signal: once to stop, twice to stop at once."""
    server.handle_exit(number, None)


def default_option(name: str) -> Any:
    """The value that `uvicorn.Config` gives an option which is not set."""
    return inspect.signature(Config).parameters[name].default


def open_connections(server: Server) -> set[Any]:
    """The protocol objects of all open connections; uvicorn changes this set."""
    return server.server_state.connections


def is_websocket(connection: Any) -> bool:
    return not hasattr(connection, "cycle")  # uvicorn's name for a request and its response


def has_begun(connection: Any) -> bool:
    """Whether the WebSocket protocol has taken the handshake, to accept or to refuse it."""
    return bool(getattr(connection, "handshake_initiated", True))


def mark_as_ended(connection: Any) -> None:
    """Keep a WebSocket protocol from answering: the handshake has been refused for it."""
    connection.handshake_complete = connection.close_sent = True


def awaits_close(connection: Any) -> bool:
    """Whether this is a WebSocket whose client has been sent a close frame."""
    # uvicorn's oldest protocol does not say whether it has sent one.
    return is_websocket(connection) and getattr(connection, "close_sent", True)


class Awaited(Enum):
    """What a connection waits for, unless it waits for the rest of a request."""

    NOTHING = "nothing"
    FIRST_REQUEST = "first request"
    CLOSE = "close"


def awaited_by(connection: Any) -> object:
    """What a connection waits for; a request cycle stands for the request after it or its rest."""
    if connection.transport.is_closing():
        return Awaited.CLOSE
    if is_websocket(connection):
        return Awaited.NOTHING if has_begun(connection) else Awaited.FIRST_REQUEST
    cycle: Any = connection.cycle
    if cycle is None:
        return Awaited.FIRST_REQUEST
    if cycle.response_complete:
        # uvicorn has a timeout of its own until the first byte of the next request.
        return Awaited.NOTHING if connection.timeout_keep_alive_task else cycle
    return cycle if cycle.more_body else Awaited.NOTHING


def close_health_pipes() -> None:
    """Make uvicorn's parent process notice at once that a worker has ended.

    The parent asks each worker through a pipe whether it is alive, but keeps the worker's end of
    the pipe open. When a worker ends while it is asked, no end of file arrives, and the parent
    ignores signals until `timeout_worker_healthcheck` has passed.
    """
    start = Process.start

    def start_and_close(self: Process) -> None:
        start(self)
        self.child_conn.close()

    Process.start = start_and_close  # type: ignore[method-assign]


class UvicornWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol; declares the attributes that our subclasses use."""

    config: Config
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    queue: Any
    scope: Any
    conn: Any
    response: Response
    initial_response: Any
    handshake_complete: bool
    close_sent: bool
    disconnected: bool
    read_paused: bool
    writable: asyncio.Event
    ping_timeout: float | None
    pong_timer: asyncio.TimerHandle | None
    frames: list[bytes]
    curr_msg_data_type: Literal["text", "bytes"]
