# SPDX-License-Identifier: BSD-3-Clause
"""Sessions: who has an environment at the moment, up to which number, and how it is called.

One WebSocket connection is one session is one environment instance. An HTTP request without a
session gets an environment of its own, which is closed when the request ends.
"""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from openenv.core.env_server.exceptions import (
    ConcurrencyConfigurationError,
    EnvironmentFactoryError,
    SessionCapacityError,
)
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State, WSErrorCode

from stepwire.server.errors import StoppingError, log_failure
from stepwire.server.logs import current_session
from stepwire.server.settings import Settings
from stepwire.server.threads import DaemonThreads

logger = logging.getLogger("stepwire.server")

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]

# How often idle sessions are looked for: a fraction of their time, and never seldom.
_SWEEPS_PER_TIMEOUT = 8
_LONGEST_SWEEP_S = 30.0
_POLL_S = 0.02
_LAST_WAIT_S = 1.0  # for what was given up to be over


class Connection(Protocol):
    """What a session is used through, as it is ended from elsewhere."""

    def end(
        self, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Take no further frame; send an error frame, if any, and close."""

    def abandon(self) -> None:
        """End at once, in the middle of whatever it does."""


@dataclass(frozen=True)
class _CallingConvention:
    """How an environment class wants to be called; found out once, not at every step."""

    reset_is_async: bool
    step_is_async: bool
    reset_accepts: frozenset[str] | None  # None: any keyword
    step_accepts: frozenset[str] | None

    @classmethod
    def of(cls, environment_cls: type[AnyEnvironment]) -> "_CallingConvention":
        reset_is_async = environment_cls.reset_async is not Environment.reset_async
        step_is_async = environment_cls.step_async is not Environment.step_async
        return cls(
            reset_is_async,
            step_is_async,
            _accepted(environment_cls.reset_async if reset_is_async else environment_cls.reset),
            _accepted(environment_cls.step_async if step_is_async else environment_cls.step),
        )


def _accepted(method: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(method).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters) - {"self", "action"}


def _only(accepted: frozenset[str] | None, arguments: dict[str, Any]) -> dict[str, Any]:
    if accepted is None:
        return arguments
    return {name: value for name, value in arguments.items() if name in accepted}


@dataclass(eq=False, slots=True)
class Session:
    """One environment and the calls to it. Calls must come one after the other."""

    environment: AnyEnvironment
    _convention: _CallingConvention
    _run_in_thread: Callable[..., Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    created_at: float = field(default_factory=time.time)
    # A session created over MCP may be attached to by one WebSocket at a time.
    attached: bool = False
    closing: bool = False
    connection: Connection | None = None
    # Calls in flight, and when the sweeper first saw that there were none since it last looked.
    calls: int = 0
    quiet_since: float | None = None
    # A call that was given up may still run in its thread.
    abandoned: bool = False

    @property
    def episode_id(self) -> str | None:
        """For log lines, so without any error."""
        try:
            return self.state().episode_id
        except Exception:  # noqa: BLE001 - an environment's state may fail in any way
            return None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A call that does not come through the session's own connection."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            self.quiet_since = None

    async def reset(self, arguments: dict[str, Any]) -> Observation:
        """Start an episode; arguments the environment does not take are left out."""
        arguments = _only(self._convention.reset_accepts, arguments)
        if self._convention.reset_is_async:
            return await self.environment.reset_async(**arguments)  # type: ignore[no-any-return]
        return await self._run_in_thread(partial(self.environment.reset, **arguments))  # type: ignore[no-any-return]

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, Observation]:
        """Take one step; what the environment raises is raised where this is awaited."""
        convention = self._convention
        accepted = _only(convention.step_accepts, arguments) if arguments else {}
        if convention.step_is_async:
            return self.environment.step_async(action, **accepted)
        return self._run_in_thread(partial(self.environment.step, action, **accepted))  # type: ignore[no-any-return]

    def state(self) -> State:
        return self.environment.state  # type: ignore[no-any-return]

    async def dump_state(self) -> dict[str, Any]:
        """What another session of the same class resumes this episode from."""
        return await self.call(self.environment.dump_state)  # type: ignore[attr-defined, no-any-return]

    async def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `dump_state` of another session left off."""
        await self.call(self.environment.load_state, state)  # type: ignore[attr-defined]

    async def call(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        """Call what else the environment offers, where its steps are called."""
        if self._convention.step_is_async:
            return function(*arguments, **keywords)
        return await self._run_in_thread(partial(function, *arguments, **keywords))


class Sessions:
    """The sessions of one worker process."""

    def __init__(
        self,
        factory: Callable[[], AnyEnvironment],
        capacity: int | None,
        settings: Settings,
        session_cls: type[Session] = Session,
    ) -> None:
        """Without `capacity`: the setting, or 1 where the environment supports no more.

        Raises `ConcurrencyConfigurationError` when `capacity` is above 1 and the environment's
        class does not declare `SUPPORTS_CONCURRENT_SESSIONS`.
        """
        environment_cls: type[AnyEnvironment] = (
            factory if isinstance(factory, type) else type(_probe(factory))
        )
        concurrent = environment_cls.SUPPORTS_CONCURRENT_SESSIONS
        if capacity is None:
            capacity = settings.max_concurrent_envs if concurrent else 1
        elif capacity > 1 and not concurrent:
            raise ConcurrencyConfigurationError(environment_cls.__name__, capacity)
        self.capacity = capacity
        self.draining = False
        self.environment_cls = environment_cls
        self._factory = factory
        self._session_cls = session_cls
        self._factory_name = getattr(factory, "__name__", type(factory).__name__)
        self._conventions: dict[type, _CallingConvention] = {}
        self._construct_in_thread = not self._convention(environment_cls).step_is_async
        single = environment_cls.REQUIRES_SINGLE_THREAD_EXECUTOR
        # Threads are started when first needed; an environment with async methods needs none.
        self._threads = DaemonThreads(1 if single else settings.worker_threads, "environment")
        self._grace_s = settings.shutdown_grace_s
        self.give_up_at = 0.0  # when `drain` does, by `time.monotonic`
        self._idle_timeout_s = settings.session_idle_timeout_s
        self._open: dict[str, Session] = {}
        self._opening = 0
        self._closing = 0
        self._requests: dict[asyncio.Task[Any], Session] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> int:
        """Sessions open or being opened."""
        return len(self._open) + self._opening

    def get(self, session_id: str) -> Session | None:
        return self._open.get(session_id)

    async def open(self) -> Session:
        """Open a session with an environment of its own.

        Raises `SessionCapacityError` at capacity, `EnvironmentFactoryError` when the environment's
        constructor raises, `StoppingError` when the server has been told to stop.
        """
        if self.draining:
            raise StoppingError
        if self.active >= self.capacity:
            raise SessionCapacityError(self.active, self.capacity)
        self._opening += 1
        try:
            session = await self._create()
            self._open[session.id] = session
        finally:
            self._opening -= 1
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return session

    async def close(self, session: Session) -> None:
        """Close the session's environment and free its slot; a second call does nothing."""
        if self._open.pop(session.id, None) is not None:
            await self._close_environment(session)

    @asynccontextmanager
    async def temporary(self) -> AsyncIterator[Session]:
        """A session for a single request, outside the capacity as on the stock servers.

        Raises `StoppingError` when the request takes longer than a stopping server waits.
        """
        session = await self._create()
        task = asyncio.current_task()
        assert task is not None
        self._requests[task] = session
        token = current_session.set(session)
        try:
            yield session
        except asyncio.CancelledError:
            if not self.draining:
                raise
            raise StoppingError from None
        finally:
            current_session.reset(token)
            await self._close_environment(session)
            del self._requests[task]

    async def drain(self) -> None:
        """Open no more sessions and end those there are, each when its call has returned.

        Calls that have not returned after the seconds of grace are given up.
        """
        self.draining = True
        self.give_up_at = time.monotonic() + self._grace_s
        for session in list(self._open.values()):
            if not session.calls:
                self._end(session, 1012, str(StoppingError()))
        if not await self._is_over():
            await self._give_up()

    def hurry(self) -> None:
        """Give up at once what `drain` waits for."""
        self.give_up_at = 0.0

    async def aclose(self) -> None:
        """Close every session that is left; for the server's shutdown."""
        closings = [asyncio.create_task(self.close(session)) for session in self._open.values()]
        if closings:
            await asyncio.wait(closings, timeout=_LAST_WAIT_S if self.draining else self._grace_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._threads.shutdown()

    async def _is_over(self) -> bool:
        """Wait until there is nothing in use, or no time left for that."""
        while busy := self.active or self._closing or self._requests:
            if time.monotonic() >= self.give_up_at:
                break
            await asyncio.sleep(_POLL_S)
        return not busy

    async def _give_up(self) -> None:
        requested = self._requests.values()
        left = [*self._open.values(), *requested]
        logger.warning("Giving up %d sessions and requests that do not end", len(left))
        for session in left:
            in_thread = self._construct_in_thread and (session.calls > 0 or session in requested)
            session.abandoned = in_thread
        connections = [session.connection for session in left if session.connection is not None]
        farewells = [self._end(s, 1012, str(StoppingError())) for s in self._open.values()]
        if farewells:
            await asyncio.wait(farewells, timeout=_LAST_WAIT_S)
        for connection in connections:
            connection.abandon()
        for task in self._requests:
            task.cancel()
        self.give_up_at = time.monotonic() + _LAST_WAIT_S
        await self._is_over()

    def _end(
        self, session: Session, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> "asyncio.Task[None]":
        session.quiet_since = math.inf  # it is over, and not to be ended again
        session.closing = True
        if session.connection is None:
            work: Coroutine[Any, Any, None] = self.close(session)
        else:
            work = session.connection.end(code, reason, error)
        task = asyncio.create_task(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _sweep(self) -> None:
        """End sessions that nobody uses: one task for all of them, as long as there are any."""
        timeout_s = self._idle_timeout_s
        reason = f"The session was idle for {timeout_s} seconds (SESSION_IDLE_TIMEOUT_S)"
        error = {"message": reason, "code": WSErrorCode.SESSION_ERROR}
        while self._open:
            await asyncio.sleep(min(timeout_s / _SWEEPS_PER_TIMEOUT, _LONGEST_SWEEP_S))
            now = time.monotonic()
            for session in list(self._open.values()):
                if session.calls:
                    continue
                if session.quiet_since is None:
                    session.quiet_since = now
                elif now - session.quiet_since >= timeout_s:
                    logger.info("Session %s was idle for %d seconds", session.id, timeout_s)
                    self._end(session, 1001, reason, error)
        self._sweeper = None

    async def _create(self) -> Session:
        try:
            if self._construct_in_thread:
                environment = await self._run_in_thread(self._factory)
            else:
                environment = self._factory()
        except Exception as error:
            raise EnvironmentFactoryError(self._factory_name) from error
        convention = self._convention(type(environment))
        return self._session_cls(environment, convention, self._run_in_thread)

    async def _close_environment(self, session: Session) -> None:
        if session.abandoned:
            return
        self._closing += 1
        try:
            if self._construct_in_thread:
                await self._run_in_thread(session.environment.close)
            else:
                session.environment.close()
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and the session is over
            log_failure(error)
        finally:
            self._closing -= 1

    async def _run_in_thread(self, call: Callable[[], Any]) -> Any:
        # With its context, so that what the environment logs is known to be of this session.
        run = copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, call)

    def _convention(self, environment_cls: type[AnyEnvironment]) -> _CallingConvention:
        convention = self._conventions.get(environment_cls)
        if convention is None:
            convention = self._conventions[environment_cls] = _CallingConvention.of(environment_cls)
        return convention


def _probe(factory: Callable[[], AnyEnvironment]) -> AnyEnvironment:
    """A factory does not say what it makes: make one and close it, as the stock servers do."""
    environment = factory()
    environment.close()
    return environment
