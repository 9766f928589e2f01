# SPDX-License-Identifier: BSD-3-Clause
"""The limits of the uvicorn server that runs the application, and how it stops."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from uvicorn import Config, Server

from stepwire.server.sessions import Sessions
from stepwire.server.settings import Settings
from stepwire.server.uvicorn_host.internals import (
    Awaited,
    HttpToolsProtocol,
    awaited_by,
    awaits_close,
    default_option,
    has_begun,
    has_default_websockets,
    is_in_handshake,
    mark_as_ended,
    open_connections,
    request_exit,
    take_connection,
)
from stepwire.server.uvicorn_host.pressure import Pressure
from stepwire.server.workers import joined

logger = logging.getLogger("stepwire.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# uvicorn's options and our settings for the same; an option that is set wins.
_OPTIONS = {
    "ws_ping_interval": "ws_ping_interval_s",
    "ws_ping_timeout": "ws_ping_timeout_s",
    "timeout_keep_alive": "keep_alive_timeout_s",
}
# Seconds that a stopping server waits for clients to close, and then again in uvicorn.
_LAST_WAIT_S = 1
_POLL_S = 0.02


class Lifecycle:
    """Applies our limits and signal handlers to a running uvicorn server."""

    def __init__(self, server: Server, sessions: Sessions, settings: Settings) -> None:
        """Call this on the event loop, after uvicorn has installed its signal handlers."""
        self._server = server
        self._sessions = sessions
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._received: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_calls_ended = True
        _set_limits(server.config, settings)
        _use_our_protocols(server.config, settings)
        Pressure(open_connections(server))
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        self._run(self._close_slow_connections())
        self._workers = joined()
        if self._workers is not None:
            self._workers.listen(partial(take_connection, server))
            self._workers.accept(True)
        if parent := parent_process():
            threading.Thread(target=self._stop_after, args=(parent,), daemon=True).start()

    def stop(self) -> None:
        """Cancel the background tasks."""
        for task in self._tasks:
            task.cancel()
        if self._workers is not None:
            self._workers.close()
        if not self._all_calls_ended:
            threading.Thread(target=_end_process, args=(self._loop,), daemon=True).start()

    def _run(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A parent process passes on the signals that its process group gets, so two can arrive
        # together and one handler can interrupt the other anywhere. The loop handles them in turn.
        self._loop.call_soon_threadsafe(self._handle_signal, number)

    def _stop_after(self, parent: BaseProcess) -> None:
        """Stop if the parent process has ended without a signal, as when it was killed."""
        parent.join()
        with suppress(RuntimeError):  # the loop is closed: the server has stopped already
            self._loop.call_soon_threadsafe(self._handle_signal, signal.SIGTERM)

    def _handle_signal(self, number: int) -> None:
        """Drain at the first signal, stop waiting at the second, leave the third to uvicorn.

        Ctrl-C reaches the workers and makes their parent send SIGTERM as well. So only a repetition
        of the same signal counts as the second.
        """
        self._received[number] += 1
        if self._received.total() == 1:
            if self._workers is not None:
                self._workers.accept(False)
            self._run(self._drain(number))
        elif self._received[number] == 2:
            self._sessions.abort_drain()
        elif self._received[number] > 2:
            request_exit(self._server, number)

    async def _drain(self, number: int) -> None:
        try:
            logger.info("Stopping: %s", _what_ends(self._sessions.active))
            await self._answer_handshakes()
            self._all_calls_ended = await self._sessions.drain()
            await self._wait_for_clients_to_close()
        finally:
            config = self._server.config
            if config.timeout_graceful_shutdown is None:
                config.timeout_graceful_shutdown = _LAST_WAIT_S
            for connection in open_connections(self._server):
                if not has_begun(connection):
                    mark_as_ended(connection)
            request_exit(self._server, number)

    async def _answer_handshakes(self) -> None:
        """Let those that have reached the application open sessions where other workers go on.

        Later ones are handed to the other workers.
        """
        for _ in range(round(_LAST_WAIT_S / _POLL_S)):
            if not self._sessions.places.others_accept:
                break
            if not any(map(is_in_handshake, open_connections(self._server))):
                break
            await asyncio.sleep(_POLL_S)

    async def _wait_for_clients_to_close(self) -> None:
        """Wait until clients have answered our close frames, which uvicorn does not do.

        If a client is still sending when its connection is cut, the system resets the connection.
        The client can then lose answers that it has not read yet.
        """
        connections = open_connections(self._server)
        # Only those that have been sent one, and are open now: clients that reconnect would make
        # this wait without end. uvicorn closes all others, such as those of an author's routes.
        awaited = {connection for connection in connections if awaits_close(connection)}
        least = time.monotonic() + _LAST_WAIT_S
        while awaited & connections:
            if time.monotonic() >= max(least, self._sessions.give_up_at):
                break
            await asyncio.sleep(_POLL_S)

    async def _close_slow_connections(self) -> None:
        """Close connections that wait too long for a request or for their client to close.

        uvicorn has no such limits.
        """
        timeout_s = self._settings.request_timeout_s
        connections = open_connections(self._server)
        waiting: dict[Any, tuple[object, float]] = {}
        while True:
            await asyncio.sleep(min(timeout_s / 4, 5))
            now = self._loop.time()
            before, waiting = waiting, {}
            for connection in list(connections):
                awaited = awaited_by(connection)
                if awaited is Awaited.NOTHING:
                    continue
                known, since = before.get(connection, (None, now))
                waiting[connection] = (awaited, since if known == awaited else now)
                if known != awaited or now - since < timeout_s:
                    continue
                if awaited is Awaited.CLOSE or isinstance(awaited, int):
                    logger.debug("A client read nothing of its replies for %d s", timeout_s)
                    connection.transport.abort()
                else:
                    logger.debug("A request took more than %d s to arrive", timeout_s)
                    connection.transport.close()


def _end_process(loop: asyncio.AbstractEventLoop) -> None:
    """End the process if a thread keeps the loop or the interpreter from ending.

    An abandoned call may run in a thread of asyncio or AnyIO, as the tools of FastMCP do. Both wait
    for their threads without a limit.
    """
    time.sleep(_LAST_WAIT_S)
    while loop.is_closed() and threading.main_thread().is_alive():
        time.sleep(_LAST_WAIT_S)  # the program goes on after its server
    logger.warning("An abandoned call is still running: the process ends without it")
    logging.shutdown()
    os._exit(0)


def _set_limits(config: Config, settings: Settings) -> None:
    for option, name in _OPTIONS.items():
        if getattr(config, option) == default_option(option):
            setattr(config, option, getattr(settings, name))
    default = default_option("ws_max_size")
    if config.ws_max_size == default or config.ws_max_size > settings.max_message_bytes:
        config.ws_max_size = settings.max_message_bytes


def _use_our_protocols(config: Config, settings: Settings) -> None:
    """Use them for new connections; uvicorn listens only once the application has started."""
    if config.http_protocol_class is HttpToolsProtocol:
        from stepwire.server.uvicorn_host.http_protocol import HttpProtocol

        config.http_protocol_class = HttpProtocol
    if has_default_websockets(config) and settings.websocket_protocol == "fast":
        from stepwire.server.uvicorn_host.websocket_protocol import WebSocketProtocol

        config.ws_protocol_class = WebSocketProtocol
        config.ws_per_message_deflate = False  # as in `command_line.py`


def _what_ends(sessions: int) -> str:
    match sessions:
        case 0:
            return "no session is open"
        case 1:
            return "the open session ends after its current call"
        case _:
            return f"{sessions} open sessions end after their current calls"
