# SPDX-License-Identifier: BSD-3-Clause
"""The uvicorn process that runs the application: what it listens on, and when it is to stop."""

import ipaddress
import signal

import uvicorn


class Worker:
    """Found when the application starts; under another server than uvicorn there is none."""

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None

    def start(self) -> None:
        """Find the server; called from the application's lifespan."""
        # Its handler is the one thing of it that an application can get hold of.
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        self._server = server if isinstance(server, uvicorn.Server) else None

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
