# SPDX-License-Identifier: BSD-3-Clause
"""`Conversation`: a raw WebSocket, so that a test sees exactly what a server sends."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typing_extensions import Self
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


class Conversation:
    """One WebSocket connection: frames are sent as they are given and returned parsed.

    `connection` is the one of `websockets`, whose exceptions these methods raise.
    """

    def __init__(self, connection: ClientConnection, timeout_s: float = 120.0) -> None:
        self.connection = connection
        self._timeout_s = timeout_s

    @classmethod
    @contextmanager
    def open(cls, url: str, **options: Any) -> Iterator[Self]:
        """Connect to `url`; `options` are those of `websockets.sync.client.connect`."""
        plain: dict[str, Any] = {
            "compression": None,
            "max_size": None,
            "proxy": None,
            "ping_interval": None,
            "open_timeout": 60.0,
        }
        connection = connect(url, **{**plain, **options})
        with connection:
            yield cls(connection)

    def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def receive(self) -> Any:
        """The next frame, parsed."""
        return json.loads(self.connection.recv(timeout=self._timeout_s))

    def ask(self, frame: Any) -> Any:
        """Send one frame and return the next."""
        self.send(frame)
        return self.receive()

    def step(self, **action: Any) -> Any:
        """Take one step and return its frame; the keywords are the action's fields."""
        return self.ask({"type": "step", "data": action})

    def close_code(self) -> int | None:
        """Wait until the server closes the connection; `None` if it sends no close frame.

        Raises `AssertionError` when the server sends another frame.
        """
        try:
            frame = self.connection.recv(timeout=self._timeout_s)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code
        raise AssertionError(f"The server sent another frame before it closed: {frame!r:.300}")
