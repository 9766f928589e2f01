# SPDX-License-Identifier: BSD-3-Clause
"""`Session`: one environment, the calls to it, and the connection it is used over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import attrgetter
from typing import Any, Protocol

from openenv.core.env_server.types import Action, Observation

from stepwire.server.calling import AnyEnvironment, Caller
from stepwire.server.encoding import state_field
from stepwire.server.errors import log_failure
from stepwire.server.tool_choice import tools_of
from stepwire.server.tools import Tools
from stepwire.server.turn import Turn
from stepwire.server.workers import new_session_id

_read_state = attrgetter("state")


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

    A session opened by a WebSocket answers to it only, and ends with it. A session created over MCP
    is shared: it answers to all who know its id, and outlives its connections until it is closed
    over MCP, idle or ended by the server.
    """

    __slots__ = (
        "_action_cls",
        "_calls",
        "_connection",
        "_episode_id",
        "_held_open",
        "_idle_since",
        "_is_ending",
        "_left",
        "_turn",
        "caller",
        "ends_with_connection",
        "environment",
        "id",
        "is_shared",
    )

    def __init__(
        self,
        environment: AnyEnvironment,
        caller: Caller,
        action_cls: Any,
        turn: Turn | None = None,
    ) -> None:
        """`turn` is shared by the sessions that have the same environment."""
        self.id = new_session_id()
        self.environment = environment
        self._action_cls = action_cls
        self.is_shared = False
        self.ends_with_connection = True
        self.caller = caller
        self._held_open: AbstractAsyncContextManager[Any] | None = None
        self._connection: Connection | None = None
        self._calls = 0  # in flight or waiting for their turn
        self._turn = turn or Turn()
        self._left: asyncio.Task[Any] | None = None  # goes on though its caller was cancelled
        self._idle_since: float | None = None
        self._is_ending = False
        self._episode_id: str | None = None
        caller.serve(self)

    @property
    def reply_size(self) -> int:
        """Bytes that the next reply takes while it is encoded, as far as they are known."""
        return 0

    @property
    def episode_id(self) -> str | None:
        """For log lines: the current one, or the last that was read where the environment is."""
        self.note_episode()
        return self._episode_id

    def note_episode(self) -> None:
        """Read the episode's id, if the environment is here; `None` where its state fails."""
        if not self.caller.is_here:
            return
        try:
            self._episode_id = state_field(self.environment.state, "episode_id")
        except Exception:  # noqa: BLE001 - an environment's state may fail in any way
            self._episode_id = None

    # Calls to the environment

    def reset(self, arguments: dict[str, Any]) -> Awaitable[Observation]:
        """Start an episode; arguments that the environment does not accept are left out."""
        return self.caller.reset(arguments)

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Awaitable[Observation]:
        """Take one step; the environment's exceptions are raised where the result is awaited."""
        return self.caller.step(action, arguments)

    async def state(self) -> Any:
        """The environment's state: a model or, as the stock servers allow, a mapping."""
        return await self.call(_read_state, self.environment)

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
        return self.caller.call(function, arguments, keywords)

    @property
    def tools(self) -> Tools:
        """The environment's tools; some environments make them in `reset`.

        Raises `ValueError` where they cannot be served.
        """
        return tools_of(self.environment, self._action_cls)

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
        """Close the environment where it was made, once the calls before this one have ended.

        A call that was abandoned may never return, so it is not waited for.
        """
        await self._turn.take()
        try:
            if self._held_open is not None:
                await self._held_open.__aexit__(None, None, None)
        except Exception as error:  # noqa: BLE001 - the session is over, so it is only logged
            log_failure(error)
        finally:
            try:
                await self.caller.close(log_failure)
            finally:
                self._turn.give_back()

    # Use and idleness

    def begin_call_now(self) -> bool:
        """`begin_call` if no other call is under way; returns whether that is so."""
        if not self._turn.take_now():
            return False
        self._calls += 1
        return True

    async def begin_call(self) -> None:
        """Wait for the calls before this one; until `end_call` the session is in use."""
        self._calls += 1
        try:
            await self._turn.take()
        except BaseException:
            self._calls -= 1
            raise

    def end_call(self) -> None:
        """End what `begin_call` began; a call that is still running keeps its turn."""
        if self._left is None:
            self._end_call()
        else:
            self._left.add_done_callback(self._end_call)
            self._left = None

    def _end_call(self, _: Any = None) -> None:
        self._turn.give_back()
        self._calls -= 1
        self._idle_since = None

    async def finish(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in a thread, which continues when its caller is cancelled."""
        task = asyncio.create_task(call)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_retrieve)
                self._left = task
            raise

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

    def share(self) -> None:
        """Let every client that knows the id use the session; stay open without a connection."""
        self.is_shared = True
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


def _retrieve(call: "asyncio.Task[Any]") -> None:
    """Take the result of a call that nothing awaits, so that asyncio does not report its error."""
    if not call.cancelled():
        call.exception()
