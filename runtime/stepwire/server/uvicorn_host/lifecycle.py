# SPDX-License-Identifier: BSD-3-Clause
"""The uvicorn process that runs the application: what it listens on, its limits, and its end.

All of it holds for `server` and for plain `uvicorn`, since it starts with the application. Under
another ASGI server there is no such process, and that server's own options have to do.
"""

import asyncio
import inspect
import ipaddress
import logging
import signal
import time
from collections import Counter
from types import FrameType
from typing import Any

import uvicorn

from stepwire.server.sessions import Sessions
from stepwire.server.settings import Settings

logger = logging.getLogger("stepwire.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What uvicorn takes as an option of its own, which wins where it is given.
_OPTIONS = {
    "ws_ping_interval": "ws_ping_interval_s",
    "ws_ping_timeout": "ws_ping_timeout_s",
    "timeout_keep_alive": "keep_alive_timeout_s",
}
# For connections that do not close: first here, when the grace is over, and then in uvicorn.
_LAST_WAIT_S = 1
_POLL_S = 0.02
# What a connection waits for, where that is no request that has begun.
_NOTHING, _FIRST_REQUEST, _ITS_END = object(), object(), object()


class Worker:
    """Set up when the application starts."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self._received: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def host(self) -> str:
        """The address or name that the server was told to listen on; empty when unknown."""
        config = self._server.config if self._server else None
        return config.host if config and config.uds is None and config.fd is None else ""

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can connect, as far as that is known."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def start(self) -> None:
        """Take the process in hand; called when the application starts."""
        # Its handler is the one thing of uvicorn's server that an application can get hold of.
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not isinstance(server, uvicorn.Server):
            return
        self._server = server
        self._loop = asyncio.get_running_loop()
        _set_limits(server.config, self._settings)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        self._run(self._close_slow_connections(server))

    def stop(self) -> None:
        """Let go of it; called when the application has stopped."""
        for task in self._tasks:
            task.cancel()

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Signals that come together, as from a parent that passes on what its group got, interrupt
        # each other's handlers anywhere: they are counted on the loop, one after the other.
        self._loop.call_soon_threadsafe(self._told_to_stop, number)

    def _told_to_stop(self, number: int) -> None:
        """Drain, and only then have uvicorn stop; give up waiting when asked a second time.

        Ctrl-C reaches the workers, and so does the SIGTERM that their parent sends on account of
        it: only the same signal is a second one.
        """
        assert self._server is not None
        self._received[number] += 1
        if self._received.total() == 1:
            self._run(self._drain(self._server, number))
        elif self._received[number] == 2:
            self._sessions.abort_drain()
        elif self._received[number] > 2:
            self._server.handle_exit(number, None)

    async def _drain(self, server: uvicorn.Server, number: int) -> None:
        try:
            logger.info("Stopping: no new sessions, %d open ones end", self._sessions.active)
            await self._sessions.drain()
            await self._wait_for_farewells(server)
        finally:
            if server.config.timeout_graceful_shutdown is None:
                server.config.timeout_graceful_shutdown = _LAST_WAIT_S
            server.handle_exit(number, None)

    async def _wait_for_farewells(self, server: uvicorn.Server) -> None:
        """Wait until clients have closed as well, which uvicorn does not when it stops.

        A connection that is cut before is reset by what its client sends just then, and what is
        still on its way to the client can be lost with it: answers to steps that were taken.
        """
        connections: set[Any] = server.server_state.connections
        # Not those that come from now on: clients that try again would be waited for without end.
        awaited = {connection for connection in connections if _is_websocket(connection)}
        least = time.monotonic() + _LAST_WAIT_S
        while awaited & connections:
            if time.monotonic() >= max(least, self._sessions.give_up_at):
                break
            await asyncio.sleep(_POLL_S)

    async def _close_slow_connections(self, server: uvicorn.Server) -> None:
        """Close what waits for a request, or for its own end, for too long; uvicorn never does."""
        timeout_s = self._settings.request_timeout_s
        connections: set[Any] = server.server_state.connections
        waiting: dict[Any, tuple[object, float]] = {}
        while True:
            await asyncio.sleep(min(timeout_s / 4, 5))
            now = self._loop.time()
            before, waiting = waiting, {}
            for connection in list(connections):
                awaited = _awaited(connection)
                if awaited is _NOTHING:
                    continue
                known, since = before.get(connection, (None, now))
                waiting[connection] = (awaited, since if known is awaited else now)
                if known is awaited and now - since >= timeout_s:
                    _end(connection.transport, awaited, timeout_s)


def _set_limits(config: uvicorn.Config, settings: Settings) -> None:
    parameters = inspect.signature(uvicorn.Config).parameters
    for option, name in _OPTIONS.items():
        if getattr(config, option) == parameters[option].default:
            setattr(config, option, getattr(settings, name))
    default = parameters["ws_max_size"].default
    if config.ws_max_size == default or config.ws_max_size > settings.max_message_bytes:
        config.ws_max_size = settings.max_message_bytes


def _is_websocket(connection: Any) -> bool:
    return not hasattr(connection, "cycle")  # of a request and its response


def _awaited(connection: Any) -> object:
    """What uvicorn's connection waits for: its end, or the next request or the rest of one.

    The next request is told by the one before; none before is the first.
    """
    if connection.transport.is_closing():
        return _ITS_END
    if _is_websocket(connection):
        return _NOTHING
    cycle: Any = connection.cycle
    if cycle is None:
        return _FIRST_REQUEST
    if cycle.response_complete:
        return _NOTHING if connection.timeout_keep_alive_task else cycle
    return cycle if cycle.more_body else _NOTHING


def _end(transport: asyncio.Transport, awaited: object, timeout_s: int) -> None:
    if awaited is _ITS_END:
        logger.debug("A client has not read what was sent to it for %d s", timeout_s)
        transport.abort()
    else:
        logger.debug("A request took more than %d s to arrive", timeout_s)
        transport.close()
