# SPDX-License-Identifier: BSD-3-Clause
"""`ToolDialect`: what actions mean on servers that offer only tools."""

from collections.abc import Callable, Mapping
from typing import Any

from stepwire.client.errors import ServerError
from stepwire.client.messages import parse_tool_call, value_of_tool


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
        """Whether a server that answered an action with `error` takes only calls of tools."""
        return error.code == "VALIDATION_ERROR" and any(
            "tool_name" in entry.get("loc", ()) for entry in error.errors
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
        """The observation of a reset, with what a server of tools does not send of it."""
        if self._ready.keys() & observation.model_fields_set:
            return observation
        message = (getattr(observation, "metadata", None) or {}).get("message")
        ready = {
            name: message if isinstance(value, str) and isinstance(message, str) else value
            for name, value in self._ready.items()
        }
        return observation.model_copy(update=ready)
