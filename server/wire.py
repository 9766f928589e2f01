# SPDX-License-Identifier: BSD-3-Clause
"""Messages in and out: the one place that decodes what clients send and encodes what they get.

A valid message costs one pass of pydantic-core, from text to typed message. Only when that fails is
the text decoded again, step by step, to say exactly what is wrong with it, in the form in which the
stock servers say it.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.env_server.types import (
    Action,
    BaseMessage,
    Observation,
    ResetRequest,
    State,
    StepRequest,
    WSErrorCode,
    WSResetMessage,
    WSStepMessage,
)
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import to_json

from echo_env.server.errors import MessageError

ActionT = TypeVar("ActionT", bound=Action)
ModelT = TypeVar("ModelT", bound=BaseModel)


class ResetMessage(BaseMessage):
    type: Literal["reset"]
    data: ResetRequest = Field(default_factory=ResetRequest)


class StepMessage(BaseMessage, Generic[ActionT]):
    type: Literal["step"]
    data: ActionT


class StateMessage(BaseMessage):
    type: Literal["state"]


class CloseMessage(BaseMessage):
    type: Literal["close"]


class McpMessage(BaseMessage):
    type: Literal["mcp"]
    data: dict[str, Any]


# The framework's tool-style actions have `type` by default; on the wire it is what tells them apart
# from the environment's own action, so here it is required.
class _ListTools(ListToolsAction):
    type: Literal["list_tools"]


class _CallTool(CallToolAction):
    type: Literal["call_tool"]


_TOOL_ACTIONS: dict[str, type[Action]] = {"list_tools": _ListTools, "call_tool": _CallTool}

# What says that `data` is no object without naming the model it would become.
_LOOSE_MESSAGES: dict[str, type[BaseMessage]] = {"reset": WSResetMessage, "step": WSStepMessage}

_MOST_DIGITS = 4300


class MessageDecoder:
    """Decodes the messages of one environment: WebSocket frames and HTTP bodies.

    `decode_…` return the typed message and raise `MessageError` with a code of the wire contract.
    """

    def __init__(self, action_cls: type[Action], max_json_depth: int) -> None:
        self._action_cls = action_cls
        self._max_json_depth = max_json_depth
        # Left to right: the environment's own action comes first, tool-style actions after it.
        action: Any = Annotated[
            action_cls | _CallTool | _ListTools, Field(union_mode="left_to_right")
        ]
        step_message: Any = StepMessage[action]
        self.messages: dict[str, type[BaseMessage]] = {
            "reset": ResetMessage,
            "step": step_message,
            "state": StateMessage,
            "close": CloseMessage,
            "mcp": McpMessage,
        }
        frame: Any = Annotated[
            Union[tuple(self.messages.values())],  # noqa: UP007 - made at run time
            Field(discriminator="type"),
        ]
        self._frame_validator = TypeAdapter[BaseMessage](frame).validator
        self._reset_validator = TypeAdapter(ResetRequest).validator
        self.step_request: type[StepRequest] = create_model(
            "StepRequest", __base__=StepRequest, action=(action, ...)
        )
        self._step_validator = TypeAdapter(self.step_request).validator

    def decode_frame(self, text: str | None) -> BaseMessage:
        """Decode one WebSocket frame; `None` stands for a binary one, which no message is."""
        if text is None:
            raise MessageError.invalid("text_type", (), "A message is a text frame", None)
        if self._may_nest_too_deep(text):
            self._load(text)
        try:
            message: BaseMessage = self._frame_validator.validate_json(text)
            return message
        except ValidationError as error:
            raise self._explain_frame(text, error) from None

    def decode_reset(self, body: bytes) -> ResetRequest:
        """Decode the body of `POST /reset`; an empty one means no arguments."""
        return self._decode_body(body or b"{}", self._reset_validator, ResetRequest)

    def decode_step(self, body: bytes) -> StepRequest:
        """Decode the body of `POST /step`: an action of the environment, or a tool-style one."""
        return self._decode_body(body, self._step_validator, StepRequest)

    def decode_json(self, body: bytes) -> Any:
        """Decode JSON of no particular shape, within the limits."""
        return self._load(body)

    def _decode_body(self, body: bytes, validator: Any, model: type[ModelT]) -> ModelT:
        if self._may_nest_too_deep(body):
            self._load(body)
        try:
            decoded: ModelT = validator.validate_json(body)
            return decoded
        except ValidationError as error:
            raise self._explain_body(body, model, error) from None

    # Everything below runs only for messages that are refused.

    def _may_nest_too_deep(self, text: Any) -> bool:
        # Counting brackets is far cheaper than parsing; with too few of them nothing is deep.
        braces, brackets = ("{", "[") if isinstance(text, str) else (b"{", b"[")
        return bool(text.count(braces) + text.count(brackets) > self._max_json_depth)

    def _load(self, text: str | bytes) -> Any:
        """`json.loads` within the limits, so that whatever passes can be stored and sent back."""
        if _nesting(text) > self._max_json_depth:
            reason = f"JSON may nest {self._max_json_depth} levels deep at most"
            raise MessageError.invalid("json_depth", (), reason, None)
        try:
            value = json.loads(text, parse_int=_bounded_int)
        except ValueError as error:
            raise MessageError(WSErrorCode.INVALID_JSON, f"Invalid JSON: {error}") from None
        for location, item in _walk(value):
            if isinstance(item, _OversizedInteger):
                reason = f"An integer may have {_MOST_DIGITS} digits at most"
                raise MessageError.invalid("int_parsing_size", location, reason, item.digits)
            for string in (item, *location[-1:]):
                if isinstance(string, str) and not _is_unicode(string):
                    reason = "A string may not hold lone surrogates"
                    raise MessageError.invalid("string_unicode", location, reason, string)
        return value

    def _explain_frame(self, text: str, error: ValidationError) -> MessageError:
        try:
            value = self._load(text)
            if not isinstance(value, dict):
                return MessageError.invalid("dict_type", (), "A message is a JSON object", value)
            kind = value.get("type")
            model = self.messages.get(kind) if isinstance(kind, str) else None
            if model is None:
                return MessageError(
                    WSErrorCode.UNKNOWN_TYPE,
                    f"Unknown message type: {_brief(kind)} (known: {', '.join(self.messages)})",
                )
            data = value.get("data")
            if isinstance(data, dict):  # errors inside `data` are located in it, as in the stock
                if model is ResetMessage:
                    ResetRequest.model_validate(data)
                elif issubclass(model, StepMessage):
                    self._action_model(data).model_validate(data)
            elif "data" in value:
                model = _LOOSE_MESSAGES.get(str(kind), model)
            model.model_validate(value)
        except ValidationError as specific:
            error = specific
        except MessageError as specific:
            return specific
        return MessageError.from_validation(error)

    def _explain_body(
        self, body: bytes, model: type[BaseModel], error: ValidationError
    ) -> MessageError:
        location: tuple[str, ...] = ("body",)
        try:
            value = self._load(body)
            model.model_validate(value)
            if model is StepRequest:
                location = ()
                self._action_model(value["action"]).model_validate(value["action"])
        except ValidationError as specific:
            error = specific
        except MessageError as specific:
            return specific
        return MessageError.from_validation(error, location)

    def _action_model(self, data: dict[str, Any]) -> type[Action]:
        """The action that `data` means to be; an environment's own `type` field comes first."""
        kind = data.get("type")
        if "type" in self._action_cls.model_fields or not isinstance(kind, str):
            return self._action_cls
        return _TOOL_ACTIONS.get(kind, self._action_cls)


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)


def _nesting(text: str | bytes) -> int:
    """How deep the text nests, found without parsing: a parser's own limit is its interpreter's."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")  # brackets and quotes are ASCII, whatever else there is
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


class _OversizedInteger:
    def __init__(self, digits: str) -> None:
        self.digits = digits


def _bounded_int(digits: str) -> int | _OversizedInteger:
    # Python's own limit, and pydantic-core's, on what they convert to an integer.
    return int(digits) if len(digits) <= _MOST_DIGITS else _OversizedInteger(digits)


def _walk(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value inside `value` with its location, without recursion."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while pending:
        location, item = pending.pop()
        yield location, item
        if isinstance(item, dict):
            pending.extend(((*location, key), child) for key, child in item.items())
        elif isinstance(item, list):
            pending.extend(((*location, index), child) for index, child in enumerate(item))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


BESIDE_THE_OBSERVATION = {"reward", "done"}


def encode_observation(observation: Observation) -> str:
    """An HTTP response body; `metadata` beside the observation is null when it is empty."""
    result = _result(observation)
    result["metadata"] = observation.metadata or None
    return _json(result, exclude={"observation": BESIDE_THE_OBSERVATION})


def encode_observation_frame(observation: Observation) -> str:
    """An `observation` frame; `metadata` beside the observation is left out when it is empty."""
    result = _result(observation)
    if observation.metadata:
        result["metadata"] = observation.metadata
    frame = {"type": "observation", "data": result}
    return _json(frame, exclude={"data": {"observation": BESIDE_THE_OBSERVATION}})


def _result(observation: Observation) -> dict[str, Any]:
    # The observation itself is encoded as its model says, serialisers and all.
    return {
        "observation": observation,
        "reward": observation.reward,
        "done": observation.done,
    }


def encode_state_frame(state: State) -> str:
    return f'{{"type":"state","data":{state.model_dump_json()}}}'


def encode_frame(kind: str, data: dict[str, Any]) -> str:
    """A frame of any other type: `error` and `mcp`."""
    return _json({"type": kind, "data": data})


def encode_json_rpc(response: dict[str, Any]) -> str:
    """An HTTP response body of JSON-RPC."""
    return _json(response)


def _json(value: Any, exclude: Any = None) -> str:
    # JSON has no NaN and no infinities; null is what the stock servers send for them.
    return to_json(value, exclude=exclude, inf_nan_mode="null").decode()
