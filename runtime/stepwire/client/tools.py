# SPDX-License-Identifier: BSD-3-Clause
"""Tools: `ToolClient` lists and calls those of an environment, as the framework's clients do, and
`ToolDialect` says what actions mean on servers that offer only tools.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar, overload

from openenv.core.env_client import EnvClient
from openenv.core.env_server.mcp_types import Tool
from openenv.core.env_server.types import State
from pydantic import BaseModel
from pydantic_core import from_json

from stepwire.client.calls import Call
from stepwire.client.errors import ServerError, UsageError
from stepwire.client.messages import (
    parse_tool_call,
    read_result,
    read_rpc_tools,
    read_rpc_value,
    read_tool_value,
    read_tools,
    rpc_request,
    step_request,
    value_of_tool,
)
from stepwire.client.results import AwaitableList, PendingValue
from stepwire.client.session import Session

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)


class ToolDialect:
    """The tool that stands for an action, and how the tool's value becomes an observation.

    A client declares it in its class. It has no effect on servers that take actions.

    tool_dialect = ToolDialect("move", {"position": int}, ready={"text": "Ready"})
    """

    def __init__(
        self,
        tool: str,
        observation: Mapping[str, Callable[[Any], Any]] | None = None,
        *,
        ready: Mapping[str, Any] | None = None,
    ) -> None:
        """`step` calls `tool` with the fields of the action as arguments.

        `observation` maps each field of the observation to a function of the tool's value. Without
        it, the value must be a dictionary of these fields. `ready` has the fields of the
        observation after a reset, which such servers do not send. If they send a
        `metadata["message"]`, it replaces the texts in `ready`.
        """
        self.tool = tool
        self._observation = observation
        self._ready = ready or {}

    def is_spoken(self, error: ServerError) -> bool:
        """Whether the server that answered an action with `error` accepts only tool calls."""
        return error.code == "VALIDATION_ERROR" and any(
            "tool_name" in loc
            for entry in error.errors
            if isinstance(loc := entry.get("loc"), list)
        )

    def request(self, action: dict[str, Any]) -> dict[str, Any]:
        """The `data` of the `step` frame that calls the tool, from that of the action."""
        arguments = dict(action)
        metadata = {"metadata": arguments.pop("metadata")} if action.get("metadata") else {}
        return {
            "type": "call_tool",
            "tool_name": self.tool,
            "arguments": arguments,
            **metadata,
        }

    def payload(self, server: str, data: dict[str, Any]) -> dict[str, Any]:
        """What a server of actions would send, from the answer to the call of the tool.

        Raises `ServerError` when the tool could not run. The reward is the server's own.
        """
        called = parse_tool_call(data).observation
        fields = value_of_tool(called, server)
        if self._observation is not None:
            fields = {name: make(fields) for name, make in self._observation.items()}
        observation = {**fields, "metadata": called.metadata}
        return {"observation": observation, "reward": data["reward"], "done": data["done"]}

    def complete(self, observation: Any) -> Any:
        """The observation of a reset, completed with what a server of tools does not send."""
        if self._ready.keys() & observation.model_fields_set:
            return observation
        message = (getattr(observation, "metadata", None) or {}).get("message")
        ready = {
            name: message if isinstance(value, str) and isinstance(message, str) else value
            for name, value in self._ready.items()
        }
        return observation.model_copy(update=ready)


class ToolClient(EnvClient[ActT, ObsT, StateT]):
    """Calls tools by `step` frames, or by MCP's requests in the mode "production".

    The results of all methods are values, or stand for values that may be awaited: see
    `stepwire.client.results`.
    """

    tool_dialect: ClassVar[ToolDialect | None] = None
    """What an action means on a server that offers only tools."""
    _calls_tools = False  # whether the server accepts only tool calls; the first step decides
    _session: Session
    _server: str
    _mode: str
    _plain_action: type[BaseModel] | None
    _tools: AwaitableList[Tool] | None = None  # as listed in this episode

    def list_tools(self, use_cache: bool = True) -> AwaitableList[Tool]:
        """The environment's tools: name, description and the JSON Schema of the arguments.

        Asks the server once an episode, unless `use_cache` is false.
        """
        tools: AwaitableList[Tool] = self._find_tools(AwaitableList, use_cache=use_cache)
        return tools

    def get_tool(self, name: str) -> Any:
        """The tool of this name, or `None`."""
        return self._find_tools(partial(_named, name))

    def has_tool(self, name: str) -> Any:
        """Whether there is a tool of this name."""
        return self._find_tools(lambda tools: _named(name, tools) is not None)

    @overload
    def call_tool(self, name: str, /, **arguments: Any) -> Any: ...
    @overload
    def call_tool(self, *, name: str, **arguments: Any) -> Any: ...
    def call_tool(self, *args: Any, **arguments: Any) -> Any:  # type: ignore[misc]
        """`call_tool(name, **arguments)`: call a tool and return its value.

        Raises `ServerError` when the tool could not run.
        """
        # Beside a positional name, a keyword `name` is an argument of the tool.
        name = args[0] if args else arguments.pop("name", None)
        if len(args) > 1 or not isinstance(name, str):
            raise UsageError("`call_tool` takes the tool's name, and its arguments as keywords.")
        server = self._server
        if self._mode == "production":
            request = rpc_request("tools/call", {"name": name, "arguments": arguments})
            read: Callable[[bytes], Any] = partial(read_rpc_value, name, server)
        else:
            data = {"type": "call_tool", "tool_name": name, "arguments": arguments}
            request, read = step_request(data), partial(read_tool_value, server)
        return self._perform(Call(self._session, request, read), PendingValue)

    def _find_tools(
        self, find: Callable[[AwaitableList[Tool]], Any], *, use_cache: bool = True
    ) -> Any:
        """The result of `find`, which is called with the environment's tools."""
        if self._mode == "production":
            request, read = rpc_request("tools/list", {}), read_rpc_tools
        else:
            request, read = step_request({"type": "list_tools"}), read_tools
        server = self._server

        def read_and_find(reply: bytes) -> Any:
            self._tools = read(server, reply)
            return find(self._tools)

        call = Call(self._session, request, read_and_find)
        if use_cache and self._tools is not None:
            call.settle(find(self._tools))
            return PendingValue(call) if self._defers() else call.outcome()
        return self._perform(call, PendingValue)

    def _rephrase(self, call: Call[Any], error: ServerError) -> bool:
        """Turn a refused step into a call of its tool, if the server accepts only tool calls."""
        if self.tool_dialect is None or not self.tool_dialect.is_spoken(error):
            return False
        data = from_json(call.request)["data"]
        if "tool_name" in data:
            return False
        self._calls_tools, self._plain_action = True, None  # so that each action becomes a call
        read = partial(read_result, self._parse_tool_call, self._server, self._session.episode)
        call.rephrase(step_request(self.tool_dialect.request(data)), read)
        return True

    def _parse_tool_call(self, data: dict[str, Any]) -> Any:
        assert self.tool_dialect is not None
        return self._parse_result(self.tool_dialect.payload(self._server, data))

    def _defers(self) -> bool:
        """Whether calls made in this context are deferred."""
        raise NotImplementedError

    def _perform(self, call: Call[Any], pending: Callable[[Call[Any]], Any]) -> Any:
        """The call's result; on a running event loop, `pending(call)`."""
        raise NotImplementedError


def _named(name: str, tools: AwaitableList[Tool]) -> Tool | None:
    return next((tool for tool in tools if tool.name == name), None)
