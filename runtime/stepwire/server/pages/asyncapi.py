# SPDX-License-Identifier: BSD-3-Clause
"""`/ws` as an AsyncAPI 3 document, made of the models that decode and encode its frames.

The document is written from the server's side, as AsyncAPI has it: what clients send it receives,
and what it answers is the operation's reply.
"""

from typing import Any, Literal

from openenv.core.env_server.mcp_types import (
    CallToolObservation,
    JsonRpcRequest,
    JsonRpcResponse,
    ListToolsObservation,
)
from openenv.core.env_server.types import Observation, State, WSErrorCode
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from stepwire.server.wire import BESIDE_THE_OBSERVATION, MessageDecoder

_REFERENCE = "#/components/schemas/{model}"
_CHANNEL = "#/channels/session"


class StateFrame(BaseModel):
    """The state of the session's episode."""

    type: Literal["state"]
    data: State


class ErrorDetails(BaseModel):
    """What went wrong. What else is in it depends on the code."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="For people")
    code: WSErrorCode = Field(description="For programs")
    errors: list[dict[str, Any]] = Field(
        default_factory=list,
        description="With VALIDATION_ERROR: one entry per error, with type, loc, msg and input",
    )
    active_sessions: int = Field(0, description="With CAPACITY_REACHED: sessions that are open")
    max_sessions: int = Field(0, description="With CAPACITY_REACHED: sessions there is room for")
    factory_name: str = Field("", description="With FACTORY_ERROR: what should have made one")


class ErrorFrame(BaseModel):
    """A message that could not be honoured; the session goes on unless a close follows."""

    type: Literal["error"]
    data: ErrorDetails


class McpFrame(BaseModel):
    """A JSON-RPC 2.0 request."""

    type: Literal["mcp"]
    data: JsonRpcRequest


class McpAnswerFrame(BaseModel):
    """A JSON-RPC 2.0 response."""

    type: Literal["mcp"]
    data: JsonRpcResponse


_SENT = {
    "reset": "Start an episode",
    "step": "Take one step, or use a tool",
    "state": "Ask for the episode's state",
    "mcp": "Use tools over MCP",
    "close": "End the session",
}
# The type of the frame that answers each, unless it is an error. Nothing but the end of the session
# answers `close`.
ANSWERED_BY = {"reset": "observation", "step": "observation", "state": "state", "mcp": "mcp"}


def describe_websocket(
    info: dict[str, Any],
    decoder: MessageDecoder,
    observation_cls: type[Observation],
    examples: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """The document, but for `servers`. `examples` are frames to send, by their type."""
    sent: dict[str, Any] = {**decoder.messages, "mcp": McpFrame}
    received: dict[str, Any] = {
        "stateReply": StateFrame,
        "mcpReply": McpAnswerFrame,
        "errorReply": ErrorFrame,
    }
    observations = (observation_cls, ListToolsObservation, CallToolObservation)
    references, definitions = models_json_schema(
        [
            *((model, "validation") for model in sent.values()),
            *((model, "serialization") for model in received.values()),
            *((model, "serialization") for model in observations),
        ],
        ref_template=_REFERENCE,
    )
    schemas = definitions["$defs"]

    def take(model: Any, mode: Any) -> dict[str, Any]:
        schema: dict[str, Any] = schemas.pop(references[model, mode]["$ref"].rpartition("/")[2])
        return schema

    payloads = {name: take(model, "validation") for name, model in sent.items()}
    payloads |= {name: take(model, "serialization") for name, model in received.items()}
    payloads["observationReply"] = _observation_frame(
        [take(model, "serialization") for model in observations]
    )
    messages = {
        name: _message(name, payload, examples.get(name)) for name, payload in payloads.items()
    }
    channel = {
        "address": "/ws",
        "title": "A session",
        "description": "One connection is one session with an environment of its own. Frames are "
        "JSON text, answered one at a time and in order.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "query": {
                    "type": "object",
                    "properties": {
                        "session_id": {
                            "type": "string",
                            "description": "A session created over MCP, to go on with",
                        }
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": info,
        "defaultContentType": "application/json",
        "channels": {"session": channel},
        "operations": {name: _operation(name) for name in sent},
        "components": {"messages": messages, "schemas": schemas},
    }


def _observation_frame(observations: list[dict[str, Any]]) -> dict[str, Any]:
    """As `wire.encode_observation_frame` has it: reward and `done` beside the observation."""
    beside = {name: observations[0]["properties"][name] for name in sorted(BESIDE_THE_OBSERVATION)}
    for schema in observations:
        for name in BESIDE_THE_OBSERVATION:
            del schema["properties"][name]
        if "required" in schema:
            schema["required"] = [
                name for name in schema["required"] if name not in BESIDE_THE_OBSERVATION
            ]
    metadata = {"type": "object", "description": "The observation's metadata, unless empty"}
    return {
        "type": "object",
        "description": "What the environment answers to a reset, a step or a tool-style action.",
        "properties": {
            "type": {"const": "observation", "type": "string"},
            "data": {
                "type": "object",
                "properties": {
                    "observation": {"anyOf": observations},
                    **beside,
                    "metadata": metadata,
                },
                "required": ["observation", *beside],
                "additionalProperties": False,
            },
        },
        "required": ["type", "data"],
        "additionalProperties": False,
    }


def _message(name: str, payload: dict[str, Any], example: Any) -> dict[str, Any]:
    payload["title"] = name
    message: dict[str, Any] = {"name": name, "title": name, "payload": payload}
    summary = _SENT.get(name) or payload.get("description")
    if summary:
        message["summary"] = summary
    if example is not None:
        message["examples"] = [{"name": name, "payload": example}]
    return message


def _operation(name: str) -> dict[str, Any]:
    channel = {"$ref": _CHANNEL}
    operation: dict[str, Any] = {
        "action": "receive",
        "summary": _SENT[name],
        "channel": channel,
        "messages": [_message_of_channel(name)],
    }
    if name in ANSWERED_BY:
        answers = [_message_of_channel(f"{answer}Reply") for answer in (ANSWERED_BY[name], "error")]
        operation["reply"] = {"channel": channel, "messages": answers}
    return operation


def _message_of_channel(name: str) -> dict[str, str]:
    return {"$ref": f"{_CHANNEL}/messages/{name}"}
