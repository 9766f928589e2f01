# SPDX-License-Identifier: BSD-3-Clause
"""The sessions of one worker process: how many are open, which are idle, and how they are ended.

The capacity is that of the server: its workers share their places (`workers.py`).

An HTTP request without a session gets an environment of its own, which is closed when the request
ends.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

from openenv.core.env_server.exceptions import OpenEnvError, SessionCapacityError
from openenv.core.env_server.types import WSErrorCode

from stepwire.server.calling import steps_in_thread
from stepwire.server.capacity import Capacity
from stepwire.server.errors import StoppingError
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.logs import current_session
from stepwire.server.observing.metrics import OPENED, counts, note_refusal
from stepwire.server.places import Places
from stepwire.server.session import Session
from stepwire.server.session_factory import SessionFactory
from stepwire.server.settings import Settings

logger = logging.getLogger("stepwire.server")

_SWEEPS_PER_TIMEOUT = 8
_LONGEST_SWEEP_S = 30.0
_POLL_S = 0.02
_ABANDONED_GRACE_S = 1.0  # for abandoned sessions to finish


class Sessions:
    """The sessions of one worker process."""

    def __init__(
        self,
        factory: EnvironmentFactory,
        settings: Settings,
        action_cls: Any,
        capacity: int | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        """Without `capacity` or `idle_timeout_s`: those of the settings.

        Raises `ConcurrencyConfigurationError` when `capacity` is above 1 and the environment's
        class does not declare `SUPPORTS_CONCURRENT_SESSIONS`.
        """
        self._factory = SessionFactory(factory, action_cls, settings)
        self._capacity = Capacity(factory, capacity, settings.max_concurrent_envs)
        self.draining = False
        self.give_up_at = math.inf  # when `drain` stops waiting, by `time.monotonic`
        self._grace_s = settings.shutdown_grace_s
        self._idle_limit = (
            ("SESSION_IDLE_TIMEOUT_S", settings.session_idle_timeout_s)
            if idle_timeout_s is None
            else ("session_timeout", idle_timeout_s)
        )
        self._open: dict[str, Session] = {}
        self._opening = 0
        self._closing: set[asyncio.Task[None]] = set()
        # What bounds the threads of requests; those of sessions are bounded by the capacity.
        self._request_threads = asyncio.Semaphore(settings.worker_threads)
        self._requests: set[asyncio.Task[Any]] = set()
        self._uncounted: list[Session] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def capacity(self) -> int:
        """Sessions that may be open at once, in all workers together."""
        return self._capacity.limit

    @property
    def is_single(self) -> bool:
        """Whether the environment's class is known to allow one session at a time."""
        return self._capacity.is_known and self.capacity == 1

    @property
    def places(self) -> Places:
        """The places for these sessions and for those of other workers."""
        return self._capacity.places

    @property
    def idle_timeout_s(self) -> float:
        """Seconds until an idle session is closed."""
        return self._idle_limit[1]

    @property
    def active(self) -> int:
        """This worker's sessions whose environment is being made, open or not closed yet."""
        return len(self._open) + self._opening + len(self._closing)

    @property
    def active_in_server(self) -> int:
        """Such sessions of all workers."""
        return self.active + self.places.elsewhere

    def find_shared(self, session_id: Any) -> Session | None:
        """The session with this id, for a client that sends the id.

        This is the only way to a session by its id. A session that a connection opened answers to
        that connection only, so it is not found.
        """
        session = self._open.get(session_id) if isinstance(session_id, str) else None
        return session if session is not None and session.is_shared else None

    async def open(self) -> Session:
        """Open a session with an environment of its own.

        Raises `SessionCapacityError` at capacity, `EnvironmentFactoryError` when the environment's
        constructor raises, `StoppingError` when the server is stopping.
        """
        try:
            if self._capacity.is_known:
                return await self._open_one()
            async with self._capacity.finding_out():
                return await self._open_one()
        except OpenEnvError as error:
            note_refusal(error)
            raise

    async def _open_one(self) -> Session:
        while not self._take_place():  # noqa: ASYNC110 - another process is awaited
            await asyncio.sleep(_POLL_S)
        try:
            session = await self._factory.create_lasting()
            self._open[session.id] = session
            counts[OPENED] += 1
        finally:
            self._opening -= 1
            self._count()
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return session

    def _take_place(self) -> bool:
        """Take a place; `False` while another worker opens the first session of a new class."""
        if self.draining:
            raise StoppingError
        with self.places.locked() as elsewhere:
            if elsewhere and not self._capacity.is_known_anywhere:
                return False
            active = self.active + elsewhere
            if active >= self.capacity:
                raise SessionCapacityError(active, self.capacity)
            self._opening += 1
            self.places.count(self.active)
            return True

    def _count(self, _: Any = None) -> None:
        self.places.count(self.active)

    async def close(self, session: Session) -> None:
        """Close the environment once its calls have ended; a second call does nothing.

        From now on the session is not found. Its slot is free when the environment is closed, even
        if the caller is cancelled before.
        """
        if self._open.pop(session.id, None) is None:
            return
        left_s = max(0.0, self.give_up_at - time.monotonic()) + _ABANDONED_GRACE_S
        await asyncio.wait(
            [self._begin_closing(session)], timeout=left_s if self.draining else None
        )

    def _begin_closing(self, session: Session) -> asyncio.Task[None]:
        closing = asyncio.create_task(session.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        closing.add_done_callback(self._count)
        return closing

    async def open_uncounted(self) -> Session:
        """A session that does not count towards the capacity and ends with the server.

        It is for a page; its requests are made within `request`. Its tools are not held open: as on
        the framework's page, a step may run an event loop of its own.
        """
        session = await self._factory.create(for_page=True)
        self._uncounted.append(session)
        return session

    @asynccontextmanager
    async def temporary(self) -> AsyncIterator[Session]:
        """A session for a single request. It does not count towards the capacity.

        Raises `StoppingError` when the request outlasts the grace period of a stopping server.
        """
        in_thread = steps_in_thread(self._factory.expected_cls)
        async with self.awaited(), self._request_threads if in_thread else nullcontext():
            session = await self._factory.create()
            with _named_in_log(session):
                try:
                    async with session.in_use():
                        yield session
                finally:
                    if session.is_in_use:  # its call continues, although its caller was cancelled
                        self._begin_closing(session)
                    else:
                        await session.close()

    @asynccontextmanager
    async def request(self, session: Session) -> AsyncIterator[None]:
        """A request to a session without a connection, which a stopping server waits for.

        Raises `StoppingError` when it outlasts the grace period.
        """
        async with self.awaited():
            with _named_in_log(session):
                async with session.in_use():
                    yield

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """A request that a stopping server waits for.

        Raises `StoppingError` when it outlasts the grace period.
        """
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.draining:
                raise
            raise StoppingError from None
        finally:
            self._requests.discard(task)

    async def drain(self) -> bool:
        """Open no more sessions and end the open ones, each when its call has returned.

        Calls that have not returned after the grace period are abandoned; the result is `False`
        where there are any.
        """
        self.draining = True
        self.give_up_at = min(self.give_up_at, time.monotonic() + self._grace_s)
        for session in list(self._open.values()):
            if not session.is_in_use:
                self._end(session, 1012, str(StoppingError()))
        if await self._is_over():
            return True
        await self._abandon_all()
        return False

    def abort_drain(self) -> None:
        """Abandon at once what `drain` waits for or will wait for."""
        self.give_up_at = 0.0

    async def aclose(self) -> None:
        """Close all remaining sessions, when the server shuts down."""
        while self._open:
            self._begin_closing(self._open.popitem()[1])
        closings = [asyncio.create_task(session.close()) for session in self._uncounted]
        closings += self._closing
        if closings:
            timeout_s = _ABANDONED_GRACE_S if self.draining else self._grace_s
            await asyncio.wait(closings, timeout=timeout_s)
        self._uncounted.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._factory.close()

    async def _is_over(self) -> bool:
        """Wait until no session or request is left; `False` when time is up first."""
        while busy := self.active or self._requests:
            if time.monotonic() >= self.give_up_at:
                break
            await asyncio.sleep(_POLL_S)
        return not busy

    async def _abandon_all(self) -> None:
        left = list(self._open.values())
        number = len(left) + len(self._requests)
        logger.warning("Giving up %d sessions and requests that do not end", number)
        for task in self._requests:
            task.cancel()
        connections = [session.connection for session in left if session.connection is not None]
        farewells = [self._end(session, 1012, str(StoppingError())) for session in left]
        if farewells:
            await asyncio.wait(farewells, timeout=_ABANDONED_GRACE_S)
        for connection in connections:
            connection.abandon()
        self.give_up_at = time.monotonic() + _ABANDONED_GRACE_S
        await self._is_over()

    def _end(
        self, session: Session, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> "asyncio.Task[None]":
        farewell = session.end(code, reason, error)
        task = asyncio.create_task(self.close(session) if farewell is None else farewell)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _sweep(self) -> None:
        """End idle sessions; one task for all of them, which ends when none is open."""
        name, timeout_s = self._idle_limit
        reason = f"The session was idle for {timeout_s} seconds ({name})"
        error = {"message": reason, "code": WSErrorCode.SESSION_ERROR}
        while self._open:
            await asyncio.sleep(min(timeout_s / _SWEEPS_PER_TIMEOUT, _LONGEST_SWEEP_S))
            now = time.monotonic()
            for session in list(self._open.values()):
                if session.idle_s(now) >= timeout_s:
                    logger.info("Session %s was idle for %s seconds", session.id, timeout_s)
                    self._end(session, 1001, reason, error)
        self._sweeper = None


@contextmanager
def _named_in_log(session: Session) -> Iterator[None]:
    """Log lines in the meantime name the session."""
    token = current_session.set(session)
    try:
        yield
    finally:
        current_session.reset(token)
