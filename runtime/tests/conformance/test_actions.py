# SPDX-License-Identifier: BSD-3-Clause
"""Actions that are generated from a schema are valid against it."""

from typing import Annotated, Any, Literal, Union

import pytest
from jsonschema import Draft202012Validator
from openenv.core.env_server.mcp_types import CallToolAction
from pydantic import BaseModel, Field

from notes_env.models import NoteAction
from stepwire.conformance.actions import example_actions


class _Move(BaseModel):
    """A field of each kind that models have."""

    text: Annotated[str, Field(min_length=30)]
    letter: Annotated[str, Field(max_length=1)]
    direction: Literal["north", "south"]
    constant: Literal["only"]
    count: Annotated[int, Field(ge=3, le=9)]
    above: Annotated[int, Field(gt=3)]
    below: Annotated[int, Field(le=-3)]
    under: Annotated[float, Field(lt=-3)]
    free: float
    flag: bool
    perhaps: str | None
    nothing: None
    either: Union[int, str]  # noqa: UP007
    pair: Annotated[list[int], Field(min_length=2)]
    mapping: dict[str, int]
    inner: "_Inner"
    optional: int = 5


class _Inner(BaseModel):
    name: str


class _Endless(BaseModel):
    again: "_Endless | None"


@pytest.mark.parametrize("model", [NoteAction, CallToolAction, _Move, _Inner, _Endless])
def test_an_example_is_valid(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    examples = example_actions(schema)
    assert len(examples) == 3
    for example in examples:
        Draft202012Validator(schema).validate(example)
        model.model_validate(example)


def test_examples_are_the_same_every_time_and_differ_from_each_other() -> None:
    schema = NoteAction.model_json_schema()
    assert example_actions(schema) == example_actions(schema)
    assert len({example["text"] for example in example_actions(schema)}) == 3


@pytest.mark.parametrize("schema", [{}, {"type": "string"}])
def test_the_example_is_empty_if_the_schema_is_not_of_an_object(schema: dict[str, Any]) -> None:
    assert list(example_actions(schema)) == [{}] * 3
