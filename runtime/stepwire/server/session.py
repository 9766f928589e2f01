# SPDX-License-Identifier: BSD-3-Clause
"""`Session`: one environment, the calls to it, and the connection it is used over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

from openenv.core.env_server.types import Action, Observation, State

from stepwire.server.calling import AnyEnvironment, CallingConvention
from stepwire.server.errors import log_failure
from stepwire.server.tools import Tools

_NO_KEYWORDS: dict[str, Any] = {}


class Connection(Protocol):
    """The WebSocket of a session, as far as ending the session needs it."""

    def end(
        self, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, None]:
        """Answer no further frame; send an error frame, if any, and close."""

    def abandon(self) -> None:
        """End at once, even in the middle of a call."""


class Session:
    """One environment and the calls to it, each between `begin_call` and `end_call`.

    A session opened by a WebSocket ends with it. A session created over MCP outlives its
    connections, until it is closed over MCP, idle or ended by the server.
    """

    __slots__ = (
        "_call_step",
        "_calls",
        "_connection",
        "_convention",
        "_held_open",
        "_idle_since",
        "_is_abandoned",
        "_is_ending",
        "_step",
        "_turn",
        "ends_with_connection",
        "environment",
        "id",
        "tools",
    )

    def __init__(
        self, environment: AnyEnvironment, convention: CallingConvention, tools: Tools
    ) -> None:
        self.id = str(uuid4())
        self.environment = environment
        self.tools = tools
        self.ends_with_connection = True
        self._convention = convention
        self._held_open: AbstractAsyncContextManager[Any] | None = None
        self._call_step = convention.step.call
        self._step = getattr(environment, convention.step.name)
        self._connection: Connection | None = None
        self._calls = 0  # in flight or waiting for their turn
        self._turn = asyncio.Lock()
        self._idle_since: float | None = None
        self._is_ending = False
        self._is_abandoned = False

    @property
    def episode_id(self) -> str | None:
        """For log lines: `None` where the environment's state fails."""
        try:
            return self.state().episode_id
        except Exception:  # noqa: BLE001 - an environment's state may fail in any way
            return None

    # Calls to the environment

    def reset(self, arguments: dict[str, Any]) -> Awaitable[Observation]:
        """Start an episode; arguments that the environment does not accept are left out."""
        method = self._convention.reset
        function = getattr(self.environment, method.name)
        return method.call(function, (), method.accepted(arguments))

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Awaitable[Observation]:
        """Take one step; the environment's exceptions are raised where the result is awaited."""
        keywords = self._convention.step.accepted(arguments) if arguments else _NO_KEYWORDS
        return self._call_step(self._step, (action,), keywords)

    def state(self) -> State:
        return self.environment.state  # type: ignore[no-any-return]

    async def dump_state(self) -> dict[str, Any]:
        """The episode, for `load_state` of another session of the same class."""
        return await self.call(self.environment.dump_state)  # type: ignore[attr-defined, no-any-return]

    async def load_state(self, state: dict[str, Any]) -> None:
        """Continue the episode that `dump_state` of another session returned."""
        await self.call(self.environment.load_state, state)  # type: ignore[attr-defined]

    def call(
        self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
    ) -> Awaitable[Any]:
        """Call a function of the environment the way its steps are called."""
        return self._convention.call(function, arguments, keywords)

    async def hold_tools_open(self) -> None:
        """Keep the MCP session of an environment that has one open until `close`.

        Tools keep their state in it. Without it, each call of a tool opens one.
        """
        mcp_session = getattr(self.environment, "mcp_session", None)
        if callable(mcp_session):
            held_open = mcp_session()
            await held_open.__aenter__()
            self._held_open = held_open

    async def close(self) -> None:
        """Close the environment, unless an abandoned call may still use it."""
        if self._is_abandoned:
            return
        if self._held_open is not None:
            try:
                await self._held_open.__aexit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - the session is over, so it is only logged
                log_failure(error)
        try:
            await self.call(self.environment.close)
        except Exception as error:  # noqa: BLE001 - the session is over, so it is only logged
            log_failure(error)

    # Use and idleness

    async def begin_call(self) -> None:
        """Wait for the calls before this one; until `end_call` the session is in use."""
        self._calls += 1
        try:
            await self._turn.acquire()
        except BaseException:
            self._calls -= 1
            raise

    def end_call(self) -> None:
        """End what `begin_call` began."""
        self._turn.release()
        self._calls -= 1
        self._idle_since = None

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """A call from `begin_call` to `end_call`."""
        await self.begin_call()
        try:
            yield
        finally:
            self.end_call()

    @property
    def is_in_use(self) -> bool:
        return self._calls > 0

    def idle_s(self, now: float) -> float:
        """Seconds without a call, counted from the first time this is asked after the last one."""
        if self._calls or self._is_ending:
            return 0.0
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since

    # Connection and end

    @property
    def connection(self) -> Connection | None:
        """The WebSocket that the session is used over at the moment."""
        return self._connection

    def attach(self, connection: Connection) -> None:
        """Use the session over this connection, until `detach`."""
        self._connection = connection

    def detach(self) -> None:
        """Note that the connection is over."""
        self._connection = None

    def outlive_connections(self) -> None:
        """Stay open without a connection, until `end_with_connection`."""
        self.ends_with_connection = False

    def end_with_connection(self) -> None:
        """Stay open no longer than the connection."""
        self.ends_with_connection = True

    def end(
        self, code: int, reason: str, error: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, None] | None:
        """Answer no further frame. Returns what closes the connection, or `None` without one."""
        self._is_ending = self.ends_with_connection = True
        return self._connection.end(code, reason, error) if self._connection else None

    def abandon_call(self) -> None:
        """Give up the call in flight. In a thread it may go on, so the environment stays open."""
        self._is_abandoned = self._convention.in_threads and self.is_in_use
