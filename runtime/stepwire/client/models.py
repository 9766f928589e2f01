# SPDX-License-Identifier: BSD-3-Clause
"""`DeclaredModels`: a client's payloads, results and states, made from its generic arguments.

A class `MyEnv(SessionClient[MyAction, MyObservation, MyState])` sends actions as dumps of
`MyAction` and validates replies by the other two. Keys that these do not know are ignored; a model
that allows extra fields keeps them. Fields of replies may have their names or their aliases:
servers differ.
"""

import warnings
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from functools import cache, cached_property
from reprlib import repr as short_repr
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import State
from pydantic import AliasChoices, BaseModel, ValidationError

from stepwire.client.errors import InvalidActionError, UsageError
from stepwire.client.messages import OpenObservation
from stepwire.client.results import AwaitableStepResult

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)
ModelT = TypeVar("ModelT", bound=BaseModel)

# Fields that every observation has, wherever it comes from.
_COMMON_FIELDS = {"reward", "done", "metadata"}


class DeclaredModels(EnvClient[ActT, ObsT, StateT]):
    """The framework's hooks of a client, by the models that it declares as generic arguments."""

    action_model: ClassVar[type[BaseModel]]
    """The class of actions: the first generic argument, unless the class body assigns another."""
    observation_model: ClassVar[type[BaseModel]]
    """The class of observations: the second generic argument."""
    state_model: ClassVar[type[State]] = State
    """The class of states: the third generic argument."""
    reset_arguments: ClassVar[tuple[str, ...] | None] = None
    """What the environment's `reset` takes beside `seed` and `episode_id`; `None` is anything."""
    _plain_action: type[BaseModel] | None = None  # `action_model`, if it is plain
    _computed: ClassVar[tuple[str, ...]] = ()  # fields of observations that are not to be validated

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _declare_models(cls)
        action_model = getattr(cls, "action_model", None)
        cls._plain_action = action_model if action_model and _is_plain(action_model) else None
        cls._computed = tuple(getattr(cls, "observation_model", BaseModel).model_computed_fields)

    @classmethod
    def require_models(cls) -> None:
        """Raise `UsageError` where a hook of this class would lack the model it needs."""
        needed = {"_step_payload": "action_model", "_parse_result": "observation_model"}
        for hook, model in needed.items():
            if not hasattr(cls, model) and getattr(cls, hook) is getattr(DeclaredModels, hook):
                raise UsageError(
                    f"{cls.__name__} has no `{model}`. Declare its models: "
                    f"`class {cls.__name__}(SessionClient[MyAction, MyObservation, MyState])`."
                )

    def warn_of_unknown(self, arguments: Iterable[str]) -> None:
        """Warn of arguments of `reset` that are probably misspelt.

        Others that the environment does not take pass: trainers send whatever their tasks hold.
        """
        if self.reset_arguments is None:
            return
        known = ("seed", "episode_id", "scenario", *self.reset_arguments)
        for name in set(arguments) - set(known):
            for meant in get_close_matches(name, known, 1):
                warnings.warn(
                    f"{type(self).__name__}.reset takes {', '.join(known)}, not {name!r}. "
                    f"Did you mean {meant!r}?",
                    stacklevel=4,
                )

    # The work of the first two is done here rather than in functions: a call less is 1 % of a step.

    def _step_payload(self, action: ActT) -> dict[str, Any]:
        if type(action) is not self._plain_action:
            return _payload(_require_action(action, self.action_model, type(self).__name__))
        payload = action.__dict__.copy()
        if not payload.get("metadata", True):
            del payload["metadata"]
        return payload

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[ObsT]:
        model: Any = self.observation_model
        reward, done = payload["reward"], payload["done"]
        fields = {**payload["observation"], "reward": reward, "done": done}
        if fields.get("metadata") is None:  # the servers of openenv-core send none
            fields.pop("metadata", None)
        for name in self._computed:
            fields.pop(name, None)
        try:  # what `model_validate` calls
            observation = model.__pydantic_validator__.validate_python(
                fields, by_alias=True, by_name=True
            )
        except ValidationError as error:
            observation = _parse_known_keys(model, fields, error)
        metadata = getattr(observation, "metadata", payload.get("metadata"))
        reward = getattr(observation, "reward", reward)  # which its class has validated
        done = getattr(observation, "done", done)
        return AwaitableStepResult(observation, reward, done, metadata)

    def _parse_state(self, payload: dict[str, Any]) -> StateT:
        model: Any = self.state_model
        try:
            state = model.model_validate(payload, by_alias=True, by_name=True)
        except ValidationError as error:
            state = _parse_known_keys(model, payload, error)
        return state  # type: ignore[no-any-return]


# From generic arguments to models.


def _declare_models(cls: type) -> None:
    """Set the attributes for the models to the generic arguments.

    Only variables that are filled in at `cls` itself count, and only attributes that its body does
    not assign.
    """
    names = ("action_model", "observation_model", "state_model")
    base, inherited = _generic_base(cls, DeclaredModels)
    for name, before, now in zip(names, inherited, _fill_in(base, inherited), strict=True):
        is_new_model = before is not now and isinstance(now, type) and issubclass(now, BaseModel)
        if is_new_model and name not in cls.__dict__:
            setattr(cls, name, now)


def _generic_base(cls: type, root: Any) -> tuple[Any, tuple[Any, ...]]:
    """The base through which `cls` derives from `root`, and that base's arguments for `root`."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin is root:
            return base, origin.__parameters__
        if isinstance(origin, type) and issubclass(origin, root):
            return base, _fill_in(*_generic_base(origin, root))
    raise TypeError(f"{cls.__name__} does not derive from {root.__name__}.")


def _fill_in(base: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """`arguments`, with what `base` is subscripted with in the place of type variables."""
    variables = getattr(get_origin(base), "__parameters__", ())
    values = dict(zip(variables, get_args(base), strict=False))
    return tuple(values.get(one, one) if isinstance(one, TypeVar) else one for one in arguments)


# From actions to payloads.


def _require_action(action: Any, model: type[ModelT], client: str) -> ModelT:
    """`action` as an instance of `model`; raises `InvalidActionError` when it is none.

    An equal model under another name (the class imported twice, say) is converted.
    """
    if isinstance(action, model):
        return action
    article = "an" if model.__name__[0] in "AEIOU" else "a"
    refusal = (
        f"{client}.step takes {article} {model.__name__}, not {short_repr(action)} of type "
        f"{type(action).__name__}. Nothing was sent."
    )
    if not isinstance(action, BaseModel):
        raise InvalidActionError(refusal)
    try:
        fields = action.model_dump(warnings=False)
        return model.model_validate(fields, by_alias=True, by_name=True)
    except ValueError as error:
        raise InvalidActionError(refusal) from error


def _payload(action: BaseModel) -> dict[str, Any]:
    """The `data` of a `step` frame: all fields under the names the server validates.

    Empty `metadata` is left out. Raises `ValueError` for values that JSON cannot hold.
    """
    computed, renamed = _layout(type(action))
    payload = action.model_dump(mode="json", by_alias=True, exclude=computed, warnings=False)
    for name, validated_name in renamed:
        payload[validated_name] = payload.pop(name)
    if not payload.get("metadata", True):
        del payload["metadata"]
    return payload


@cache
def _layout(model: type[BaseModel]) -> tuple[set[str], list[tuple[str, str]]]:
    """The computed fields, which no server takes, and fields dumped and validated by two names."""
    renamed = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        validated_name = next((one for one in names if isinstance(one, str)), name)
        dumped_name = field.serialization_alias or name
        if dumped_name != validated_name and not field.exclude:
            renamed.append((dumped_name, validated_name))
    return set(model.model_computed_fields), renamed


def _is_plain(model: type[BaseModel]) -> bool:
    """Whether the payload of an action is just its `__dict__`, which takes 5 % off a step."""
    decorators = model.__pydantic_decorators__
    return not (
        issubclass(model, CallToolAction)  # its answer may be of another class
        or decorators.field_serializers
        or decorators.model_serializers
        or model.model_computed_fields
        or model.model_config.get("extra") == "allow"
        or model.model_config.get("json_encoders")
        or any(
            isinstance(value, cached_property)
            for cls in model.__mro__
            for value in vars(cls).values()
        )
    ) and all(
        _is_plain_type(field.annotation)
        and not (field.alias or field.validation_alias or field.serialization_alias)
        and not (field.exclude or getattr(field, "exclude_if", None))
        and not any(hasattr(one, "__get_pydantic_core_schema__") for one in field.metadata)
        for field in model.model_fields.values()
    )


def _is_plain_type(annotation: Any) -> bool:
    """Whether JSON holds values of this type as they are."""
    origin = get_origin(annotation)
    if origin in (list, dict, Union, UnionType):
        return all(map(_is_plain_type, get_args(annotation)))
    return origin is Literal or annotation in (str, int, float, bool, NoneType, Any)


# From replies to models.


def _parse_known_keys(
    model: type[ModelT], fields: dict[str, Any], error: ValidationError
) -> ModelT:
    """Parse what failed with `error`, without the keys that the model does not know.

    Raises `error` if it has another reason, or the model knows nothing of the reply at all: that
    comes from another environment. A client of tools accepts any observation that
    does not answer a call, such as that of a reset.
    """
    if issubclass(model, CallToolObservation) and "tool_name" not in fields:
        return OpenObservation(**fields)  # type: ignore[return-value]
    known = deepcopy(fields)
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        *path, key = problem["loc"]
        holder: Any = known
        for step in path:
            try:
                holder = holder[step]
            except (LookupError, TypeError):  # a step that names a type of a union
                continue
        if problem["type"] != "extra_forbidden" or not isinstance(holder, dict):
            raise error
        holder.pop(key, None)
    if known.keys() <= _COMMON_FIELDS < model.model_fields.keys():
        raise error
    return model.model_validate(known, by_alias=True, by_name=True)
