# SPDX-License-Identifier: BSD-3-Clause
"""The wire format of clients' messages: the one place that decodes them.

A valid message costs one pass of pydantic-core, from text to typed message. Only an invalid one is
decoded again, step by step, to explain what is wrong with it in the form of the stock servers.
"""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar, Union, get_args

from openenv.core.env_server.mcp_types import CallToolAction, JsonRpcRequest, ListToolsAction
from openenv.core.env_server.types import (
    Action,
    BaseMessage,
    ResetRequest,
    StepRequest,
    WSErrorCode,
    WSResetMessage,
    WSStepMessage,
)
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json, to_json

from stepwire.server.error_limits import ErrorLimit
from stepwire.server.errors import MessageError
from stepwire.server.json_limits import check_limits, has_many_values
from stepwire.server.memory import LARGE

ActionT = TypeVar("ActionT", bound=Action)
ModelT = TypeVar("ModelT", bound=BaseModel)

SCHEMA_REFERENCE = "#/components/schemas/{model}"  # in an OpenAPI document


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


# In the framework's tool-style actions `type` has a default. On the wire it tells them apart from
# the environment's own action, so here it is required.
class ListTools(ListToolsAction):
    type: Literal["list_tools"]


class CallTool(CallToolAction):
    type: Literal["call_tool"]


TOOL_MODELS: dict[str, type[Action]] = {"list_tools": ListTools, "call_tool": CallTool}
TOOL_ACTIONS = frozenset({ListToolsAction, CallToolAction, *TOOL_MODELS.values()})

# For a `data` that is not an object: their error does not name the environment's model.
_LOOSE_MESSAGES: dict[str, type[BaseMessage]] = {"reset": WSResetMessage, "step": WSStepMessage}

_MOST_DIGITS = 4300


_Explain: TypeAlias = Callable[[Any, ValidationError], MessageError]


class _Kind:
    """A kind of messages: how they are validated, with and without an end to their errors."""

    def __init__(self, adapter: "TypeAdapter[Any]") -> None:
        self.validator = adapter.validator
        self.limit = ErrorLimit(adapter.core_schema)


class MessageDecoder:
    """Decodes the messages of one environment: WebSocket frames and HTTP bodies.

    The `decode_…` methods return a typed message or raise `MessageError`.
    """

    def __init__(self, action_cls: Any, max_json_depth: int) -> None:
        """`action_cls` is the class of the environment's actions, or a union of classes."""
        self._action_cls = action_cls
        self._max_json_depth = max_json_depth
        # Left to right: an action that fits the environment's own model is never a tool call.
        action: Any = Annotated[
            action_cls | CallTool | ListTools, Field(union_mode="left_to_right")
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
        self._frames = _Kind(TypeAdapter[BaseMessage](frame))
        self._resets = _Kind(TypeAdapter(ResetRequest))
        self.step_request: type[StepRequest] = create_model(
            "StepRequest", __base__=StepRequest, action=(action, ...)
        )
        self._steps = _Kind(TypeAdapter(self.step_request))

    def decode_frame(self, text: str | bytes | None) -> BaseMessage:
        """Decode one WebSocket frame; `None` stands for a binary frame, which is invalid."""
        if text is None:
            raise MessageError.invalid("text_type", (), "A message is a text frame", None)
        check_limits(text, self._max_json_depth)
        message: BaseMessage = self._validated(text, self._frames, self._explain_frame)
        return message

    def decode_reset(self, body: bytes) -> ResetRequest:
        """Decode the body of `POST /reset`; an empty body means no arguments."""
        return self._decode_body(body or b"{}", self._resets, ResetRequest)

    def decode_step(self, body: bytes) -> StepRequest:
        """Decode the body of `POST /step`: an action of the environment, or a tool-style action."""
        return self._decode_body(body, self._steps, StepRequest)

    def decode_body(self, body: bytes, model: type[ModelT]) -> ModelT:
        """Decode the body of another route."""
        return self._decode_body(body, _Kind(TypeAdapter(model)), model)

    def decode_json(self, body: str | bytes) -> Any:
        """Decode JSON of any shape, within the limits."""
        return self._load(as_utf_8(body) if isinstance(body, bytes) else body)

    def request_schemas(self) -> dict[str, Any]:
        """OpenAPI components of the request bodies, by name."""
        models: list[Any] = [
            (model, "validation") for model in (ResetRequest, self.step_request, JsonRpcRequest)
        ]
        _, definitions = models_json_schema(models, ref_template=SCHEMA_REFERENCE)
        schemas: dict[str, Any] = definitions["$defs"]
        # The framework's examples have another environment's action.
        schemas["StepRequest"].pop("examples", None)
        return schemas

    def _decode_body(self, body: bytes, kind: "_Kind", model: type[ModelT]) -> ModelT:
        body = as_utf_8(body)
        check_limits(body, self._max_json_depth)
        decoded: ModelT = self._validated(body, kind, partial(self._explain_body, model))
        return decoded

    def _validated(self, text: Any, kind: "_Kind", explain: _Explain) -> Any:
        if not has_many_values(text) or kind.limit.accepts(text):
            try:
                return kind.validator.validate_json(text)
            except ValidationError as error:
                if len(text) <= LARGE:
                    raise explain(text, error) from None
        raise self._explain_large(text, kind, explain)

    def _load(self, text: str | bytes) -> Any:
        """Parse JSON within the limits; the result can always be encoded again."""
        check_limits(text, self._max_json_depth)
        try:
            return from_json(text)
        except ValueError:
            pass  # invalid, or valid for Python's parser only: a lone surrogate, a huge integer
        try:
            value = json.loads(text, parse_int=_bounded_int)
        except ValueError as error:
            raise MessageError(WSErrorCode.INVALID_JSON, f"Invalid JSON: {error}") from None
        location: list[str | int] = []
        flaw = _flaw(value, location)
        if flaw is not None:
            kind, reason, received = flaw
            raise MessageError.invalid(kind, tuple(location), reason, received)
        return value

    # Everything below runs only for messages that are refused.

    def _explain_large(self, text: Any, kind: "_Kind", explain: _Explain) -> MessageError:
        """Explain a message by its first values, which take little memory."""
        try:
            short = to_json(kind.limit.shortened(self._load(text))).decode()
            kind.validator.validate_json(short)
        except ValidationError as error:
            return explain(short, error)
        except MessageError as error:
            return error
        reason = "Values of the message are invalid; they are too many or too long to list"
        return MessageError.invalid("too_many_errors", (), reason, None)

    def _explain_frame(self, text: str | bytes, error: ValidationError) -> MessageError:
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
            if isinstance(data, dict):  # as in the stock, `loc` then starts inside `data`
                if model is ResetMessage:
                    ResetRequest.model_validate(data)
                elif issubclass(model, StepMessage):
                    self._validate_action(data)
            elif "data" in value:
                model = _LOOSE_MESSAGES.get(str(kind), model)
            model.model_validate(value)
        except ValidationError as specific:
            return MessageError.from_validation(specific)
        except MessageError as specific:
            return specific
        return MessageError.from_validation(error)

    def _explain_body(
        self, model: type[BaseModel], body: str | bytes, error: ValidationError
    ) -> MessageError:
        location: tuple[str, ...] = ("body",)
        try:
            value = self._load(body)
            model.model_validate(value)
            if model is StepRequest:
                location = ()
                self._validate_action(value["action"])
        except ValidationError as specific:
            return MessageError.from_validation(specific, location)
        except MessageError as specific:
            return specific
        return MessageError.from_validation(error, location)

    def _validate_action(self, data: dict[str, Any]) -> None:
        """Validate with the model that explains `data`: a tool action's if only `type` names it."""
        kind = data.get("type")
        model: Any = self._action_cls
        if isinstance(kind, str) and not any(
            _has_type(cls, kind) for cls in action_classes(self._action_cls)
        ):
            model = TOOL_MODELS.get(kind, model)
        TypeAdapter(model).validate_python(data)


def action_classes(action_cls: Any) -> tuple[type[Action], ...]:
    """The classes of a union of actions, or the one class."""
    if isinstance(action_cls, type):
        return (action_cls,)
    return tuple(cls for member in get_args(action_cls) for cls in action_classes(member))


def _has_type(cls: type[Action], kind: str) -> bool:
    is_of_another = issubclass(cls, CallToolAction) and kind == "list_tools"
    return "type" in cls.model_fields and not is_of_another


def as_utf_8(body: bytes) -> bytes:
    """The body without a byte order mark; in UTF-8 if it was in UTF-16 or UTF-32.

    RFC 8259 allows a parser to ignore the mark. The stock servers also read the other encodings.
    """
    # JSON in UTF-8 begins with two bytes of ASCII that are not zero.
    if body[:1].isascii() and 0 not in body[:2]:
        return body
    try:
        return body.decode(json.detect_encoding(body)).encode()
    except UnicodeDecodeError as error:
        raise MessageError(WSErrorCode.INVALID_JSON, f"Invalid JSON: {error}") from None


class _OversizedInteger:
    def __init__(self, digits: str) -> None:
        self.digits = digits


def _bounded_int(digits: str) -> int | _OversizedInteger:
    # Python and pydantic-core refuse to convert longer ones.
    return int(digits) if len(digits) <= _MOST_DIGITS else _OversizedInteger(digits)


def _flaw(value: Any, location: list[str | int]) -> tuple[str, str, Any] | None:
    """Why `value` cannot be encoded as JSON again: type, reason and input of the error, or `None`.

    Appends the path to the offending value to `location`.
    """
    if isinstance(value, str):
        reason = "A string may not hold lone surrogates"
        return None if _is_unicode(value) else ("string_unicode", reason, value)
    if isinstance(value, _OversizedInteger):
        reason = f"An integer may have {_MOST_DIGITS} digits at most"
        return "int_parsing_size", reason, value.digits
    children: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        location.append(key)
        flaw = _flaw(key, location) or _flaw(child, location)
        if flaw is not None:
            return flaw
        location.pop()
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
