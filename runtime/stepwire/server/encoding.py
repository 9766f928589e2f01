# SPDX-License-Identifier: BSD-3-Clause
"""The wire format of replies: the one place that encodes them.

What pydantic can encode costs one pass of pydantic-core; `json_values.py` has the rest.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from openenv.core.env_server.types import Observation, State
from pydantic import BaseModel

from stepwire.server.json_values import encode, encode_strictly, jsonable, model_content

_BESIDE_THE_OBSERVATION = {"reward", "done"}
_NO_STATE: dict[str, Any] = State().model_dump()


def encode_observation(observation: Observation) -> bytes:
    """An HTTP response body; `metadata` beside the observation is null when it is empty."""
    exclude = {"observation": _BESIDE_THE_OBSERVATION}
    return _encode_observation(observation, _http_result, exclude)


def encode_observation_frame(observation: Observation) -> bytes:
    """An `observation` frame; `metadata` beside the observation is left out when it is empty."""
    exclude = {"data": {"observation": _BESIDE_THE_OBSERVATION}}
    return _encode_observation(observation, _observation_frame, exclude)


def _http_result(content: Any, reward: Any, done: bool, metadata: Any) -> dict[str, Any]:
    if isinstance(reward, int):  # a float in the stock servers' model of the response
        with suppress(OverflowError):
            reward = float(reward)
    return {"observation": content, "reward": reward, "done": done, "metadata": metadata or None}


def _observation_frame(content: Any, reward: Any, done: bool, metadata: Any) -> dict[str, Any]:
    result = {"observation": content, "reward": reward, "done": done}
    if metadata:
        result["metadata"] = metadata
    return {"type": "observation", "data": result}


def _encode_observation(
    observation: Observation, shape: Callable[..., dict[str, Any]], exclude: Any
) -> bytes:
    beside = (observation.reward, observation.done)
    try:
        content = model_content(observation)
        return encode_strictly(shape(content, *beside, observation.metadata), exclude)
    except Exception:  # noqa: BLE001 - what an environment returns may fail in any way
        content = jsonable(observation)
        return encode_strictly(shape(content, *beside, content.get("metadata")), exclude)


def state_field(state: Any, name: str) -> Any:
    """A field of a state, which may be a mapping; `None` where it has no such field."""
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)


def state_fields(state: Any) -> dict[str, Any]:
    """A state as a dict. As on the stock servers, it may be anything that becomes one."""
    if hasattr(state, "model_dump"):
        return dict(state.model_dump())
    if is_dataclass(state):
        return {field.name: getattr(state, field.name) for field in fields(state)}
    return dict(state or ())


def encode_state(state: Any) -> bytes:
    """An HTTP response body; fields that another class lacks have the defaults of `State`."""
    if isinstance(state, State):
        return encode(model_content(state))
    return encode(_NO_STATE | state_fields(state))


def encode_state_frame(state: Any) -> bytes:
    """A `state` frame, with just the fields that the state has."""
    content = model_content(state) if isinstance(state, BaseModel) else state_fields(state)
    return b'{"type":"state","data":%b}' % encode(content)


def encode_frame(kind: str, data: dict[str, Any]) -> bytes:
    """A frame of type `error` or `mcp`."""
    return encode({"type": kind, "data": data})


def encode_json_rpc(response: dict[str, Any]) -> bytes:
    """An HTTP response body of JSON-RPC."""
    return encode(response)
