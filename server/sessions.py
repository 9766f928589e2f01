# SPDX-License-Identifier: BSD-3-Clause
"""Sessions: who has an environment at the moment, up to which number, and how it is called.

One WebSocket connection is one session is one environment instance. An HTTP request without a
session gets an environment of its own, which is closed when the request ends.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias
from uuid import uuid4

from openenv.core.env_server.exceptions import (
    ConcurrencyConfigurationError,
    EnvironmentFactoryError,
    SessionCapacityError,
)
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from echo_env.server.errors import log_failure
from echo_env.server.settings import Settings

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]


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

    async def reset(self, arguments: dict[str, Any]) -> Observation:
        """Start an episode; arguments the environment does not take are left out."""
        arguments = _only(self._convention.reset_accepts, arguments)
        if self._convention.reset_is_async:
            return await self.environment.reset_async(**arguments)  # type: ignore[no-any-return]
        return await self._run_in_thread(partial(self.environment.reset, **arguments))  # type: ignore[no-any-return]

    async def step(self, action: Action, arguments: dict[str, Any] | None = None) -> Observation:
        """Take one step; what the environment raises is raised here."""
        convention = self._convention
        accepted = _only(convention.step_accepts, arguments) if arguments else {}
        if convention.step_is_async:
            return await self.environment.step_async(action, **accepted)  # type: ignore[no-any-return]
        return await self._run_in_thread(partial(self.environment.step, action, **accepted))  # type: ignore[no-any-return]

    def state(self) -> State:
        return self.environment.state  # type: ignore[no-any-return]

    async def dump_state(self) -> dict[str, Any]:
        """What another session of the same class resumes this episode from."""
        return await self._call(self.environment.dump_state)  # type: ignore[attr-defined, no-any-return]

    async def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `dump_state` of another session left off."""
        await self._call(self.environment.load_state, state)  # type: ignore[attr-defined]

    async def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call another method of the environment, where its steps are called."""
        if self._convention.step_is_async:
            return method(*arguments)
        return await self._run_in_thread(partial(method, *arguments))


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
        self._threads = ThreadPoolExecutor(1 if single else settings.worker_threads, "environment")
        self._open: dict[str, Session] = {}
        self._opening = 0

    @property
    def active(self) -> int:
        """Sessions open or being opened."""
        return len(self._open) + self._opening

    def get(self, session_id: str) -> Session | None:
        return self._open.get(session_id)

    async def open(self) -> Session:
        """Open a session with an environment of its own.

        Raises `SessionCapacityError` at capacity, `EnvironmentFactoryError` when the environment's
        constructor raises.
        """
        if self.active >= self.capacity:
            raise SessionCapacityError(self.active, self.capacity)
        self._opening += 1
        try:
            session = await self._create()
            self._open[session.id] = session
        finally:
            self._opening -= 1
        return session

    async def close(self, session: Session) -> None:
        """Close the session's environment and free its slot; a second call does nothing."""
        if self._open.pop(session.id, None) is not None:
            await self._close_environment(session)

    @asynccontextmanager
    async def temporary(self) -> AsyncIterator[Session]:
        """A session for a single request, outside the capacity as on the stock servers."""
        session = await self._create()
        try:
            yield session
        finally:
            await self._close_environment(session)

    async def aclose(self) -> None:
        """Close every session; for the server's shutdown."""
        for session in list(self._open.values()):
            await self.close(session)
        self._threads.shutdown(wait=False)

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
        try:
            if self._construct_in_thread:
                await self._run_in_thread(session.environment.close)
            else:
                session.environment.close()
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and the session is over
            log_failure(error)

    async def _run_in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

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
