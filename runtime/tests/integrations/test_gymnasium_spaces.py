# SPDX-License-Identifier: BSD-3-Clause
"""Spaces of fields of any kind: a sample is a valid action, an observation is an element."""

import json
import warnings
from collections.abc import Callable
from datetime import date
from enum import Enum
from itertools import count
from pathlib import Path
from types import new_class
from typing import Annotated, Any, Literal
from uuid import UUID

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import SyncVectorEnv
from gymnasium.vector.utils import batch_space, iterate
from hypothesis import given, settings, strategies
from openenv.core.env_server.types import Action, Observation, State
from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator
from typing_extensions import Self, TypedDict

from stepwire.client import SessionClient
from stepwire.integrations.gymnasium import SessionEnv, SessionVectorEnv
from stepwire.integrations.gymnasium_elements import (
    AnyText,
    Choice,
    FormattedText,
    Items,
    Mapping,
    to_element,
    to_elements,
    to_value,
)
from stepwire.integrations.gymnasium_spaces import Spaces, space_of, validated

pytestmark = pytest.mark.trainer


class _Colour(Enum):
    RED = "red"
    BLUE = "blue"


class _Point(BaseModel):
    x: int = Field(ge=0, le=3)
    label: str | None = None


class _Node(BaseModel):
    children: "list[_Node]"


# Each kind of field: its type, the class of its space, and a value.
_KINDS: dict[str, tuple[Any, type[spaces.Space[Any]], Any]] = {
    "text": (str, AnyText, "x"),
    "short text": (Annotated[str, Field(min_length=2, max_length=3)], AnyText, "xy"),
    "pattern": (Annotated[str, Field(pattern="^[a-h][1-8]$")], FormattedText, "a1"),
    "format": (UUID, FormattedText, UUID(int=5)),
    "integer": (int, spaces.Box, 5),
    "bounds": (Annotated[int, Field(gt=3, lt=9)], spaces.Box, 4),
    "number": (float, spaces.Box, 0.5),
    "exclusive bounds": (Annotated[float, Field(gt=0, lt=1e-3)], spaces.Box, 1e-4),
    "multiple": (Annotated[int, Field(multiple_of=5, gt=3, lt=30)], Choice, 5),
    "multiple of a float": (Annotated[float, Field(multiple_of=0.25, ge=0)], Choice, 0.5),
    "boolean": (bool, Choice, True),
    "literal": (Literal["a", 1, True], Choice, True),
    "literal of one": (Literal["only"], Choice, "only"),
    "enum": (_Colour, Choice, _Colour.BLUE),
    "nothing": (None, Choice, None),
    "optional": (int | None, spaces.OneOf, None),
    "union": (int | str | list[float], spaces.OneOf, "x"),
    "list": (list[str], Items, ["x"]),
    "list with limits": (Annotated[list[int], Field(min_length=2, max_length=3)], Items, [1, 2]),
    "set": (Annotated[set[Literal[1, 2, 3]], Field(min_length=2)], Items, {1, 2}),
    "vector": (Annotated[list[float], Field(min_length=3, max_length=3)], spaces.Box, [1.0] * 3),
    "matrix": (
        Annotated[
            list[Annotated[list[int], Field(min_length=2, max_length=2)]],
            Field(min_length=2, max_length=2),
        ],
        spaces.Box,
        [[1, 2], [3, 4]],
    ),
    "fixed list": (
        Annotated[list[str], Field(min_length=2, max_length=2)],
        spaces.Tuple,
        ["", "x"],
    ),
    "tuple": (tuple[int, str | None], spaces.Tuple, (1, None)),
    "tuple of any length": (tuple[float, ...], Items, (0.5,)),
    "model": (_Point, spaces.Dict, _Point(x=1)),
    "list of models": (list[_Point], Items, [_Point(x=1)]),
    "union of models": (_Point | list[_Point], spaces.OneOf, _Point(x=1)),
    "dictionary": (dict[str, float], Mapping, {"x": 0.5}),
    "dictionary of choices": (
        Annotated[dict[Literal["x", "y"], int], Field(min_length=1)],
        Mapping,
        {"x": 1},
    ),
}


def _models(*kinds: str) -> tuple[type[Action], type[Observation]]:
    fields = {f"field_{number}": _KINDS[kind] for number, kind in enumerate(kinds)}
    required: Any = {name: (kind, ...) for name, (kind, _, _) in fields.items()}
    default: Any = {name: (kind, value) for name, (kind, _, value) in fields.items()}
    return (
        create_model("Move", __base__=Action, **required),
        create_model("Seen", __base__=Observation, **default),
    )


@pytest.mark.filterwarnings("ignore:.*Casting input x")  # Gymnasium's own samples of one number
@pytest.mark.parametrize("kind", _KINDS)
def test_every_sample_is_a_valid_action_and_every_observation_an_element(kind: str) -> None:
    action, observation = _models(kind)
    space = space_of(action)
    assert type(space["field_0"]) is _KINDS[kind][1]
    batched = batch_space(space, 3)
    for each in (space, batched):
        each.seed(7)
    seen_space = space_of(observation)
    for _ in range(100):
        sample = space.sample()
        assert sample in space
        for element in (sample, *iterate(batched, batched.sample())):
            move = validated(action, to_value(space, element))
            seen = observation(**move.model_dump(exclude={"metadata"}))
            values = seen.model_dump(mode="json", exclude={"metadata", "reward", "done"})
            seen_element = to_element(seen_space, values)
            assert seen_element in seen_space
            assert to_value(seen_space, seen_element) == values
    elements = to_elements(seen_space, [values] * 2)
    assert elements in batch_space(seen_space, 2)
    first = next(iter(iterate(batch_space(seen_space, 2), elements)))
    assert to_value(seen_space, first) == values


class _Absent(TypedDict, total=False):
    perhaps: int


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("it is odd")
    return number


_REFUSED: dict[str, tuple[Any, str]] = {
    "anything": (Any, "it may be anything"),
    "dictionary of anything": (dict[str, Any], "its values may be anything"),
    "itself": (_Node, r"\.children\[\]: it contains itself"),
    "pattern": (Annotated[str, Field(pattern=r"\bx")], r"pattern '\\\\bx' is not simple enough"),
    "empty range": (Annotated[int, Field(gt=3, lt=4)], "no number is between its bounds"),
    "few choices": (
        Annotated[set[bool], Field(min_length=3)],
        "no 3 different items were found",
    ),
    "validator": (
        Annotated[int, Field(ge=0, le=9), AfterValidator(_even)],
        "a sample is not valid: .* it is odd",
    ),
    "dictionary of numbers": (
        Annotated[dict[int, int], Field(min_length=1)],
        "a sample is not valid: ",
    ),
}


@pytest.mark.parametrize("kind", _REFUSED)
def test_a_field_without_a_space_is_refused_alone(kind: str) -> None:
    odd, reason = _REFUSED[kind]
    fields: Any = {"fine": (int, ...), "odd": (odd, ...)}
    found = Spaces(create_model("Move", __base__=Action, **fields))
    assert list(found.space) == ["fine"]
    with pytest.raises(TypeError, match=rf"^There is no Gymnasium space for Move\.odd.*{reason}"):
        raise found.refused["odd"]
    found.space.sample()


def test_an_observations_field_that_may_be_missing_is_refused() -> None:
    fields: Any = {"odd": (_Absent, _Absent())}
    with pytest.raises(TypeError, match=r"Seen\.odd\.perhaps: it may be missing"):
        space_of(create_model("Seen", __base__=Observation, **fields))


class _Ordered(Action):
    low: int = Field(ge=0, le=9)
    high: int = Field(ge=0, le=9)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def test_rules_of_several_fields_are_named() -> None:
    found = Spaces(_Ordered)
    assert not found.refused
    assert "low is above high" in found.rule


# With a server


@pytest.fixture(scope="module")
def mirror(start_shared_server: Callable[..., Any]) -> str:
    return str(start_shared_server(application=Path(__file__).with_name("mirror.py")).url)


_NUMBERS = count()


def _client(action: type[Action], observation: type[Observation]) -> Any:
    name = f"Client{next(_NUMBERS)}"
    base: Any = SessionClient
    return new_class(name, (base[action, observation, State],))


# Gymnasium recommends bounds and numbers of certain types; a model has those of its author.
_recommendations = pytest.mark.filterwarnings("ignore:.*(infinity|recommend|not an np)")


@_recommendations
@settings(max_examples=25, deadline=None)
@given(strategies.lists(strategies.sampled_from(list(_KINDS)), min_size=1, max_size=6))
def test_gymnasiums_checks_pass_for_any_models(mirror: str, kinds: list[str]) -> None:
    env = SessionEnv(_client(*_models(*kinds)), base_url=mirror)
    check_env(env, skip_render_check=True, skip_close_check=True)
    env.reset()
    env.action_space.seed(1)
    for _ in range(5):
        element = env.action_space.sample()
        observation, reward, *_ = env.step(element)
        assert observation in env.observation_space
        assert reward == 1
    env.close()


@_recommendations
def test_many_sessions_return_what_gymnasiums_own_vector_environment_does(mirror: str) -> None:
    client = _client(*_models("optional", "tuple", "list", "dictionary", "vector", "union"))
    ours = SessionVectorEnv(client, num_envs=2, base_url=mirror)
    theirs = SyncVectorEnv([lambda: SessionEnv(client, base_url=mirror)] * 2)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert data_equivalence(ours.reset(), theirs.reset())
    ours.action_space.seed(3)
    for _ in range(5):
        actions = ours.action_space.sample()
        result = ours.step(actions)
        assert result[0] in ours.observation_space
        assert data_equivalence(result, theirs.step(actions))
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("kind", "plain", "seen"),
    [
        ("integer", 42, np.array(42)),
        ("number", 0.25, np.array(0.25)),
        ("text", "Hi", "Hi"),
        ("enum", "blue", 1),
        ("optional", 42, (1, np.array(42))),
        ("optional", None, (0, 0)),
        ("vector", [1, 2, 3], np.array([1.0, 2.0, 3.0])),
    ],
)
@_recommendations
def test_an_action_of_one_field_may_be_a_plain_value(
    mirror: str, kind: str, plain: Any, seen: Any
) -> None:
    env = SessionEnv(_client(*_models(kind)), base_url=mirror)
    env.reset()
    observation = env.step(plain)[0]["field_0"]
    if isinstance(seen, tuple):
        optional = env.observation_space["field_0"]
        seen = to_element(optional, plain)
        assert observation[0] == seen[0]
    assert data_equivalence(observation, seen) or observation == seen
    env.close()


@_recommendations
def test_fields_without_a_space_have_defaults_or_are_in_info(mirror: str) -> None:
    fields: Any = {"fine": (int, 1), "odd": (dict[str, Any], {"a": 1})}
    action = create_model("Move", __base__=Action, **fields)
    observation = create_model("Seen", __base__=Observation, **fields)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = SessionEnv(_client(action, observation), base_url=mirror)
    assert [str(warning.message) for warning in caught] == [
        "There is no Gymnasium space for Move.odd: its values may be anything. "
        "Actions have its default value.",
        "There is no Gymnasium space for Seen.odd: its values may be anything. It is in `info`.",
    ]
    env.reset()
    observation_seen, *_, info = env.step(42)
    assert observation_seen == {"fine": 42}
    assert info["odd"] == {"a": 1}
    env.close()
    required: Any = {"odd": (dict[str, Any], ...)}
    with pytest.raises(TypeError, match=r"Move\.odd: its values may be anything"):
        SessionEnv(_client(create_model("Move", __base__=Action, **required), observation), mirror)


# What `SyncVectorEnv` refuses


def _mask(*values: Any, dtype: Any = np.bool_) -> Any:
    return {"reset_mask": np.array(values, dtype=dtype)}


@_recommendations
@pytest.mark.parametrize(
    "reset",
    [
        {"seed": [1]},
        {"seed": [1, 2, 3]},
        {"seed": -1},
        {"seed": "7"},
        {"options": {"reset_mask": [True, False]}},
        {"options": _mask(1, 0, dtype=np.int64)},
        {"options": _mask(True)},
        {"options": _mask(False, False)},
    ],
    ids=str,
)
def test_a_reset_that_gymnasium_refuses_is_refused(mirror: str, reset: Any) -> None:
    for envs in _both(mirror):
        with pytest.raises((AssertionError, TypeError, gymnasium.error.Error)):
            envs.reset(**{key: dict(of) if key == "options" else of for key, of in reset.items()})
        envs.close()


@_recommendations
def test_steps_that_gymnasium_refuses_are_refused(mirror: str) -> None:
    for envs in _both(mirror):
        with pytest.raises(gymnasium.error.ResetNeeded):
            envs.step(np.array([1, 2]))
        with pytest.raises((gymnasium.error.ResetNeeded, TypeError)):
            envs.reset(options=_mask(True, False))
        envs.reset()
        for actions in (np.array([1]), np.array([1, 2, 3])):
            with pytest.raises(ValueError, match=r"actions for 2 sessions|zip\(\)"):
                envs.step(actions)
        envs.close()
    with pytest.raises(ValueError, match="num_envs is a number above 0, not 0"):
        SessionVectorEnv(_client(*_models("integer")), num_envs=0, base_url=mirror)


def _both(mirror: str) -> Any:
    gymnasium.register(
        "tests/Mirror-v0",
        entry_point=SessionEnv,
        vector_entry_point=SessionVectorEnv,
        kwargs={"client": _client(*_models("integer")), "base_url": mirror},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield gymnasium.make_vec("tests/Mirror-v0", num_envs=2)
        yield gymnasium.make_vec("tests/Mirror-v0", num_envs=2, vectorization_mode="sync")
    del gymnasium.registry["tests/Mirror-v0"]


def test_the_documents_table_names_the_spaces(root: Path) -> None:
    page = (root / "docs" / "environment.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and " space" not in line]
    for name in {each.__name__ for _, each, _ in _KINDS.values()}:
        assert any(f"`{name}`" in row for row in rows), name


def test_date_is_formatted_text() -> None:
    fields: Any = {"day": (date, ...)}
    assert isinstance(space_of(create_model("M", __base__=Action, **fields))["day"], FormattedText)


def test_spaces_are_equal_when_their_rules_are() -> None:
    found = {kind: space_of(_models(kind)[0]) for kind in _KINDS}
    for kind, space in found.items():
        assert space_of(_models(kind)[0]) == space
        assert [other for other in found if found[other] == space] == [kind]
    assert json.dumps(space_of(_models("text")[0]).to_jsonable([{"field_0": "x"}]))
