# SPDX-License-Identifier: BSD-3-Clause
"""`SessionClient`: a client for any OpenEnv environment, for synchronous and asynchronous use.

A subclass declares the models of its environment; everything else is here:

class MyEnv(SessionClient[MyAction, MyObservation, MyState]):
    server_module = "my_env.server.app"
"""

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from openenv.core.client_types import StepResult
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
)
from openenv.core.env_server.types import State
from pydantic import BaseModel

from stepwire.client.errors import InvalidActionError, UsageError
from stepwire.client.messages import (
    STATE_REQUEST,
    parse_tool_call,
    parse_tools,
    read_result,
    read_state,
    read_tool_value,
    read_tools,
    reset_request,
    step_request,
)
from stepwire.client.models import (
    action_payload,
    declare_models,
    parse_model,
    parse_observation,
    require_action,
)
from stepwire.client.results import (
    AwaitableList,
    AwaitableStepResult,
    Call,
    PendingStepResult,
    PendingValue,
    pending_state_class,
)
from stepwire.client.session import Session
from stepwire.client.starting import StartingClient

if TYPE_CHECKING:
    from typing_extensions import Self

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)

_running_loop = asyncio._get_running_loop  # `get_running_loop`, but `None` where there is none


class SessionClient(StartingClient[ActT, ObsT, StateT]):
    """One session with an environment server; the connection is opened by the first call.

    Without a running event loop, calls block and return their results: bare, in a `with` block, or
    from several threads, one after the other. On a running loop, in `async with` or not, they may
    be awaited, or their results simply read (see `pending`). `with` and `sync()` make a client
    blocking everywhere.

    When the connection is lost, so is the episode. The call in question says so, and so does every
    further one until `reset()` (or `connect()`) opens a new session.

    The generic arguments are the environment's models. A subclass whose messages are not plain
    dumps of its models overrides the framework's hooks `_step_payload`, `_parse_result` and
    `_parse_state`.
    """

    action_model: ClassVar[type[BaseModel]]
    """The class of actions: the first generic argument, unless the class body assigns another."""
    observation_model: ClassVar[type[BaseModel]]
    """The class of observations: the second generic argument."""
    state_model: ClassVar[type[State]] = State
    """The class of states: the third generic argument."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declare_models(cls, SessionClient, ("action_model", "observation_model", "state_model"))

    def __init__(
        self,
        base_url: str,
        connect_timeout_s: float = 10.0,
        message_timeout_s: float = 60.0,
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

        `headers` are sent with the WebSocket handshake; `token` as `Authorization: Bearer`.
        While the server is at capacity, a session is asked for again for `capacity_wait_s` seconds.
        While a call waits, the server is pinged after `websocket_ping_interval_s` of silence, and
        the session is lost without an answer within `websocket_ping_timeout_s`; `None` is never.
        `provider` is what runs the server, if this client is to stop it when it closes.
        """
        self._require_models()
        super().__init__(
            base_url=base_url,
            connect_timeout_s=connect_timeout_s,
            message_timeout_s=message_timeout_s,
            max_message_size_mb=max_message_size_mb,
            provider=provider,
            mode=mode,
        )
        self._base_url = base_url.rstrip("/")
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._session = Session(
            self._ws_url,
            headers,
            connect_timeout_s=connect_timeout_s,
            message_timeout_s=message_timeout_s,
            max_message_size=self._max_message_size,
            capacity_wait_s=capacity_wait_s,
            ping=(websocket_ping_interval_s, websocket_ping_timeout_s),
        )
        self._blocking = False  # whether calls block even on a running loop
        self._being_awaited: Generator[Any, None, Any] | None = None

    @property
    def base_url(self) -> str:
        """The server's address, as given."""
        return self._base_url

    # What users call.

    def reset(self, **kwargs: Any) -> AwaitableStepResult[ObsT]:  # type: ignore[override]
        """Start an episode: `seed`, `episode_id` and whatever else the environment takes.

        Opens a new session where the last one was lost.
        """
        call = self._reset_call(kwargs)
        if self._blocking or not (loop := _running_loop()):
            return self._session.perform(call)
        self._session.note(call, loop)
        return PendingStepResult(call)

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
        """Take one step; a tool-style action calls the environment's tools instead.

        Raises `InvalidActionError` before anything is sent, else what `errors` lists.
        """
        call = self._step_call(action)
        if self._blocking or not (loop := _running_loop()):
            return self._session.perform(call)
        self._session.note(call, loop)
        return PendingStepResult(call)

    def state(self) -> StateT:  # type: ignore[override]
        """The environment's state: `episode_id`, `step_count` and what else it declares."""
        read = partial(read_state, self._parse_state, self._ws_url)
        call = Call(self._session, STATE_REQUEST, read)
        if self._blocking or not (loop := _running_loop()):
            return self._session.perform(call)
        self._session.note(call, loop)
        pending: StateT = pending_state_class(self.state_model)(call)
        return pending

    def list_tools(self) -> AwaitableList[Tool]:
        """The environment's tools: name, description and the JSON Schema of the arguments."""
        listed: AwaitableList[Tool]
        listed = self._call_for_value({"type": "list_tools"}, partial(read_tools, self._ws_url))
        return listed

    def call_tool(self, name: str, /, **arguments: Any) -> Any:
        """Call a tool and return its result. Raises `ServerError` when the tool could not run."""
        data = {"type": "call_tool", "tool_name": name, "arguments": arguments}
        return self._call_for_value(data, partial(read_tool_value, self._ws_url))

    def connect(self) -> "Self":  # type: ignore[override]
        """Open the session now instead of with the first call; `await` it on a running loop."""
        if self._blocking or not _running_loop():
            self._session.connect()
        return self

    def disconnect(self) -> "Closed":  # type: ignore[override]
        """Close the session. The client can be used again, in a new one."""
        self._session.perform_noted()
        self._session.close()
        return Closed()

    def close(self) -> "Closed":  # type: ignore[override]
        """Close the session and stop what this client started. May be called any number of times.

        Calls that were made before are performed first. `await env.close()` works as well.
        """
        self._session.perform_noted()
        self._close_everything()
        return Closed()

    def sync(self) -> "Self":  # type: ignore[override]
        """This client, blocking from here on, even where an event loop is running."""
        self._blocking = True
        return self

    def __enter__(self) -> "Self":
        return self.sync().connect()

    def __exit__(self, *_: Any) -> None:
        self._close_everything()

    async def __aenter__(self) -> "Self":
        return await self

    async def __aexit__(self, error_type: Any, *_: Any) -> None:
        if error_type is None:
            await self._session.perform_noted_async()
        await asyncio.to_thread(self._close_everything)

    def _close_everything(self) -> None:
        try:
            self._session.close()
        finally:
            self._stop_server()

    def _connect_now(self) -> None:
        self._session.connect()

    def __await__(self) -> "Generator[Any, None, Self]":
        yield from self._session.connect_async().__await__()
        return self

    # With `__await__` and `close` these make the client a coroutine for `asyncio.iscoroutine`:
    # `AutoEnv` hands what `from_docker_image` returns to `asyncio.run`.

    def send(self, value: Any) -> Any:
        if self._being_awaited is None:
            self._being_awaited = self.__await__()
        try:
            return self._being_awaited.send(value)
        except BaseException:
            self._being_awaited = None
            raise

    def throw(self, *error: Any) -> Any:
        if self._being_awaited is None:
            self._being_awaited = self.__await__()
        try:
            return self._being_awaited.throw(*error)
        except BaseException:
            self._being_awaited = None
            raise

    @classmethod
    def _require_models(cls) -> None:
        """Raise `UsageError` where a hook of ours would lack the model it needs."""
        needed = {"_step_payload": "action_model", "_parse_result": "observation_model"}
        for hook, model in needed.items():
            if not hasattr(cls, model) and getattr(cls, hook) is getattr(SessionClient, hook):
                raise UsageError(
                    f"{cls.__name__} has no `{model}`. Declare its models: "
                    f"`class {cls.__name__}(SessionClient[MyAction, MyObservation, MyState])`."
                )

    # What the framework calls hooks: from actions to payloads, from payloads to results.

    def _step_payload(self, action: ActT) -> dict[str, Any]:
        return action_payload(require_action(action, self.action_model, type(self).__name__))

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[ObsT]:
        return parse_observation(self.observation_model, payload)

    def _parse_state(self, payload: dict[str, Any]) -> StateT:
        state: Any = parse_model(self.state_model, payload)
        return state  # type: ignore[no-any-return]

    # From arguments to a call.

    def _reset_call(self, arguments: dict[str, Any]) -> Call[AwaitableStepResult[ObsT]]:
        read = partial(read_result, self._parse_result, self._ws_url)
        return Call(self._session, reset_request(arguments), read, starts_episode=True)

    def _step_call(self, action: Any) -> Call[AwaitableStepResult[Any]]:
        parse: Callable[[Any], Any] = self._parse_result
        if isinstance(action, CallToolAction):
            parse = parse_tool_call
            data = action.model_dump(include={"type", "tool_name", "arguments"})
        elif isinstance(action, ListToolsAction):
            parse = parse_tools
            data = {"type": "list_tools"}
        else:
            try:
                data = self._step_payload(action)
            except InvalidActionError:
                raise
            except (AttributeError, TypeError, KeyError, ValueError) as error:
                raise InvalidActionError(
                    f"{type(self).__name__} cannot send {action!r} of type "
                    f"{type(action).__name__}: {error}. Nothing was sent."
                ) from error
        read = partial(read_result, parse, self._ws_url)
        return Call(self._session, step_request(data), read)

    def _call_for_value(self, data: dict[str, Any], read: Callable[[bytes], Any]) -> Any:
        call: Call[Any] = Call(self._session, step_request(data), read)
        if self._blocking or not (loop := _running_loop()):
            return self._session.perform(call)
        self._session.note(call, loop)
        return PendingValue(call)


class Closed:
    """What `close()` returns: nothing, which may be awaited."""

    def __repr__(self) -> str:
        return "<closed>"

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
