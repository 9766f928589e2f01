# SPDX-License-Identifier: BSD-3-Clause
"""uvicorn's WebSocket protocol without its pause at every message.

uvicorn stops reading the socket when a message has arrived and starts again when the application
has taken it: two system calls for each step. A client waits for its reply before it sends on, so
here reading stops only when messages pile up, or when one is large.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from echo_env.server.websocket_api import TRANSPORT

_MOST_WAITING = 8
_LARGE = 64 * 1024


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """For uvicorn's option `ws`, by its import path."""

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake (called by uvicorn)."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[TRANSPORT] = {"transport": self.transport}

    def send_receive_event_to_app(self) -> None:
        """Hand a complete message to the application (called by uvicorn)."""
        small = sum(map(len, self.frames)) <= _LARGE
        if self.read_paused or not small or self.queue.qsize() >= _MOST_WAITING:
            super().send_receive_event_to_app()
            return
        self.read_paused = True  # taken for paused already, uvicorn does not pause
        super().send_receive_event_to_app()
        self.read_paused = False
