# SPDX-License-Identifier: BSD-3-Clause
"""`ToolClient`: the tools of an environment, listed and called, as by the framework's clients."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from openenv.core.env_client import EnvClient
from openenv.core.env_server.mcp_types import Tool
from openenv.core.env_server.types import State

from stepwire.client.calls import Call
from stepwire.client.errors import UsageError
from stepwire.client.messages import (
    read_rpc_tools,
    read_rpc_value,
    read_tool_value,
    read_tools,
    rpc_request,
    step_request,
)
from stepwire.client.results import AwaitableList, PendingValue
from stepwire.client.session import Session

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)


class ToolClient(EnvClient[ActT, ObsT, StateT]):
    """Calls tools by `step` frames, or by MCP's requests in the mode "production".

    The results of all methods are values, or stand for values that may be awaited: see
    `stepwire.client.results`.
    """

    _session: Session
    _server: str
    _mode: str
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

    def _defers(self) -> bool:
        """Whether calls made here and now are deferred."""
        raise NotImplementedError

    def _perform(self, call: Call[Any], pending: Callable[[Call[Any]], Any]) -> Any:
        """The call's result; on a running event loop, `pending(call)`."""
        raise NotImplementedError


def _named(name: str, tools: AwaitableList[Tool]) -> Tool | None:
    return next((tool for tool in tools if tool.name == name), None)
