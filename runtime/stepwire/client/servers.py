# SPDX-License-Identifier: BSD-3-Clause
"""`Servers`: which server the sessions of a pool are opened on, and the queue while all are full.
`Place` is one session's place on one of them.

A server that answers `GET /sessions` tells how many places it has. Of any other, the pool learns by
trying: as long as it refuses no session, it has room. After a refusal it gets one session, and each
success lets two more in.

One session looks for a place at a time, in the order in which they asked. So the number of requests
does not grow with the number of sessions that wait.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from stepwire.client.addresses import server_address, websocket_url, without_secrets
from stepwire.client.calls import Call
from stepwire.client.endings import connect_failed
from stepwire.client.errors import (
    CapacityReachedError,
    ConnectFailedError,
    EnvClientError,
    InvalidOptionError,
    ServerError,
    UsageError,
)
from stepwire.client.loops import CallLock, Holder, in_thread, iterated_in_thread
from stepwire.client.messages import Episode
from stepwire.client.options import Options
from stepwire.client.server_places import Places, places_of

_FRESH_S = 1.0  # how long what a server told is relied on
_LOOK_TIMEOUT_S = 2.0  # the queue waits for it
_REACH_AGAIN_S = 10.0  # to look at an unreachable server even if others have places
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class Server:
    """What a pool knows of one server. Times are those of the monotonic clock."""

    def __init__(self, address: str) -> None:
        self.address = server_address(address)
        self.url = websocket_url(self.address)
        self.places: Places | None = None  # what it told
        self.free = 0.0  # places to give away until the next look
        self.pending = 0  # given away, and the server has not answered in that session
        self.given = 0  # to sessions that have not left
        self.refusal: EnvClientError | None = None  # why there is no place, if it said so
        self.is_careful = False  # after a refusal, where it does not tell its places
        self.has_served = False
        self.looked_at = self.look_at = 0.0
        self._pauses = _pauses()
        self._asking: futures.Future[Places | None] | None = None

    async def look(self, options: Options, assumed: int, *, asks: bool) -> None:
        """Find out how many places are free; a server that does not tell has `assumed` in all.

        Without `asks`, it is not asked.
        """
        self.looked_at = monotonic()
        if asks:
            timeout_s = min(options.connect_timeout_s, _LOOK_TIMEOUT_S)
            if self._asking is None or self._asking.done():  # a slow answer holds one thread only
                ask = partial(places_of, self.url, options.headers, timeout_s)
                self._asking = in_thread(ask)
            try:
                asking = asyncio.wrap_future(self._asking)
                self.places = await asyncio.wait_for(asking, timeout_s)
            except (OSError, asyncio.TimeoutError) as error:
                reason = str(getattr(error, "reason", error)) or f"no answer within {timeout_s:g} s"
                self.refuse(connect_failed(without_secrets(self.url), reason))
                return
            if self.is_unreachable:
                self.refusal = None
        if self.places is not None:
            self.free = self.places.free - self.pending
        elif self.refusal is not None or self.is_careful:
            self.free = max(self.free, 1.0)
        else:
            self.free = float(max(assumed - self.given, 1))
        # A place that is only tried, after a refusal, is no sign that there are others.
        is_known = self.free >= 1 and (self.refusal is None or self.places is not None)
        self.look_at = monotonic() + (_FRESH_S if is_known else next(self._pauses))

    def disown(self) -> None:
        """Forget the thread that asks: this process is a fork without it."""
        self._asking = None

    def give(self) -> None:
        """Give a place away."""
        self.free -= 1
        self.pending += 1
        self.given += 1

    def confirm(self, *, was_careful: bool) -> None:
        """Note that a session was opened; `was_careful` says how its place was given."""
        self.has_served = True
        if was_careful == self.is_careful:
            self.refusal = None
            self._pauses = _pauses()
            self.free += 2 * was_careful

    def refuse(self, error: EnvClientError) -> None:
        """Note that there is no place, for a while."""
        now = monotonic()
        if self.refusal is None or now >= self.look_at:  # of several together, the first
            self.look_at = now + next(self._pauses)
        self.looked_at, self.refusal, self.free = now, error, 0.0
        if self.is_unreachable:
            self.places = None  # another one may come back
        self.is_careful = self.places is None and not self.is_unreachable

    @property
    def is_unreachable(self) -> bool:
        """Whether the last attempt to reach it failed."""
        return isinstance(self.refusal, ConnectFailedError)

    @property
    def is_full(self) -> bool:
        """Whether it was reached and had no place."""
        return self.free < 1 and not self.is_unreachable


class Servers:
    """Gives places to the sessions of a pool: on the server with most of them free."""

    def __init__(self, addresses: Sequence[str], wait_s: float, sessions: int) -> None:
        """A session waits for a place for up to `wait_s` seconds; `sessions` is their number.

        Raises `InvalidOptionError` without an address, and for one that is not valid.
        """
        if not addresses:
            raise InvalidOptionError("`base_url` must be an address or a list of addresses.")
        self._all = [Server(address) for address in addresses]
        self._wait_s = wait_s
        self._sessions = sessions
        self._queue = CallLock()  # held by the session that looks for a place

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        shown = [without_secrets(server.address) for server in self._all]
        return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")

    def doubt(self) -> None:
        """Look at the servers again before the next place is given."""
        for server in self._all:
            server.look_at = min(server.look_at, monotonic())

    def disown(self) -> None:
        """Leave what is under way to the parent process: this process is a fork of it."""
        self._queue = CallLock()
        for server in self._all:
            server.disown()

    def are_sought_here(self) -> bool:
        """Whether the session that looks for a place does so on the loop that runs here."""
        return self._queue.is_held_here()

    async def choose(self, options: Options, asked_at: float) -> Server:
        """Wait for a free place, and give it, to a call that was made at `asked_at`.

        Raises `ConnectFailedError` at once if no server can be reached and none has ever been.
        Otherwise raises, when the time is over, `CapacityReachedError` or, if no server can be
        reached then, `ConnectFailedError`.
        """
        give_up_at = asked_at + self._wait_s
        queue, holder = self._queue, Holder(asyncio.get_running_loop())
        try:
            await queue.acquire(holder)
            while True:
                await self._look(options, asked_at)
                # At random among equals: other pools choose, too.
                freest = max(self._all, key=lambda server: (server.free, random.random()))
                if freest.free >= 1:
                    freest.give()
                    return freest
                is_hopeless = not any(each.is_full or each.has_served for each in self._all)
                if is_hopeless or monotonic() >= give_up_at:
                    raise self._no_place()
                wake_at = min(give_up_at, *(server.look_at for server in self._all))
                await asyncio.sleep(max(wake_at - monotonic(), 0.001))
        finally:
            holder.is_over = True
            queue.wake_next()

    async def _look(self, options: Options, asked_at: float) -> None:
        """Look at servers of which nothing recent is known."""
        now = monotonic()
        told = [server.free for server in self._all if server.places is not None]
        look = partial(
            Server.look,
            options=options,
            assumed=int(max([self._sessions, *told])),
            asks=len(self._all) > 1,
        )
        due = [
            server
            for server in self._all
            if now
            >= (server.looked_at + _REACH_AGAIN_S if server.is_unreachable else server.look_at)
        ]
        await asyncio.gather(*map(look, due))
        if all(server.free < 1 for server in self._all):
            # Only now those out of reach, which may take long, and all once for each call.
            due = [s for s in self._all if now >= s.look_at or s.looked_at < asked_at]
            await asyncio.gather(*map(look, due))

    def _no_place(self) -> EnvClientError:
        full = [server for server in self._all if server.is_full]
        refusals = [server.refusal for server in full or self._all if server.refusal is not None]
        if not full or (refusals and not self._wait_s):
            return refusals[0]  # as it came
        known = [places for server in full if (places := _places(server)) is not None]
        data: dict[str, object] = {"code": "CAPACITY_REACHED"}
        taken = ""
        if len(known) == len(full):
            data["active_sessions"] = sum(places.active for places in known)
            data["max_sessions"] = sum(places.limit for places in known)
            taken = f": {data['active_sessions']} of {data['max_sessions']}"
        if unreachable := len(self._all) - len(full):
            taken += f"; {unreachable} of {len(self._all)} servers cannot be reached"
        data["message"] = (
            f"No session was free within {self._wait_s:g} s{taken} (`capacity_wait_s` sets the "
            "limit)"
        )
        return CapacityReachedError(data, repr(self))


@dataclass(frozen=True)
class LostEpisode:
    """An episode that ended with its session, before the environment was done with it."""

    index: int
    """Of the session in its pool."""
    server: str
    """The address of its server, without secrets."""
    episode_id: str | None
    seed: int | None
    """As given to `reset`; `None` if none was."""
    steps: int
    """The number of steps whose results the pool returned. The next one may have been under way."""
    reason: str


class Place:
    """One session's place on one of the servers."""

    on_move: Callable[[str], None]
    """Gets the address of each server before a connection to it is opened."""

    def __init__(self, servers: Servers, index: int, lost: list[LostEpisode]) -> None:
        """`index` is the session's in its pool; its lost episodes are added to `lost`."""
        self._servers = servers
        self._index = index
        self._lost = lost
        self._server: Server | None = None
        self._is_pending = False  # until the server has answered in the session
        self._is_careful = False  # how the place was given
        self._stopping = 0  # servers in a row that opened no session

    async def find(self, call: Call[Any] | None, options: Options) -> str:
        """The WebSocket of a server that has a place; waits for one. See `Servers.choose`."""
        self.leave()
        asked_at = monotonic()
        if call is not None:
            asked_at = call.asked_at = call.asked_at or asked_at
        self._server = await self._servers.choose(options, asked_at)
        self._is_pending, self._is_careful = True, self._server.is_careful
        self.on_move(self._server.address)
        return self._server.url

    def find_blocking(self, call: Call[Any] | None, options: Options) -> str:
        """`find` for callers without an event loop, or that block theirs.

        Raises what `require_not_sought_here` does.
        """
        self.require_not_sought_here()

        async def found() -> AsyncGenerator[str, None]:
            yield await self.find(call, options)

        (url,) = iterated_in_thread(found)
        return url

    def is_sought_here(self) -> bool:
        """Whether a session of the pool looks for a place on the loop that runs here."""
        return self._servers.are_sought_here()

    def require_not_sought_here(self) -> None:
        """Raise `UsageError` if looking for a place, blocking, has no end."""
        if self.is_sought_here():
            raise UsageError(
                "A session of the same pool looks for a server on this event loop; blocking here "
                "would block that one forever. Await the result instead."
            )

    def confirm(self) -> None:
        """Note that the server has answered in the session."""
        if self._is_pending and self._server is not None:
            self._server.confirm(was_careful=self._is_careful)
            self._settle()

    def is_refused_by(self, error: BaseException) -> bool:
        """Note why a call failed; returns whether the session is to `find` another place."""
        server = self._server
        if server is None or not self._is_pending:
            return False
        is_stopping = isinstance(error, ServerError) and error.code == "SESSION_ERROR"
        self._stopping += is_stopping
        if isinstance(error, CapacityReachedError | ConnectFailedError) or (
            is_stopping and self._stopping < len(self._servers)
        ):
            server.refuse(error)  # type: ignore[arg-type] # it is one of the three
            self.leave()
            return True
        if isinstance(error, ServerError):  # which is an answer
            self.confirm()
        self._settle()
        return False

    def lose(self, episode: Episode, reason: str) -> None:
        """Note that the session was lost, and the episode with it if it was running."""
        if self._server is None:
            return
        if episode.is_running:
            server = without_secrets(self._server.address)
            told = (episode.id, episode.seed, episode.steps, reason)
            self._lost.append(LostEpisode(self._index, server, *told))
        self._servers.doubt()
        self.leave()

    def disown(self) -> None:
        """Leave the search for a place to the parent process: this process is a fork of it."""
        self._servers.disown()

    def leave(self) -> None:
        """Give the place back."""
        if self._server is not None:
            self._server.given -= 1
            if self._is_pending:
                self._server.pending -= 1
        self._server, self._is_pending = None, False

    def _settle(self) -> None:
        self._stopping = 0
        if self._is_pending and self._server is not None:
            self._server.pending -= 1
        self._is_pending = False


def _places(server: Server) -> Places | None:
    """The places of a full server, from what it told or from its refusal."""
    if server.places is not None:
        return server.places
    active = getattr(server.refusal, "active_sessions", None)
    limit = getattr(server.refusal, "max_sessions", None)
    return None if active is None or limit is None else Places(active, limit)


def _pauses() -> Iterator[float]:
    """Pauses between looks at a server without a place: doubling, with jitter, without end."""
    pause = _FIRST_PAUSE_S
    while True:
        # Clients that were refused together must not come back together.
        yield pause * random.uniform(0.5, 1.5)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
