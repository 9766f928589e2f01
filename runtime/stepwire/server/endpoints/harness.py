# SPDX-License-Identifier: BSD-3-Clause
"""`/harness`: turns with the agent that a `HarnessEnvironment` of openenv 0.7 and later wraps.

In production mode a connection is one session. It begins with a reset, which starts the agent's
process. Each message of the client is one turn, whose events are sent as they happen. A turn that
fails ends the session, because the state of the agent is unknown.
"""

import asyncio
import importlib
import json
import sys
import time
from typing import Any, Literal

from openenv.core.env_server.types import BaseMessage, WSErrorCode
from starlette.types import Message, Receive

from stepwire.server.calling import AnyEnvironment
from stepwire.server.encoding import encode_frame
from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.endpoints.websocket_sessions import content_of
from stepwire.server.errors import MessageError, describe, log_failure
from stepwire.server.json_values import encode
from stepwire.server.session import Session

_ENVIRONMENTS = "openenv.core.harness.environment"


class HarnessMessage(BaseMessage):
    """What the user says in one turn."""

    type: Literal["message"]
    content: str


class ClientGoneError(ConnectionResetError):
    """The client has disconnected. Tells that from the errors of the agent's own connections."""


class TurnError(Exception):
    """The turn failed; the text is for the client."""


def wraps_a_harness(environment_cls: type[AnyEnvironment] | None) -> bool:
    """Whether environments of this class have an agent; of an unknown class, whether they may.

    A `HarnessEnvironment` has imported the framework's module. Nothing else does here.
    """
    module: Any = sys.modules.get(_ENVIRONMENTS)
    if module is None or environment_cls is None:
        return module is not None
    return issubclass(environment_cls, module.HarnessEnvironment)


class HarnessEndpoint(WebSocketEndpoint):
    """Opens and ends sessions as `/ws` does, and has other frames."""

    async def _answer_frames(self, session: Session, connection: Any, receive: Receive) -> None:
        environment: Any = session.environment
        await session.begin_call()
        try:
            started = {"session_id": session.id, "harness": environment.adapter.config.name}
            await session.reset({})
        except Exception as error:  # noqa: BLE001 - an agent may fail to start in any way
            log_failure(error)
            failure = {"message": "harness session failed", "code": WSErrorCode.SESSION_ERROR}
            await connection.end(1000, "", failure)
            return
        finally:
            session.end_call()
        await _send(connection, encode_frame("session_started", started))
        await super()._answer_frames(session, connection, receive)

    async def _answer(self, session: Session, event: Message, connection: Any) -> bool:
        try:
            content = content_of(event) or ""
            if isinstance(content, str):
                content = content.encode("utf-8", "surrogatepass")
            message = self._decoder.decode_body(content, HarnessMessage)
        except MessageError as error:
            await _send(connection, encode_frame("protocol_error", describe(error)))
            return True
        environment: Any = session.environment
        try:
            await _take_turn(environment.adapter, message.content, connection)
        except TurnError as error:
            data = {"message": str(error), "recoverable": False}
            failure = {"type": "error", "timestamp": time.time(), "data": data}
            await _send(connection, json.dumps(failure).encode())
            return False
        return True


async def _take_turn(adapter: Any, content: str, connection: Any) -> None:
    """Send the events of one turn. Raises `TurnError` unless it is completed in time."""
    adapters: Any = importlib.import_module("openenv.core.harness.adapter")
    timeout_s = adapter.config.session_timeout_s
    try:
        is_complete = await asyncio.wait_for(_stream(adapter, content, connection), timeout_s)
    except (ClientGoneError, TurnError):
        raise
    except asyncio.TimeoutError:
        raise TurnError(f"harness turn exceeded {timeout_s} seconds") from None
    except adapters.HarnessNotRunningError:
        raise TurnError("harness process is not running") from None
    except Exception as error:  # noqa: BLE001 - its text may hold what the agent printed
        log_failure(error)
        raise TurnError("harness turn failed") from None
    if not is_complete:
        raise TurnError("harness event stream ended without a TURN_COMPLETE event")


async def _stream(adapter: Any, content: str, connection: Any) -> bool:
    """Whether the last event completes the turn."""
    if not await adapter.is_alive():
        raise TurnError("harness process is not running")
    is_complete = False
    async for event in adapter.send_message_streaming(content):
        await _send(connection, encode(event))
        is_complete = event.type == "turn_complete"
    return is_complete


async def _send(connection: Any, text: bytes) -> None:
    try:
        await connection.send_text(text)
    except (OSError, RuntimeError) as error:
        raise ClientGoneError from error
