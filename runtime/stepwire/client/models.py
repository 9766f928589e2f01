# SPDX-License-Identifier: BSD-3-Clause
"""The models that a client class declares, and the payloads, results and states made of them."""

from copy import deepcopy
from functools import cache
from reprlib import repr as short_repr
from typing import Any, TypeVar, get_args, get_origin

from openenv.core.client_types import StepResult
from pydantic import AliasChoices, BaseModel, ValidationError

from stepwire.client.errors import InvalidActionError

ModelT = TypeVar("ModelT", bound=BaseModel)

# Fields that every observation has, wherever it comes from.
_COMMON_FIELDS = {"reward", "done", "metadata"}


def declare_models(cls: type, root: Any, names: tuple[str, ...]) -> None:
    """Set the class attributes `names` to the models that `cls` puts for `root`'s type variables.

    Only variables that are filled in at `cls` itself count, and not those whose attribute the class
    body assigns.
    """
    base, inherited = _generic_base(cls, root)
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


def require_action(action: Any, model: type[ModelT], client: str) -> ModelT:
    """`action` as an instance of `model`; raises `InvalidActionError` when it is none.

    An equal model under another name (the class imported twice, say) is converted.
    """
    if type(action) is model or isinstance(action, model):
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


def action_payload(action: BaseModel) -> dict[str, Any]:
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
def _layout(model: type[BaseModel]) -> tuple[set[str] | None, tuple[tuple[str, str], ...]]:
    """The computed fields, which no server takes, and fields dumped and validated by two names."""
    renamed = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias]
        validated_name = next((one for one in names if isinstance(one, str)), name)
        dumped_name = field.serialization_alias or name
        if dumped_name != validated_name and not field.exclude:
            renamed.append((dumped_name, validated_name))
    return set(model.model_computed_fields) or None, tuple(renamed)


def parse_observation(model: type[BaseModel], payload: dict[str, Any]) -> StepResult[Any]:
    """The result in the `data` of an `observation` frame."""
    reward, done = payload["reward"], payload["done"]
    fields = {**payload["observation"], "reward": reward, "done": done}
    if fields.get("metadata") is None:  # the servers of openenv-core send none
        fields.pop("metadata", None)
    return StepResult(parse_model(model, fields), reward, done)


def parse_model(model: type[ModelT], fields: dict[str, Any]) -> ModelT:
    """An instance of `model` from decoded JSON; keys that it does not know are ignored.

    A model that allows extra fields keeps them. Fields may have their names or their aliases:
    servers differ. Raises `ValidationError`.
    """
    try:
        return model.model_validate(fields, by_alias=True, by_name=True)
    except ValidationError as error:
        return model.model_validate(
            _without_unknown_keys(model, fields, error), by_alias=True, by_name=True
        )


def _without_unknown_keys(
    model: type[BaseModel], fields: dict[str, Any], error: ValidationError
) -> dict[str, Any]:
    """`fields` without the keys that `error` complains about; raises `error` if that is no help.

    A reply in which the model knows nothing at all comes from another environment.
    """
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
    return known
