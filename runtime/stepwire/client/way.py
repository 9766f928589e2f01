# SPDX-License-Identifier: BSD-3-Clause
"""`Way`: how a session gets a connection, and what it does when a server refuses it."""

from collections.abc import Callable
from typing import Any

from stepwire.client.addresses import RedirectedError, Target
from stepwire.client.calls import Call, pauses, weak_method
from stepwire.client.connection import Connection
from stepwire.client.errors import CapacityReachedError
from stepwire.client.exchange import Exchange
from stepwire.client.loops import run_in_thread
from stepwire.client.messages import Episode
from stepwire.client.options import Options
from stepwire.client.servers import Place
from stepwire.client.traces import span_headers


class Way:
    """The way from a session to its server, or to one of those of a pool."""

    place: Place | None = None
    """Where a pool chooses the server of each connection."""

    def __init__(
        self, url: str, options: Options, find_server: Callable[[], str] | None = None
    ) -> None:
        """`find_server` returns the `url` to use from then on, before each connection."""
        self.url = url
        self._options = options
        self._find_server = find_server and weak_method(find_server)

    def open(self, call: Call[Any] | None) -> Connection:
        """A connection for a call, or for none in particular; blocks.

        Raises `ConnectFailedError`, `CapacityReachedError` where a pool finds no place in time, and
        what starting the server raises.
        """
        if self.place is not None:
            self.url = self.place.find_blocking(call, self._options)
        elif self._find_server is not None:
            self.url = self._find_server()
        target = self._target()
        while True:
            try:
                return Connection.open(*self._to(target))
            except RedirectedError as redirect:
                target.follow(redirect)

    async def open_async(self, call: Call[Any] | None) -> Connection:
        """`open` without blocking the event loop."""
        if self.place is not None:
            self.url = await self.place.find(call, self._options)
        elif self._find_server is not None:
            self.url = await run_in_thread(self._find_server)  # starting one takes long
        target = self._target()
        while True:
            try:
                return await Connection.open_async(*self._to(target))
            except RedirectedError as redirect:
                target.follow(redirect)

    def pause_after(self, error: BaseException, call: Call[Any]) -> float | None:
        """The seconds until another connection may be tried; `None` if none is to be."""
        if self.place is not None:
            return 0.0 if self.place.is_refused_by(error) else None  # the place is what waits
        if isinstance(error, CapacityReachedError):
            call.pauses = call.pauses or pauses(self._options.capacity_wait_s)
            return next(call.pauses, None)
        return None

    def is_sought_here(self) -> bool:
        """Whether a blocking `open` would wait for a session of the pool on the loop that runs."""
        return self.place is not None and self.place.is_sought_here()

    def require_not_sought_here(self) -> None:
        """Raise `UsageError` if a blocking `open` would do so."""
        if self.place is not None:
            self.place.require_not_sought_here()

    # What the `Place` of a pool's session is told. Other sessions have no place.

    def confirm(self) -> None:
        if self.place is not None:
            self.place.confirm()

    def lose(self, episode: Episode, why: str) -> None:
        if self.place is not None:
            self.place.lose(episode, why)

    def leave(self) -> None:
        if self.place is not None:
            self.place.leave()

    def disown(self) -> None:
        if self.place is not None:
            self.place.disown()

    def _target(self) -> Target:
        return Target(self.url, self._options.headers, self._options.connect_timeout_s)

    def _to(self, target: Target) -> tuple[Exchange, dict[str, str], float]:
        exchange = Exchange(target.url, self._options.max_message_size, self._options.ping)
        return exchange, {**span_headers(), **target.headers}, target.timeout_s
