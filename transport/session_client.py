# SPDX-License-Identifier: BSD-3-Clause
"""`SessionClient`: a client for any OpenEnv environment, for synchronous and asynchronous use.

A subclass says what its actions, observations and states look like (`_step_payload`,
`_parse_result`, `_parse_state`, the framework's own hooks); everything else is here.
"""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

from openenv.core.env_client import EnvClient
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
)
from openenv.core.env_server.types import State

from echo_env.errors import (
    InvalidActionError,
    ProtocolViolationError,
    SessionLostError,
    UsageError,
)
from echo_env.transport.connection import Connection
from echo_env.transport.launch import DockerContainer, module_server, uv_server
from echo_env.transport.liveness import Liveness
from echo_env.transport.messages import (
    FAREWELL,
    STATE_REQUEST,
    is_refusal,
    parse_tool_call,
    parse_tools,
    read_reply,
    read_result,
    read_tool_value,
    reset_request,
    step_request,
)
from echo_env.transport.pending import (
    AwaitableList,
    AwaitableStepResult,
    Call,
    PendingState,
    PendingStepResult,
    PendingValue,
)
from echo_env.transport.turn import Turn

if TYPE_CHECKING:
    from typing_extensions import Self

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)
ClientT = TypeVar("ClientT", bound="SessionClient[Any, Any, Any]")
ResultT = TypeVar("ResultT")


class SessionClient(EnvClient[ActT, ObsT, StateT]):
    """One session with an environment server; the connection is opened by the first call.

    Without a running event loop, calls block and return their results: bare, in a `with` block, or
    from several threads, one after the other. On a running loop, in `async with` or not, they may
    be awaited, or their results simply read (see `pending`). `with` and `sync()` make a client
    blocking everywhere.

    When the connection is lost, so is the episode. The call in question says so, and so does every
    further one until `reset()` (or `connect()`) opens a new session.
    """

    server_module: ClassVar[str | None] = None
    """The module that `python -m` serves the environment with, for `from_local`."""

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
        super().__init__(
            base_url=base_url,
            connect_timeout_s=connect_timeout_s,
            message_timeout_s=message_timeout_s,
            max_message_size_mb=max_message_size_mb,
            provider=provider,
            mode=mode,
        )
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers or {})
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._capacity_wait = capacity_wait_s
        self._ping = (websocket_ping_interval_s, websocket_ping_timeout_s)
        self._blocking = False  # whether calls block even on a running loop
        self._connection: Connection | None = None
        self._lost: SessionLostError | None = None
        self._calls: deque[Call[Any]] = deque()  # made, not performed yet
        self._unread_on: asyncio.AbstractEventLoop | None = None  # which soon performs `_calls`
        self._turn = Turn()  # to perform calls
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
        return PendingStepResult(call) if self._defer(call) else self._perform(call)

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
        return PendingStepResult(call) if self._defer(call) else self._perform(call)

    def state(self) -> StateT:  # type: ignore[override]
        """The environment's state: `episode_id`, `step_count` and what else it declares."""

        call = Call(self, STATE_REQUEST, self._read_state)
        if self._defer(call):
            return cast(StateT, PendingState(call))  # type: ignore[call-arg, arg-type]
        return self._perform(call)

    def list_tools(self) -> AwaitableList[Tool]:
        """The environment's tools: name, description and the JSON Schema of the arguments."""
        listed: AwaitableList[Tool]
        listed = self._call_for_value({"type": "list_tools"}, self._read_tools)
        return listed

    def call_tool(self, name: str, /, **arguments: Any) -> Any:
        """Call a tool and return its result. Raises `ServerError` when the tool could not run."""
        data = {"type": "call_tool", "tool_name": name, "arguments": arguments}
        return self._call_for_value(data, partial(read_tool_value, server=self._ws_url))

    def connect(self) -> "Self":  # type: ignore[override]
        """Open the session now instead of with the first call; `await` it on a running loop."""
        if not _loop_is_running() or self._blocking:
            self._connected_now()
        return self

    def disconnect(self) -> "Closed":  # type: ignore[override]
        """Close the session. The client can be used again, in a new one."""
        return self._finish(self._close_connection)

    def close(self) -> "Closed":  # type: ignore[override]
        """Close the session and stop what this client started. May be called any number of times.

        Calls that were made before are performed first. `await env.close()` works as well.
        """
        return self._finish(self._close_everything)

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
        if self._calls and error_type is None:
            await self.perform_up_to_async(self._calls[-1])
        await asyncio.to_thread(self._close_everything)

    def __await__(self) -> "Generator[Any, None, Self]":
        async def connected() -> "Self":
            await self._turn.take()
            try:
                if self._connection is None:
                    await asyncio.to_thread(self._require_connection, reopen=True)
            finally:
                self._turn.end()
            return self

        return connected().__await__()

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
    def from_docker_image(  # type: ignore[override]
        cls: type[ClientT],
        image: str,
        provider: Any = None,
        *,
        wait_timeout: float | None = None,
        **options: Any,
    ) -> ClientT:
        """Start a container at once and return a client connected to it, which may be awaited.

        `close()` removes the container, and so does the end of this process (unless it is killed:
        see `launch`) or any failure here, mostly a `ServerStartError`. `options` are `port` (on
        this machine, where only this machine can reach it), `container_port=8000`, `env_vars`,
        `docker_args` (further options of `docker run`), `cmd`, and the client's own, such as
        `message_timeout_s`. The server has `wait_timeout` seconds (60) from the start of the
        container to be healthy. A `provider` of the framework gets what is not the client's own.
        """
        provider = DockerContainer() if provider is None else provider
        return cls._started(provider, wait_timeout, options, image)

    @classmethod
    def from_env(  # type: ignore[override]
        cls: type[ClientT],
        repo_id: str,
        *,
        use_docker: bool = True,
        provider: Any = None,
        wait_timeout: float | None = None,
        **options: Any,
    ) -> ClientT:
        """Start a Hugging Face Space on this machine, as `from_docker_image` does.

        From its image (`tag="latest"`), or with `use_docker=False` and `uv` from its repository or
        the folder `project_path`; `wait_timeout` is 300 there, as `uv` may have to install it.
        """
        if use_docker:
            subdomain = re.sub("[^a-z0-9]", "-", repo_id.lower())  # as the Hub makes it
            image = f"registry.hf.space/{subdomain}:{options.pop('tag', 'latest')}"
            return cls.from_docker_image(image, provider, wait_timeout=wait_timeout, **options)
        if provider is None:
            repository = f"git+https://huggingface.co/spaces/{repo_id}"
            provider = uv_server(options.pop("project_path", None) or repository)
            wait_timeout = 300.0 if wait_timeout is None else wait_timeout
        return cls._started(provider, wait_timeout, options)

    @classmethod
    def from_local(
        cls: type[ClientT],
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        *,
        wait_timeout: float | None = None,
        **client_options: Any,
    ) -> ClientT:
        """Start the environment's server as a child process, and return a client connected to it.

        For tests and notebooks: it needs only the environment's package. Otherwise as
        `from_docker_image`; even a client that is killed leaves no server behind.
        """
        if cls.server_module is None:
            raise UsageError(
                f"{cls.__name__} does not say what its server is. Set `server_module` in the "
                'class, such as "my_env.server.app".'
            )
        options = {"port": port, "env_vars": env_vars, **client_options}
        return cls._started(module_server(cls.server_module), wait_timeout, options)

    @classmethod
    def _started(
        cls: type[ClientT],
        provider: Any,
        wait_timeout: float | None,
        options: dict[str, Any],
        *image: str,
    ) -> ClientT:
        """Have the server started, wait for it and connect; when that fails, stop the server."""
        own = {name: options.pop(name) for name in _CLIENT_OPTIONS if name in options}
        limit = {} if wait_timeout is None else {"timeout_s": wait_timeout}
        try:
            if image:
                url = provider.start_container(*image, **options)
                provider.wait_for_ready(url, **limit)
            else:
                url = provider.start(**options)
                provider.wait_for_ready(**limit)
            return cls(base_url=url, provider=provider, **own)._connected_now()
        except BaseException:
            with suppress(Exception):
                _stop(provider)
            raise

    # Performing calls: the `Performer` of `pending`.

    def perform_up_to(self, call: Call[Any]) -> None:
        """Perform, blocking, what was called before `call`, and `call`."""
        if self._is_awaited_here():
            raise UsageError(
                "This result is read while a call of the same client is being awaited on this "
                "event loop; blocking here would block that one forever. Await the result instead."
            )
        with self._turn:
            while not call.is_done:
                self._perform_one(self._calls.popleft() if self._calls else call)

    async def perform_up_to_async(self, call: Call[Any]) -> None:
        """Perform, without blocking the loop, what was called before `call`, and `call`."""
        if not self._turn.take_at_once(asyncio.get_running_loop()):
            await self._turn.take()
        try:
            while not call.is_done:
                await self._perform_one_async(self._calls.popleft() if self._calls else call)
        finally:
            self._turn.end()

    def _is_awaited_here(self) -> bool:
        """Whether a call of this client is under way on the event loop of this thread."""
        return self._turn.is_taken_on(_running_loop())

    def _perform(self, call: Call[ResultT]) -> ResultT:
        """Perform a call that was not noted down: the ordinary, blocking way."""
        self.perform_up_to(call)
        return call.outcome()

    def _perform_one(self, call: Call[Any]) -> None:
        retries = None
        try:
            while True:
                is_fresh = self._connection is None
                try:
                    connection = self._require_connection(reopen=call.starts_episode)
                    reply = connection.exchange(call.request, self._message_timeout)
                except SessionLostError:
                    if self._forget_ended_connection(call, is_fresh):
                        continue
                    raise
                if not is_refusal(reply):
                    return self._finish_call(call, reply)
                self._drop_connection()
                retries = retries or _Retries(self._capacity_wait)
                if (pause := retries.next_pause()) is None:
                    return self._finish_call(call, reply)
                time.sleep(pause)
        except BaseException as error:
            self._fail_call(call, error)
            if not isinstance(error, Exception):
                raise

    async def _perform_one_async(self, call: Call[Any]) -> None:
        retries = None
        try:
            while True:
                is_fresh = self._connection is None
                reopen = call.starts_episode
                try:
                    if is_fresh:
                        await asyncio.to_thread(self._require_connection, reopen=reopen)
                    connection = self._require_connection(reopen=reopen)
                    reply = await connection.exchange_async(call.request, self._message_timeout)
                except SessionLostError:
                    if self._forget_ended_connection(call, is_fresh):
                        continue
                    raise
                if not is_refusal(reply):
                    return self._finish_call(call, reply)
                self._drop_connection()
                retries = retries or _Retries(self._capacity_wait)
                if (pause := retries.next_pause()) is None:
                    return self._finish_call(call, reply)
                await asyncio.sleep(pause)
        except BaseException as error:
            self._fail_call(call, error)
            if not isinstance(error, Exception):
                raise

    def _finish_call(self, call: Call[Any], reply: str) -> None:
        call.finish(reply)
        if call.error is not None:
            if isinstance(call.error, ProtocolViolationError) and self._connection is not None:
                self._connection.drop()  # what else it sends means nothing
            self._note_loss(call.error)

    def _fail_call(self, call: Call[Any], error: BaseException) -> None:
        """Keep a failure for whoever asks for the result, and what it means for the session."""
        self._note_loss(error)
        # Interrupted or cancelled, which is for the caller of now: others learn what it led to.
        call.fail(error if isinstance(error, Exception) else self._lost or error)

    # The same in two halves, for `SessionPool`, which waits for many sessions at once.

    def _begin(self, call: Call[Any]) -> Connection | None:
        """Send a call's request; `None` when it failed, and the call with it."""
        try:
            is_fresh = self._connection is None
            try:
                connection = self._require_connection(reopen=call.starts_episode)
                connection.send(call.request, self._message_timeout)
            except SessionLostError:
                if not self._forget_ended_connection(call, is_fresh):
                    raise
                connection = self._require_connection(reopen=True)
                connection.send(call.request, self._message_timeout)
        except Exception as error:  # noqa: BLE001 - kept for whoever asks for the result
            self._fail_call(call, error)
            return None
        return connection

    def _go_on(self, call: Call[Any], *, is_overdue: bool) -> bool:
        """Take in what has arrived; say whether the call is done, one way or the other."""
        connection = self._connection
        assert connection is not None
        try:
            reply = connection.receive()
            if reply is not None:
                if is_refusal(reply):
                    self._drop_connection()
                    if self._capacity_wait:
                        self._perform_one(call)  # waits, and the other sessions with it
                        return True
                self._finish_call(call, reply)
            elif is_overdue:
                connection.give_up(self._message_timeout)
        except Exception as error:  # noqa: BLE001 - kept for whoever asks for the result
            self._fail_call(call, error)
        return call.is_done

    def _forget_ended_connection(self, call: Call[Any], is_fresh: bool) -> bool:
        """A new episode does not need the old session: if that ended while idle, try a new one."""
        if is_fresh or not call.starts_episode:
            return False
        self._drop_connection()
        return True

    # The connection.

    def _require_connection(self, *, reopen: bool) -> Connection:
        """The open connection; a new one if there is none, or if the lost one may be replaced."""
        connection = self._connection
        if connection is not None and connection.is_usable:
            return connection
        if connection is not None and not connection.is_of_this_process:
            # Two processes reading one socket would each get the other's replies.
            self._lose_session("it belongs to the process this one was forked from.")
        elif connection is not None and not connection.is_open:
            self._lose_session("its connection was dropped.")
        if self._lost is not None and not reopen:
            raise self._lost
        if self._connection is None:
            self._connection = Connection(
                self._ws_url,
                self._headers,
                self._connect_timeout,
                self._max_message_size,
                Liveness(*self._ping),
            )
        self._lost = None
        return self._connection

    def _lose_session(self, why: str) -> None:
        """The episode is gone with the connection: until `reset()`, every call says so."""
        self._connection = None
        self._lost = SessionLostError(
            f"The session with {self._ws_url} is lost: {why} The episode ended with it; call "
            "`reset()` to open a new one."
        )

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    def _note_loss(self, error: BaseException | None) -> None:
        connection = self._connection
        if error is None or connection is None or connection.is_open:
            return
        self._lose_session(str(error) or type(error).__name__)
        if isinstance(error, SessionLostError):
            self._lost = error

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._lost = None
        if connection is not None and connection.is_of_this_process:
            connection.close(FAREWELL, wait=not self._is_awaited_here())

    def _close_everything(self) -> None:
        try:
            self._close_connection()
        finally:
            provider, self._provider = self._provider, None
            if provider is not None:
                _stop(provider)

    def _finish(self, close: Callable[[], None]) -> "Closed":
        if self._calls and not self._is_awaited_here():
            self.perform_up_to(self._calls[-1])
        close()
        return Closed()

    def _connected_now(self) -> "Self":
        with self._turn:
            self._require_connection(reopen=True)
        return self

    # From a call to its result.

    def _defer(self, call: Call[Any]) -> bool:
        """Note the call down if it was made on a running loop; say whether it was."""
        if self._blocking or not (loop := _running_loop()):
            return False
        self._calls.append(call)
        if self._unread_on is not loop:  # one timer for all calls of a while
            self._unread_on = loop
            loop.call_later(_UNREAD_AFTER_S, self._perform_unread, loop)
        return True

    def _perform_unread(self, loop: asyncio.AbstractEventLoop) -> None:
        """Perform what was called on this loop and has been left alone since."""
        self._unread_on = None
        if self._calls:
            last = self._calls[-1]
            task = loop.create_task(self.perform_up_to_async(last))
            _unread_tasks.add(task)
            task.add_done_callback(_unread_tasks.discard)

    def _reset_call(self, arguments: dict[str, Any]) -> Call[AwaitableStepResult[ObsT]]:
        return self._result_call(reset_request(arguments), self._parse_result, starts_episode=True)

    def _step_call(self, action: Any) -> Call[AwaitableStepResult[Any]]:
        if isinstance(action, CallToolAction):
            data = action.model_dump(include={"type", "tool_name", "arguments"})
            return self._result_call(step_request(data), parse_tool_call)
        if isinstance(action, ListToolsAction):
            return self._result_call(step_request({"type": "list_tools"}), parse_tools)
        try:
            payload = self._step_payload(action)
        except (AttributeError, TypeError, KeyError) as error:
            raise InvalidActionError(
                f"{type(self).__name__} cannot send {action!r} of type {type(action).__name__}: "
                f"{error}. Nothing was sent."
            ) from error
        return self._result_call(step_request(payload), self._parse_result)

    def _result_call(
        self, request: str, parse: Callable[[Any], Any], *, starts_episode: bool = False
    ) -> Call[AwaitableStepResult[Any]]:
        read = partial(self._read_result, parse)
        return Call(self, request, read, starts_episode=starts_episode)

    def _read_result(self, parse: Callable[[Any], Any], reply: str) -> AwaitableStepResult[Any]:
        return read_result(parse, reply, self._ws_url)

    def _read_state(self, reply: str) -> StateT:
        return read_reply(self._parse_state, reply, "state", self._ws_url)

    def _read_tools(self, reply: str) -> AwaitableList[Tool]:
        listed = read_reply(parse_tools, reply, "observation", self._ws_url)
        return AwaitableList(listed.observation.tools)

    def _call_for_value(self, data: dict[str, Any], read: Callable[[str], Any]) -> Any:
        call: Call[Any] = Call(self, step_request(data), read)
        return PendingValue(call) if self._defer(call) else self._perform(call)


class _Retries:
    """Pauses between attempts to get a session from a server at capacity, doubling up to 2 s."""

    def __init__(self, wait_s: float) -> None:
        self._give_up_at = time.monotonic() + wait_s
        self._pause = 0.05

    def next_pause(self) -> float | None:
        left = self._give_up_at - time.monotonic()
        if left <= 0:
            return None
        # Jitter: those who were refused together should not come back together.
        pause = min(self._pause * random.uniform(0.5, 1.5), left)
        self._pause = min(self._pause * 2, 2.0)
        return pause


class Closed:
    """What `close()` returns: nothing, which may be awaited."""

    def __repr__(self) -> str:
        return "<closed>"

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_CLIENT_OPTIONS = (
    "connect_timeout_s",
    "message_timeout_s",
    "max_message_size_mb",
    "headers",
    "token",
    "capacity_wait_s",
    "websocket_ping_interval_s",
    "websocket_ping_timeout_s",
)
_running_loop = asyncio._get_running_loop  # `get_running_loop`, but `None` where there is none
# A call whose result nobody has awaited or read by then is performed by the loop.
_UNREAD_AFTER_S = 0.02
_unread_tasks: set[asyncio.Future[None]] = set()


def _stop(provider: Any) -> None:
    (getattr(provider, "stop_container", None) or provider.stop)()


def _loop_is_running() -> bool:
    return _running_loop() is not None
