# SPDX-License-Identifier: BSD-3-Clause
"""The process that runs the application, as far as the application knows it.

What this does starts with the application, so it holds for the `server` command and for plain
`uvicorn`. Under another ASGI server nothing here applies; that server's own options do.
"""

import ipaddress
import sys
from multiprocessing import current_process
from typing import TYPE_CHECKING

from stepwire.server.logs import announce_pages, logger
from stepwire.server.sessions import Sessions
from stepwire.server.settings import Settings
from stepwire.server.uvicorn_host.early_signals import note_serving
from stepwire.server.workers import joined

if TYPE_CHECKING:
    from stepwire.server.uvicorn_host.lifecycle import Lifecycle


class Worker:
    """One of the server's processes; imports nothing of uvicorn unless uvicorn runs it."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._lifecycle: Lifecycle | None = None
        self.host = ""
        """The address or name that the server listens on; empty when unknown."""

    @property
    def is_on_loopback(self) -> bool:
        """Whether the server is known to accept connections from this machine only."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def start(self) -> None:
        """Apply our limits and signal handlers; called when the application starts."""
        if sys.modules.get("uvicorn") is None:
            return
        from stepwire.server.uvicorn_host.internals import running_server
        from stepwire.server.uvicorn_host.lifecycle import Lifecycle

        server = running_server()
        if server is None:
            return
        note_serving()
        if server.config.uds is None and server.config.fd is None:
            self.host = server.config.host
        announce_pages(self._settings)
        if server.config.workers > 1 and current_process().name == "SpawnProcess-1":
            self._warn_of_limits(server.config.workers)
        self._lifecycle = Lifecycle(server, self._sessions, self._settings)

    def _warn_of_limits(self, workers: int) -> None:
        """Log what the workers of this server are not able to do; one of them does."""
        if joined() is None:
            logger.warning(
                "These %d workers share no places: each has a limit on sessions of its own, "
                "/sessions and /metrics tell of one, and a session created over MCP is known to "
                "its worker only. Workers of the `server` command, on Linux, share all of that",
                workers,
            )
        elif self._sessions.is_single:
            logger.warning(
                "The environment allows one session at a time, in all %d workers together", workers
            )

    def stop(self) -> None:
        """Cancel the background tasks; called when the application has stopped."""
        if self._lifecycle is not None:
            self._lifecycle.stop()
