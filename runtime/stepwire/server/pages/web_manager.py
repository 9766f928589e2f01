# SPDX-License-Identifier: BSD-3-Clause
"""The environment of the web interface: one for all who use it, with the log of its episode.

It has the name, the methods and the attributes of the framework's own class: authors' pages use
them, the two methods with a leading underscore included. The framework's class cannot be used,
since its module imports Gradio.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from fastapi import WebSocket
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.env_server.serialization import deserialize_action_with_preprocessing
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from stepwire.server.calling import AnyEnvironment
from stepwire.server.encoding import (
    state_field,
    state_fields,
)
from stepwire.server.errors import log_failure
from stepwire.server.json_values import encode, jsonable
from stepwire.server.session import Session
from stepwire.server.sessions import Sessions
from stepwire.server.wire import TOOL_ACTIONS, TOOL_MODELS, action_classes

ResultT = TypeVar("ResultT")

_SEND_TIMEOUT_S = 5.0


class ActionLog(BaseModel):
    """One step of the episode."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    timestamp: str = Field(description="When the step was taken, in ISO 8601")
    action: dict[str, Any]
    observation: dict[str, Any]
    reward: float | None = None
    done: bool
    step_count: int = Field(description="The environment's count after the step")


class EpisodeState(BaseModel):
    """The episode of the web interface so far."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    episode_id: str | None = None
    step_count: int = 0
    current_observation: dict[str, Any] | None = None
    action_logs: list[ActionLog] = Field(default_factory=list)
    is_reset: bool = Field(default=True, description="Whether no step has been taken since a reset")


class WebInterfaceManager:
    """One environment, made when it is first used. Its calls come one after the other.

    The environment does not count towards the capacity, and lives until the server stops.
    """

    MAX_ACTION_LOGS = 1000

    def __init__(
        self,
        sessions: Sessions,
        action_cls: type[Action],
        observation_cls: type[Observation],
        metadata: EnvironmentMetadata,
    ) -> None:
        self.action_cls = action_cls
        self.observation_cls = observation_cls
        self.metadata = metadata
        self.episode_state = EpisodeState()
        self.connected_clients: list[WebSocket] = []
        self._sessions = sessions
        self._session: Future[Session] | None = None
        self._making = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def use_running_loop(self) -> None:
        """Make all calls on this loop from now on, whatever loop a caller runs."""
        self._loop = asyncio.get_running_loop()

    def forget_environment(self) -> None:
        """Make another environment if the server starts again; this one has been closed."""
        self._session = None
        self.connected_clients.clear()

    @property
    def env(self) -> AnyEnvironment:
        """The environment itself, made if need be. Calls of its methods do not wait for others."""
        return self._opening().result().environment

    async def reset_environment(self, reset_kwargs: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start an episode; arguments that the environment does not accept are left out.

        Returns `observation`, `reward`, `done` and, unless it is empty, `metadata`.
        """
        return await self._in_turn(self._reset, reset_kwargs or {})

    async def step_environment(self, action_data: dict[str, Any]) -> dict[str, Any]:
        """Take a step; returns what `reset_environment` does.

        Raises `pydantic.ValidationError` for an invalid action.
        """
        return await self.act(self.action_from(action_data))

    def action_from(self, data: dict[str, Any]) -> Action:
        """The action in the form of the framework's pages: it may hold numbers and JSON as text.

        Raises `pydantic.ValidationError`.
        """
        *others, last = action_classes(self.action_cls)
        for action_cls in others:  # of a union
            with suppress(ValidationError):
                return deserialize_action_with_preprocessing(data, action_cls)
        try:
            return deserialize_action_with_preprocessing(data, last)
        except ValidationError:
            model = TOOL_MODELS.get(str(data.get("type")))
            if model is None:
                raise
        arguments = data.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError):
                data = {**data, "arguments": from_json(arguments)}
        return model.model_validate(data)

    async def act(self, action: Action) -> dict[str, Any]:
        """Take a step with an action; returns what `reset_environment` does."""
        return await self._in_turn(self._step, action)

    async def action_from_message(self, message: Any) -> Action:
        """The action of a chat environment: its `message_to_action`, if any, makes it."""
        session = await asyncio.wrap_future(self._opening())
        make_action = getattr(session.environment, "message_to_action", None)
        if make_action is None:
            return self.action_from({"message": message})
        action: Action = await self._run_sync_in_thread_pool(make_action, message)
        return action

    def get_state(self) -> dict[str, Any]:
        """The environment's state, read where its steps are taken, after the call in progress.

        On an event loop, which must not wait, it is read at once, as by the framework's own class.
        """
        session = self._opening().result()
        if _runs_event_loop():
            return state_fields(session.environment.state)
        return state_fields(_in_other_thread(session.state).result())

    async def read_state(self) -> dict[str, Any]:
        """The environment's state, once all earlier calls have returned."""
        return state_fields(await self._in_turn(Session.state))

    async def connect_websocket(self, websocket: WebSocket) -> None:
        """Accept a client of `/ws/ui`, and send the episode to all of them."""
        await websocket.accept()
        self.connected_clients.append(websocket)
        await self._send_state_update()

    async def disconnect_websocket(self, websocket: WebSocket) -> None:
        """Send nothing more to this client."""
        with suppress(ValueError):
            self.connected_clients.remove(websocket)

    def _opening(self) -> "Future[Session]":
        """The session, or what opens it: after a failure, the next call tries again."""
        with self._making:
            opening = self._session
            if opening is None or (opening.done() and opening.exception() is not None):
                self._session = opening = _in_other_thread(self._sessions.open_uncounted)
            return opening

    async def _in_turn(
        self, call: Callable[..., Awaitable[ResultT]], *arguments: Any, **keywords: Any
    ) -> ResultT:
        """Call it once all earlier calls have returned, with the session as its first argument."""

        async def when_free() -> ResultT:
            session = await asyncio.wrap_future(self._opening())
            async with self._sessions.request(session):
                return await call(session, *arguments, **keywords)

        if self._loop in (None, asyncio.get_running_loop()):
            return await when_free()
        # The caller runs a loop of its own, but locks and WebSockets belong to the server's.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(when_free(), self._loop))

    async def _reset(self, session: Session, arguments: dict[str, Any]) -> dict[str, Any]:
        result = _result(await session.reset(arguments))
        episode_id, _ = await self._position(session)
        self.episode_state = EpisodeState(
            episode_id=episode_id, current_observation=result["observation"]
        )
        await self._send_state_update()
        return result

    async def _step(self, session: Session, action: Action) -> dict[str, Any]:
        if isinstance(action, CallToolAction | ListToolsAction) and type(action) in TOOL_ACTIONS:
            observation = await session.tools.act(session, action)
        else:
            observation = await session.step(action)
        result = _result(observation)
        episode = self.episode_state
        episode.episode_id, episode.step_count = await self._position(session)
        episode.current_observation = result["observation"]
        episode.is_reset = False
        episode.action_logs.append(
            ActionLog(
                timestamp=datetime.now().isoformat(),
                action=action.model_dump(exclude={"metadata"}),
                observation=result["observation"],
                reward=observation.reward,
                done=observation.done,
                step_count=episode.step_count,
            )
        )
        del episode.action_logs[: -self.MAX_ACTION_LOGS]
        await self._send_state_update()
        return result

    async def _position(self, session: Session) -> tuple[str | None, int]:
        """The episode's id and step count; guessed where the environment's state lacks them."""
        try:
            state = await session.state()
            episode_id = state_field(state, "episode_id")
            step_count = state_field(state, "step_count")
            if step_count is None:
                step_count = self.episode_state.step_count + 1
            return None if episode_id is None else str(episode_id), int(step_count)
        except Exception as error:  # noqa: BLE001 - the step has been taken and must be reported
            log_failure(error)
            return None, self.episode_state.step_count + 1

    async def _send_state_update(self) -> None:
        clients = list(self.connected_clients)
        if not clients:
            return
        update = encode({"type": "state_update", "episode_state": self.episode_state}).decode()
        sent = await asyncio.gather(
            *(asyncio.wait_for(client.send_text(update), _SEND_TIMEOUT_S) for client in clients),
            return_exceptions=True,
        )
        for client, failure in zip(clients, sent, strict=True):
            if failure is not None:  # it has disconnected or does not read
                await self.disconnect_websocket(client)

    async def _run_sync_in_thread_pool(
        self, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        return await self._in_turn(Session.call, func, *args, **kwargs)


def _in_other_thread(call: Callable[[], Coroutine[Any, Any, ResultT]]) -> "Future[ResultT]":
    """Run a coroutine in a thread and a loop of its own.

    The caller's loop and thread pool may be busy, or waiting for this result.
    """
    future: Future[ResultT] = Future()
    future.set_running_or_notify_cancel()  # so that a caller that gives up cannot cancel it

    def run() -> None:
        try:
            future.set_result(asyncio.run(call()))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="web interface", daemon=True).start()
    return future


def _runs_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _result(observation: Observation) -> dict[str, Any]:
    try:
        content = observation.model_dump(exclude={"reward", "done"})
    except Exception:  # noqa: BLE001 - a serialiser of the environment's may fail in any way
        content = jsonable(observation)
        del content["reward"], content["done"]
    result = {
        "observation": content,
        "reward": observation.reward,
        "done": observation.done,
    }
    if observation.metadata:
        result["metadata"] = observation.metadata
    return result
