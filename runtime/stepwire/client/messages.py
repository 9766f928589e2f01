# SPDX-License-Identifier: BSD-3-Clause
"""The messages of the protocol: requests as bytes, and the results in the replies to them."""

import sys
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
from openenv.core.env_server.types import Observation
from pydantic import ConfigDict
from pydantic_core import from_json, to_json

from stepwire.client.errors import (
    CapacityReachedError,
    InvalidActionError,
    ProtocolViolationError,
    ServerError,
    start_of,
)
from stepwire.client.results import AwaitableList, AwaitableStepResult, awaitable_state
from stepwire.client.traces import with_span

ResultT = TypeVar("ResultT")

STATE_REQUEST = b'{"type":"state"}'
CLOSE_REQUEST = b'{"type":"close"}'
# What parsing raises for a reply that lacks something, or has it in another form.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class Episode:
    """The episode of a session, as far as requests and replies have shown it."""

    id: str | None = None
    seed: int | None = None
    steps = 0  # with a result
    is_running = False  # begun, and not over

    def begin(self, arguments: dict[str, Any]) -> None:
        """Begin with the arguments of a reset."""
        self.id = arguments.get("episode_id")
        self.seed = arguments.get("seed")
        self.steps = 0
        self.is_running = True

    def forget(self) -> None:
        """Forget it: a new session has none."""
        self.id = self.seed = None
        self.steps = 0
        self.is_running = False


class OpenObservation(Observation):
    """An observation of a class that the client does not know, with all its fields."""

    model_config = ConfigDict(extra="allow")


def reset_request(arguments: dict[str, Any]) -> bytes:
    """A `reset` frame; raises `InvalidActionError` for arguments that JSON cannot hold."""
    return _encode({"type": "reset", "data": with_span(arguments)}, "The arguments of reset()")


def step_request(data: dict[str, Any]) -> bytes:
    """A `step` frame; raises `InvalidActionError` for an action that JSON cannot hold."""
    if "opentelemetry.trace" in sys.modules:
        data = with_span(data)
    try:  # not by `_encode`: a call less is 1 % of a step
        return to_json({"type": "step", "data": data})
    except ValueError as error:
        raise InvalidActionError(f"The action cannot be sent as JSON: {error}") from error


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
        raise _unreadable(parse, expected, server, reply, error) from error


def read_result(
    parse: Callable[[dict[str, Any]], StepResult[Any]], server: str, episode: Episode, reply: bytes
) -> AwaitableStepResult[Any]:
    """The result of a step or a reset, with its metadata, from an `observation` frame.

    It is counted as a step of the episode.
    """
    data = _data("observation", server, reply)
    try:
        result = parse(data)
        if type(result) is not AwaitableStepResult:
            result = _awaitable(result, data)
    except _UNREADABLE as error:
        raise _unreadable(parse, "observation", server, reply, error) from error
    episode.steps += 1
    episode.is_running = not result.done
    return result


def _awaitable(result: StepResult[Any], data: dict[str, Any]) -> AwaitableStepResult[Any]:
    """The result of an author's hook, with the metadata that it may lack, and with all it has."""
    metadata = getattr(result, "metadata", None)
    if metadata is None:
        metadata = getattr(result.observation, "metadata", data.get("metadata"))
    made = AwaitableStepResult(result.observation, result.reward, result.done, metadata)
    vars(made).update({**vars(result), **vars(made)})
    return made


def read_state(parse: Callable[[dict[str, Any]], ResultT], server: str, reply: bytes) -> ResultT:
    """The state, made awaitable, from a `state` frame."""
    state: ResultT = awaitable_state(read_reply(parse, "state", server, reply))
    return state


def tool_request(action: Any) -> tuple[dict[str, Any], Callable[[Any], StepResult[Any]]] | None:
    """The `data` of a tool-style action, and what parses its answer; `None` for other actions."""
    if isinstance(action, CallToolAction):
        data = action.model_dump()  # with what a subclass adds
        if not data["metadata"]:
            del data["metadata"]
        return data, parse_of_tools
    if isinstance(action, ListToolsAction):
        return {"type": "list_tools"}, parse_of_tools
    return None


def parse_of_tools(data: dict[str, Any]) -> StepResult[Any]:
    """Parse the answer to a tool action; it may be an observation of the environment's own."""
    if "tools" in data["observation"]:
        return parse_tools(data)
    if "tool_name" in data["observation"]:
        return parse_tool_call(data)
    fields = {**data["observation"], "reward": data["reward"], "done": data["done"]}
    if fields.get("metadata") is None:
        fields.pop("metadata", None)
    return StepResult(OpenObservation(**fields), data["reward"], data["done"])


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
    return value_of_tool(
        read_reply(parse_of_tools, "observation", server, reply).observation, server
    )


def value_of_tool(called: Any, server: str) -> Any:
    """The value in the observation of a call, or the observation itself if it is of another kind.

    Raises `ServerError` when the tool could not run.
    """
    if not isinstance(called, CallToolObservation):
        return called
    if called.error is not None:
        why, code = called.error.message, called.error.error_type.value
        raise _failed(f"Tool {called.tool_name!r}", why, code, server)
    return _value_of_result(called.tool_name, called.result, server)


def rpc_request(method: str, parameters: dict[str, Any]) -> bytes:
    """An `mcp` frame; raises `InvalidActionError` for parameters that JSON cannot hold."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    return _encode({"type": "mcp", "data": call}, "The arguments of the tool")


def read_rpc_tools(server: str, reply: bytes) -> AwaitableList[Tool]:
    """The tools of an environment, from the answer to `tools/list`."""

    def parse(data: dict[str, Any]) -> AwaitableList[Tool]:
        return AwaitableList(
            Tool(
                name=tool["name"],
                description=tool.get("description") or "",
                input_schema=tool.get("input_schema") or tool.get("inputSchema") or {},
            )
            for tool in _rpc_result("tools/list", data, server)["tools"]
        )

    return read_reply(parse, "mcp", server, reply)


def read_rpc_value(tool: str, server: str, reply: bytes) -> Any:
    """The value that a tool returned, from the answer to `tools/call`."""

    def parse(data: dict[str, Any]) -> Any:
        return _value_of_result(tool, _rpc_result(f"Tool {tool!r}", data, server), server)

    return read_reply(parse, "mcp", server, reply)


def _rpc_result(what: str, data: dict[str, Any], server: str) -> Any:
    error = data.get("error")
    if error is not None:
        raise _failed(what, error["message"], str(error["code"]), server)
    return data["result"]


def _value_of_result(tool: str, result: Any, server: str) -> Any:
    """The value in MCP's result of a tool; a result in any other form is the value itself."""
    if not isinstance(result, dict) or not {"content", "data"} <= result.keys():
        return result
    texts = [part["text"] for part in result["content"] if "text" in part]
    if result.get("is_error") or result.get("isError"):
        raise _failed(f"Tool {tool!r}", " ".join(texts), "execution_error", server)
    # A tool that does not declare what it returns may have its value in `content` only.
    return "\n".join(texts) if result["data"] is None and texts else result["data"]


def _failed(what: str, why: str, code: str, server: str) -> ServerError:
    return ServerError({"message": f"{what} failed: {why}", "code": code}, server)


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


def _unreadable(
    parse: Any, expected: str, server: str, reply: bytes, error: Exception
) -> ProtocolViolationError:
    """`parse` may be a hook of the client's author, so the error may be the author's."""
    if str(getattr(parse, "__module__", "")).partition(".")[0] in {"stepwire", "openenv"}:
        return _invalid(expected, server, reply)
    name = getattr(parse, "__qualname__", repr(parse))
    what = f"{name} raised {type(error).__name__}: {error} for the {expected} frame of {server}"
    return _violation(what, reply)


def _invalid(expected: str, server: str, reply: bytes) -> ProtocolViolationError:
    return _violation(f"{server} sent an invalid {expected} frame", reply)


def _violation(what: str, reply: bytes) -> ProtocolViolationError:
    return ProtocolViolationError(
        f"{what}: {start_of(reply)}. The connection is dropped; `reset()` starts a new episode."
    )


def _encode(message: Any, what: str) -> bytes:
    try:
        return to_json(message)
    except ValueError as error:
        raise InvalidActionError(f"{what} cannot be sent as JSON: {error}") from error
