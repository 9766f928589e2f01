# SPDX-License-Identifier: BSD-3-Clause
"""The messages of the protocol: requests as bytes, and the results in the replies to them."""

from collections.abc import Callable
from typing import Any, TypeVar

from openenv.core.client_types import StepResult
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
)
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from stepwire.client.errors import (
    CapacityReachedError,
    InvalidActionError,
    ProtocolViolationError,
    ServerError,
)
from stepwire.client.results import AwaitableList, AwaitableStepResult
from stepwire.client.states import awaitable_state

ResultT = TypeVar("ResultT")

STATE_REQUEST = b'{"type":"state"}'
CLOSE_REQUEST = b'{"type":"close"}'
# What parsing raises for a reply that lacks something, or has it in another form.
_UNREADABLE = (ValidationError, KeyError, TypeError, AttributeError)


def reset_request(arguments: dict[str, Any]) -> bytes:
    """A `reset` frame; raises `InvalidActionError` for arguments that JSON cannot hold."""
    return _encode({"type": "reset", "data": arguments}, "The arguments of reset()")


def step_request(data: dict[str, Any]) -> bytes:
    """A `step` frame; raises `InvalidActionError` for an action that JSON cannot hold."""
    return _encode({"type": "step", "data": data}, "The action")


def read_reply(
    parse: Callable[[dict[str, Any]], ResultT], expected: str, server: str, reply: bytes
) -> ResultT:
    """What `parse` makes of the `data` of a reply of the expected type.

    Raises `ServerError` for an `error` frame, `ProtocolViolationError` for any other type and for
    data that `parse` cannot read.
    """
    data = _data(expected, server, reply)
    try:
        return parse(data)
    except _UNREADABLE as error:
        raise _invalid(expected, server, reply) from error


def read_result(
    parse: Callable[[dict[str, Any]], StepResult[Any]], server: str, reply: bytes
) -> AwaitableStepResult[Any]:
    """The result of a step or a reset, with its metadata, from an `observation` frame."""
    data = _data("observation", server, reply)
    try:
        result = parse(data)
    except _UNREADABLE as error:
        raise _invalid("observation", server, reply) from error
    if type(result) is AwaitableStepResult:
        return result
    # The results of openenv-core have no metadata, nor have those of most hooks.
    metadata = getattr(result, "metadata", None)
    if metadata is None:
        metadata = getattr(result.observation, "metadata", data.get("metadata"))
    return AwaitableStepResult(result.observation, result.reward, result.done, metadata)


def read_state(parse: Callable[[dict[str, Any]], ResultT], server: str, reply: bytes) -> ResultT:
    """The state, made awaitable, from a `state` frame."""
    state: ResultT = awaitable_state(read_reply(parse, "state", server, reply))
    return state


def tool_request(action: Any) -> tuple[dict[str, Any], Callable[[Any], StepResult[Any]]] | None:
    """The `data` of a tool-style action, and what parses its answer; `None` for other actions."""
    if isinstance(action, CallToolAction):
        return action.model_dump(include={"type", "tool_name", "arguments"}), parse_tool_call
    if isinstance(action, ListToolsAction):
        return {"type": "list_tools"}, parse_tools
    return None


def parse_tools(data: dict[str, Any]) -> StepResult[ListToolsObservation]:
    """The `data` of the answer to a `list_tools` action."""
    observation = ListToolsObservation(
        tools=data["observation"]["tools"],
        metadata=data["observation"].get("metadata") or {},
        reward=data["reward"],
        done=data["done"],
    )
    return StepResult(observation, data["reward"], data["done"])


def read_tools(server: str, reply: bytes) -> AwaitableList[Tool]:
    """The tools of an environment, from the answer to a `list_tools` action."""
    listed = read_reply(parse_tools, "observation", server, reply)
    return AwaitableList(listed.observation.tools)


def parse_tool_call(data: dict[str, Any]) -> StepResult[CallToolObservation]:
    """The `data` of the answer to a `call_tool` action."""
    received = data["observation"]
    observation = CallToolObservation(
        tool_name=received["tool_name"],
        result=received.get("result"),
        error=received.get("error"),
        metadata=received.get("metadata") or {},
        reward=data["reward"],
        done=data["done"],
    )
    return StepResult(observation, data["reward"], data["done"])


def read_tool_value(server: str, reply: bytes) -> Any:
    """The value that a tool returned. Raises `ServerError` when the tool could not run."""
    observation = read_reply(parse_tool_call, "observation", server, reply).observation
    if observation.error is not None:
        data = {
            "message": f"Tool '{observation.tool_name}' failed: {observation.error.message}",
            "code": observation.error.error_type.value,
        }
        raise ServerError(data, server)
    value = observation.result
    # Environments on FastMCP send its result object, which has the value in `data`.
    return value["data"] if isinstance(value, dict) and "data" in value else value


def _data(expected: str, server: str, reply: bytes) -> dict[str, Any]:
    try:
        frame = from_json(reply)
        kind, data = frame["type"], frame["data"]
    except (ValueError, TypeError, KeyError) as error:
        raise _unexpected(expected, server, reply) from error
    if not isinstance(data, dict):
        raise _unexpected(expected, server, reply)
    if kind == "error":
        capacity = data.get("code") == "CAPACITY_REACHED"
        raise (CapacityReachedError if capacity else ServerError)(data, server)
    if kind != expected:
        raise _unexpected(expected, server, reply)
    return data


def _unexpected(expected: str, server: str, reply: bytes) -> ProtocolViolationError:
    return _violation(f"{server} did not send the expected {expected} frame", reply)


def _invalid(expected: str, server: str, reply: bytes) -> ProtocolViolationError:
    return _violation(f"{server} sent an invalid {expected} frame", reply)


def _violation(what: str, reply: bytes) -> ProtocolViolationError:
    start = reply[:200].decode(errors="replace")
    return ProtocolViolationError(
        f"{what}: {start}. The connection is dropped; `reset()` starts a new episode."
    )


def _encode(message: Any, what: str) -> bytes:
    try:
        return to_json(message)
    except ValueError as error:
        raise InvalidActionError(f"{what} cannot be sent as JSON: {error}") from error
