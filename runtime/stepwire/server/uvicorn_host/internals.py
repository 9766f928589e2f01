# SPDX-License-Identifier: BSD-3-Clause
"""Everything the runtime uses of uvicorn beyond its documented API.

A new version of uvicorn may change any of it. `test_internals.py` has a test for each item. Run it
before you raise the upper bounds on uvicorn and websockets in `pyproject.toml`.
"""

import asyncio
import inspect
import logging
import signal
import sys
from collections.abc import Callable
from enum import Enum
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from socket import socket
from typing import Any, Literal

from uvicorn import Config, Server
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors import multiprocess
from uvicorn.supervisors.multiprocess import Multiprocess, Process
from websockets.http11 import Request, Response

from stepwire.server.uvicorn_host.early_signals import end_at_once_until_served
from stepwire.server.workers import Seats, make_seats

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:  # uvicorn then uses h11, which has limits of its own
    HttpToolsProtocol = None  # type: ignore[assignment, misc]

__all__ = [
    "Awaited",
    "ClientDisconnected",
    "HttpToolsProtocol",
    "Request",
    "Supervisor",
    "UvicornWebSocketProtocol",
    "WorkerProcess",
    "awaited_by",
    "awaits_close",
    "default_option",
    "has_begun",
    "has_default_websockets",
    "is_in_handshake",
    "is_websocket",
    "mark_as_ended",
    "open_connections",
    "request_exit",
    "run_workers",
    "running_server",
    "take_connection",
]

logger = logging.getLogger("stepwire.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 0.1


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


def has_default_websockets(config: Config) -> bool:
    """Whether uvicorn itself has chosen the WebSocket protocol that ours is built on."""
    return config.ws == "auto" and config.ws_protocol_class is WebSocketsSansIOProtocol


def is_websocket(connection: Any) -> bool:
    return not hasattr(connection, "cycle")  # uvicorn's name for a request and its response


def has_begun(connection: Any) -> bool:
    """Whether the WebSocket protocol has parsed the handshake, to accept or refuse it."""
    return bool(getattr(connection, "handshake_initiated", True))


def is_in_handshake(connection: Any) -> bool:
    """Whether this is a WebSocket whose handshake the application has and has not answered."""
    if not is_websocket(connection) or connection.transport.is_closing():
        return False
    # uvicorn's oldest protocol does not say whether it has answered.
    return has_begun(connection) and not getattr(connection, "handshake_complete", True)


def mark_as_ended(connection: Any) -> None:
    """Keep a WebSocket protocol from answering a handshake that has already been refused."""
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
    """What a connection waits for; a request cycle means its rest or the request after it.

    A number stands for the bytes that the client does not read.
    """
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
    if cycle.more_body:
        return cycle
    # Bytes of an answer that the client has not read yet; an unchanged number means no progress.
    is_unread = connection.flow.write_paused
    return connection.transport.get_write_buffer_size() if is_unread else Awaited.NOTHING


def take_connection(server: Server, accepted: socket, received: bytes) -> None:
    """Serve a connection that another process has accepted, and the bytes it has received."""
    loop = asyncio.get_running_loop()
    protocol_cls: Any = server.config.http_protocol_class

    def make_protocol() -> Any:
        protocol = protocol_cls(
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            _loop=loop,
        )
        protocol.received_elsewhere = received
        return protocol

    task = loop.create_task(_connect(make_protocol, accepted))
    server.server_state.tasks.add(task)  # a stopping server waits for them
    task.add_done_callback(server.server_state.tasks.discard)


async def _connect(make_protocol: Callable[[], Any], accepted: socket) -> None:
    try:
        await asyncio.get_running_loop().connect_accepted_socket(make_protocol, accepted)
    except OSError:  # the client has disconnected
        accepted.close()


def run_workers(config: Config) -> None:
    """Run several workers until a signal stops this process, as `uvicorn.run` does."""
    seats = make_seats(config.workers)
    multiprocess.Process = partial(WorkerProcess, seats=seats)  # type: ignore[misc, assignment]
    Supervisor(config, [config.bind_socket()], seats).run()


class Supervisor(Multiprocess):
    """uvicorn's parent process, which passes on repeated signals to workers that are stopping."""

    def __init__(self, config: Config, sockets: list[socket], seats: Seats | None = None) -> None:
        super().__init__(config, sockets)
        self._seats = seats

    def handle_ttin(self) -> None:
        if self._seats is None or self._seats.can_grow:
            super().handle_ttin()
        else:
            logger.warning("No more than %d workers share their places", self.processes_num)

    def terminate_all(self) -> None:
        if self._seats is not None:
            self._seats.close()
        super().terminate_all()

    def join_all(self) -> None:
        for worker in self.processes:
            while worker.process.is_alive():
                worker.process.join(_POLL_S)
                while self.signal_queue:
                    if self.signal_queue.pop() in _SIGNALS:
                        self.terminate_all()


class WorkerProcess(Process):
    """uvicorn's worker process; this class is used on both sides."""

    def __init__(self, config: Config, sockets: list[socket], seats: Seats | None = None) -> None:
        super().__init__(config, sockets)
        self.workers = None if seats is None else seats.next(self)

    def start(self) -> None:
        """Start the worker with signals held back until `target` can handle them."""
        if sys.platform == "win32":
            super().start()
        else:
            ensure_running()  # the first start does this, and would let signals through
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # uvicorn keeps the worker's end of the pipe open. When a worker ends while it is asked
        # through the pipe whether it is alive, no end of file would arrive, and the parent would
        # ignore signals until `timeout_worker_healthcheck` has passed.
        self.child_conn.close()

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve; called in the worker."""
        end_at_once_until_served()
        if self.workers is not None:
            self.workers.join()
        super().target(sockets)


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
