# SPDX-License-Identifier: BSD-3-Clause
"""Makes sessions: the environment in its thread, its calling convention and its tools."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

from openenv.core.env_server.exceptions import EnvironmentFactoryError
from openenv.core.env_server.interfaces import Environment

from stepwire.server.calling import (
    AnyEnvironment,
    Caller,
    CallingConvention,
    SessionThread,
    needs_thread,
    new_thread,
)
from stepwire.server.errors import log_failure
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.logs import current_session
from stepwire.server.scenarios import ScenarioSession
from stepwire.server.session import Session
from stepwire.server.settings import Settings
from stepwire.server.threads import CallThread
from stepwire.server.tool_choice import tools_of
from stepwire.server.turn import Turn

_METHODS = {"reset", "reset_async", "step", "step_async"}


class SessionFactory:
    """Makes sessions, each with its own environment."""

    def __init__(self, factory: EnvironmentFactory, action_cls: Any, settings: Settings) -> None:
        self._factory = factory
        self._action_cls = action_cls
        self._allow_scenarios = settings.scenarios == "on"
        # If the class that a function returns is not known yet, each session gets its own thread.
        self._is_single = getattr(factory.environment_cls, "REQUIRES_SINGLE_THREAD_EXECUTOR", False)
        self._shared_thread: CallThread | None = None
        self._conventions: dict[type[AnyEnvironment], CallingConvention] = {}
        # A function may return an environment that another session already has.
        self._turns: WeakValueDictionary[int, Turn] = WeakValueDictionary()

    async def create(self, *, for_page: bool = False) -> Session:
        """Make a session for a page of the server or for a client.

        Raises `EnvironmentFactoryError` when the environment's constructor raises, or when its
        tools cannot be served.
        """
        caller: Caller | None = None
        thread: SessionThread | None = None
        try:
            with self._reporting_failure():
                if needs_thread(self.expected_cls):
                    thread = self._new_thread()
                environment = await self._make(thread)
                caller = self._caller(environment, thread, for_page)
                self._factory.note(environment)
                tools_of(environment, self._action_cls)  # raises if they cannot be served
        except BaseException:
            if caller is not None:
                await caller.close(log_failure)
            elif thread is not None:
                thread.end()
            raise
        return ScenarioSession(
            environment,
            caller,
            self._action_cls,
            self._turns.setdefault(id(environment), Turn()),
            allowed=self._allow_scenarios,
        )

    async def create_lasting(self) -> Session:
        """Like `create`, for a session of more than one request: its tools may keep state."""
        session = await self.create()
        token = current_session.set(session)  # for the log lines of the tools
        try:
            with self._reporting_failure():
                await session.hold_tools_open()
        except BaseException:
            await session.close()
            raise
        finally:
            current_session.reset(token)
        return session

    @contextmanager
    def _reporting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EnvironmentFactoryError(self._factory.name) from error

    def close(self) -> None:
        """End the thread that sessions share, once its call has returned."""
        if self._shared_thread is not None:
            self._shared_thread.end()
            self._shared_thread = None

    @property
    def expected_cls(self) -> type[AnyEnvironment]:
        """The class of the environments; until it is known, a class that may block."""
        return self._factory.environment_cls or Environment

    def _new_thread(self) -> SessionThread:
        if self._is_single and self._shared_thread is None:
            self._shared_thread = new_thread()
        return SessionThread(self._shared_thread)

    async def _make(self, thread: SessionThread | None) -> AnyEnvironment:
        if thread is not None:
            return await self._make_in(thread)
        began = perf_counter()
        environment = self._factory.make()
        self._convention(environment).report(self._factory.make, perf_counter() - began)
        return environment

    async def _make_in(self, thread: SessionThread) -> AnyEnvironment:
        made: list[AnyEnvironment] = []

        def close_all() -> None:
            for environment in made:
                environment.close()

        try:
            await thread.call(lambda: made.append(self._factory.make()), (), {})
        except BaseException:
            thread.call(close_all, (), {})  # a constructor continues when its caller is cancelled
            raise
        return made[0]

    def _caller(
        self, environment: AnyEnvironment, thread: SessionThread | None, for_page: bool
    ) -> Caller:
        if for_page:
            convention = CallingConvention(environment, for_page=True)
        else:
            convention = self._convention(environment)
        if thread is not None and not convention.needs_thread:
            thread.end()
            thread = None
        return Caller(environment, convention, thread)

    def _convention(self, environment: AnyEnvironment) -> CallingConvention:
        if not _METHODS.isdisjoint(getattr(environment, "__dict__", ())):
            return CallingConvention(environment)  # it has methods of its own
        convention = self._conventions.get(type(environment))
        if convention is None:
            convention = self._conventions[type(environment)] = CallingConvention(environment)
        return convention
