# SPDX-License-Identifier: BSD-3-Clause
"""`SessionClient`: a client for any OpenEnv environment, for synchronous and asynchronous use.

A subclass declares the models of its environment; everything else is here:

class MyEnv(SessionClient[MyAction, MyObservation, MyState]):
    server_module = "my_env.server.app"
"""

import inspect
import weakref
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
)
from openenv.core.env_server.types import State

from stepwire.client.addresses import without_secrets
from stepwire.client.calls import Call, weak_method
from stepwire.client.errors import InvalidActionError
from stepwire.client.loops import run_in_thread, running_loop
from stepwire.client.messages import (
    STATE_REQUEST,
    read_result,
    read_state,
    reset_request,
    step_request,
    tool_request,
)
from stepwire.client.models import DeclaredModels
from stepwire.client.options import Options, checked_options
from stepwire.client.results import (
    AwaitableStepResult,
    AwaitedAsCoroutine,
    Closed,
    PendingStepResult,
    pending_state_class,
)
from stepwire.client.servers import Place
from stepwire.client.session import Session
from stepwire.client.starting import StartingClient
from stepwire.client.tools import ToolClient

if TYPE_CHECKING:
    from typing_extensions import Self

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)


class SessionClient(
    AwaitedAsCoroutine,
    DeclaredModels[ActT, ObsT, StateT],
    ToolClient[ActT, ObsT, StateT],
    StartingClient[ActT, ObsT, StateT],
):
    """One session with an environment server. The first call opens the connection.

    Without a running event loop, calls block and return their results: bare, in a `with` block, or
    from several threads, one after the other. On a running loop, in `async with` or not, they may
    be awaited, or their results simply read (see `stepwire.client.results`). `with` and `sync()`
    make a client block everywhere.

    When the connection is lost, so is the episode. The call under way raises `SessionLostError`,
    and so does every further one until `reset()` (or `connect()`) opens a new session.

    The generic arguments are the environment's models: actions are sent as dumps of the first, and
    replies are validated by the other two. A subclass with other messages overrides the framework's
    hooks `_step_payload`, `_parse_result` and `_parse_state`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        connect_timeout_s: float | None = 10.0,
        message_timeout_s: float | None = 60.0,
        max_message_size_mb: float = 100.0,
        provider: Any = None,
        mode: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        capacity_wait_s: float = 0.0,
        websocket_ping_interval_s: float | None = 20.0,
        websocket_ping_timeout_s: float | None = 20.0,
    ) -> None:
        """`base_url` is the server's `http://`, `https://`, `ws://` or `wss://` address.

        It may be the page of a Hugging Face Space. Without an address, the first call starts the
        server of `provider`. Raises `InvalidOptionError` without both.

        Opening the connection may take `connect_timeout_s`, each reply `message_timeout_s`.
        Messages above `max_message_size_mb` (MiB) are refused. `headers` are sent with the
        WebSocket handshake, and `token` as `Authorization: Bearer`. While the server is at
        capacity, the client asks again for `capacity_wait_s`. While a call waits, the client pings
        the server after `websocket_ping_interval_s` of silence, and the session is lost without an
        answer within `websocket_ping_timeout_s`. All times are seconds, and `None` is no limit.
        `provider` is what runs the server: the client stops it in `close()`. In the `mode`
        "production", tools are called by MCP's requests instead of steps.
        """
        self.require_models()
        self.require_server(base_url, provider)
        self._options: dict[str, Any] = {  # of `new_session`
            "connect_timeout_s": connect_timeout_s,
            "message_timeout_s": message_timeout_s,
            "max_message_size_mb": max_message_size_mb,
            "mode": mode,
            "headers": headers,
            "token": token,
            "capacity_wait_s": capacity_wait_s,
            "websocket_ping_interval_s": websocket_ping_interval_s,
            "websocket_ping_timeout_s": websocket_ping_timeout_s,
        }
        options = checked_options(self._options)
        super().__init__(
            base_url="",  # `_set_address` sets it
            connect_timeout_s=options.connect_timeout_s,
            message_timeout_s=options.message_timeout_s,
            max_message_size_mb=options.max_message_size / 2**20,
            provider=provider,
            mode=mode,
        )
        self._starts_server = base_url is None
        self._set_address(base_url)
        self._session = self._make_session(options)
        self._children: weakref.WeakSet[SessionClient[Any, Any, Any]] = weakref.WeakSet()
        self._is_blocking = False  # whether calls block even on a running loop

    def _make_session(self, options: Options) -> Session:
        find_server = self._find_server if self._starts_server else None
        rephrase = None if self.tool_dialect is None else self._rephrase
        return Session(self._ws_url, options, find_server=find_server, rephrase=rephrase)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied. Raises `TypeError` for a client that was used."""
        why = ""
        if self.status not in ("unused", "closed"):
            why = f"its session is {self.status}, and a session belongs to one client"
        elif self._session.deferred or self._children:
            why = "it has calls or sessions that are under way"
        elif self._provider is not None:
            why = "it owns the server that it starts and stops"
        if why:
            raise TypeError(
                f"{self!r} can be neither pickled nor copied: {why}. Pass on its address and "
                "options, or a client that has not been used."
            )
        left_out = ("_session", "_children", "_being_awaited")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._session = self._make_session(checked_options(self._options))
        self._children = weakref.WeakSet()

    @property
    def base_url(self) -> str | None:
        """The server's address; `None` while the provider's server is not started."""
        return self._base_url

    def __repr__(self) -> str:
        session, episode_id = self._session, self._session.episode.id
        episode = "" if episode_id is None else f", episode {episode_id!r}"
        address = without_secrets(self._base_url or self._server)
        return f"<{type(self).__name__} {address}: session {session.status}{episode}>"

    @property
    def status(self) -> str:
        """The session's: "unused", "open", "lost" or "closed", as far as is known without I/O."""
        return self._session.status

    def reset(  # type: ignore[override]
        self,
        *,
        seed: int | None = None,
        episode_id: str | None = None,
        scenario: Any = None,
        **kwargs: Any,
    ) -> AwaitableStepResult[ObsT]:
        """Start an episode. Replaces a lost session by a new one.

        `seed` (0 or more) and `episode_id` (up to 255 characters) are for every environment,
        `scenario` is for servers of `stepwire`: faults and delays to train against. `kwargs` are
        for the environment's `reset`: any name is sent, with a warning if it looks like a misspelt
        one of `reset_arguments`. What is `None` is not sent.
        """
        given = {"seed": seed, "episode_id": episode_id, "scenario": scenario}
        kwargs.update({name: value for name, value in given.items() if value is not None})
        result: AwaitableStepResult[ObsT]
        result = self._perform(self.prepare_reset(kwargs), PendingStepResult)
        return result

    @overload  # type: ignore[override]
    def step(
        self, action: CallToolAction, **_: Any
    ) -> AwaitableStepResult[CallToolObservation]: ...
    @overload
    def step(
        self, action: ListToolsAction, **_: Any
    ) -> AwaitableStepResult[ListToolsObservation]: ...
    @overload
    def step(self, action: ActT, **_: Any) -> AwaitableStepResult[ObsT]: ...
    def step(self, action: Any, **_: Any) -> AwaitableStepResult[Any]:
        """Take one step. A tool-style action calls one of the environment's tools, or lists them.

        Raises `InvalidActionError` before anything is sent, otherwise the errors listed in
        `stepwire.client.errors`.
        """
        result: AwaitableStepResult[Any]
        result = self._perform(self.prepare_step(action), PendingStepResult)
        return result

    def state(self) -> StateT:  # type: ignore[override]
        """The environment's state: `episode_id`, `step_count` and the fields it adds."""
        call = Call(self._session, STATE_REQUEST, self._read_state)
        state: StateT = self._perform(call, pending_state_class(self.state_model))
        return state

    def new_session(self) -> "Self":
        """Another session with the same server: a client of this class, with the same options.

        On a running loop, await it. `close()` of this client closes it, too.
        """
        child = self._create_session_client()
        if self._is_blocking:
            child.sync()
        child.connect()
        self._children.add(child)
        return child

    def _create_session_client(self) -> "Self":  # the framework's `SyncEnvClient` calls it
        self._find_server()
        parameters = inspect.signature(type(self)).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        options = {
            name: value for name, value in self._options.items() if takes_all or name in parameters
        }
        return type(self)(base_url=self._base_url, **options)

    def connect(self) -> "Self":  # type: ignore[override]
        """Open the session now instead of with the first call. On a running loop, await it."""
        if self._is_blocking or running_loop() is None:
            self._session.connect()
        return self

    def disconnect(self) -> "Closed":  # type: ignore[override]
        """Close the session after performing deferred calls. The next call opens a new one."""
        self._session.flush()
        self._session.close()
        self._tools = None
        return Closed()

    def take(self, place: Place) -> Session:
        """Open connections where `place` is; returns what performs the calls. For `SessionPool`."""
        place.on_move = weak_method(self._set_address)
        self._session.way.place = place
        return self._session

    def close(self) -> "Closed":  # type: ignore[override]
        """Close the session, and stop the server if this client started it. May be repeated.

        Performs deferred calls first. The result may be awaited.
        """
        self._session.flush()
        self._close_everything()
        return Closed()

    def sync(self) -> "Self":  # type: ignore[override]
        """This client, from now on blocking even where an event loop runs."""
        self._is_blocking = True
        return self

    def __enter__(self) -> "Self":
        """Open the session. From now on calls block even where an event loop runs."""
        return self.sync().connect()

    def __exit__(self, *_: Any) -> None:
        """Close the session, and stop the server if this client started it."""
        self._close_everything()

    async def __aenter__(self) -> "Self":
        """Open the session."""
        return await self

    async def __aexit__(self, error_type: Any, *_: Any) -> None:
        """`close` without blocking the event loop."""
        if error_type is None:
            await self._session.flush_async()
        await self._close_everything_async()

    def _close_everything(self) -> None:
        self._tools = None
        with ExitStack() as closing:  # in the order of the lines from below
            closing.callback(self._stop_server)
            closing.callback(self._session.close)
            for child in [*self._children]:
                child._session.begin_close()
                closing.callback(child.close)

    async def _close_everything_async(self) -> None:
        self._tools = None
        async with AsyncExitStack() as closing:
            if self._provider is not None:
                closing.push_async_callback(run_in_thread, self._stop_server)
            closing.push_async_callback(self._session.close_async)
            for child in [*self._children]:
                closing.push_async_callback(child._close_everything_async)

    def __await__(self) -> "Generator[Any, None, Self]":
        """Open the session; `await env` gives the client itself."""
        yield from self._session.connect_async().__await__()
        return self

    # What `SyncEnvClient` of openenv 0.10 calls, on a loop of its own. The framework's own methods
    # would open a second connection.

    async def _connect_async(self) -> "Self":
        return await self

    async def _reset_async(self, **kwargs: Any) -> Any:
        return await self.reset(**kwargs)

    async def _step_async(self, action: Any, **kwargs: Any) -> Any:
        return await self.step(action, **kwargs)

    async def _state_async(self) -> Any:
        return await self.state()  # type: ignore[misc] # a pending state may be awaited

    async def _disconnect_async(self) -> None:
        await self.disconnect()

    async def _close_async(self) -> None:
        await self._close_everything_async()

    # Calls.

    def prepare_reset(self, arguments: dict[str, Any]) -> Call[AwaitableStepResult[ObsT]]:
        """The call of `reset(**arguments)`, for `SessionPool` to perform."""
        self.warn_of_unknown(arguments)
        self._tools = None
        read = partial(self._read_reset, arguments)
        return Call(self._session, reset_request(arguments), read, starts_episode=True)

    def prepare_step(self, action: Any) -> Call[AwaitableStepResult[Any]]:
        """The call of `step(action)`, for `SessionPool` to perform."""
        # An ordinary action is spared the two `isinstance` of a tool's, which are slow for models.
        is_ordinary = type(action) is self._plain_action
        tool = None if is_ordinary else tool_request(action)
        if tool is not None:
            data, parse = tool
        else:
            parse = self._parse_result
            try:
                data = self._step_payload(action)
            except InvalidActionError:
                raise
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                raise InvalidActionError(
                    f"{type(self).__name__} cannot send {action!r} of type "
                    f"{type(action).__name__}: {error}. Nothing was sent."
                ) from error
            if not is_ordinary and self._calls_tools and self.tool_dialect is not None:
                data, parse = self.tool_dialect.request(data), self._parse_tool_call
        read = partial(read_result, parse, self._server, self._session.episode)
        return Call(self._session, step_request(data), read)

    def _defers(self) -> bool:
        return not self._is_blocking and running_loop() is not None

    def _perform(self, call: Call[Any], pending: Callable[[Call[Any]], Any]) -> Any:
        """Perform a call and return its result; on a running loop, defer it and return `pending`.

        Clients that block everywhere never defer.
        """
        if self._is_blocking or (loop := running_loop()) is None:
            self._session.perform_up_to(call)
            return call.outcome()
        self._session.defer(call, loop)
        return pending(call)

    def _read_reset(self, arguments: dict[str, Any], reply: bytes) -> AwaitableStepResult[ObsT]:
        result = read_result(self._parse_result, self._server, self._session.episode, reply)
        if self.tool_dialect is not None:
            result.observation = self.tool_dialect.complete(result.observation)
        self._session.episode.begin(arguments)
        return result

    def _read_state(self, reply: bytes) -> StateT:
        state = read_state(self._parse_state, self._server, reply)
        self._session.episode.id = getattr(state, "episode_id", None)
        return state
