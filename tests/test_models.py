# SPDX-License-Identifier: BSD-3-Clause
"""What goes in and what comes out: fields, defaults, what is refused."""

from typing import Any

import pytest
from openenv.core.env_server.types import Action, Observation
from pydantic import ValidationError

from echo_env.models import EchoAction, EchoObservation


def test_an_action_is_a_message() -> None:
    action = EchoAction(message="Hi")
    assert isinstance(action, Action)
    assert action.model_dump() == {"metadata": {}, "message": "Hi"}


@pytest.mark.parametrize(
    ("fields", "location", "kind"),
    [
        pytest.param({}, ("message",), "missing", id="no message"),
        pytest.param({"message": 5}, ("message",), "string_type", id="message not a string"),
        pytest.param({"message": None}, ("message",), "string_type", id="message is null"),
        pytest.param({"message": "Hi", "loud": 1}, ("loud",), "extra_forbidden", id="unknown"),
    ],
)
def test_anything_but_a_message_is_refused(
    fields: dict[str, Any], location: tuple[str, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        EchoAction.model_validate(fields)
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [(location, kind)]


def test_an_observation_has_the_echo_and_what_openenv_adds() -> None:
    observation = EchoObservation()
    assert isinstance(observation, Observation)
    assert observation.model_dump() == {
        "done": False,
        "reward": None,
        "metadata": {},
        "echoed_message": "",
        "message_length": 0,
    }


def test_a_length_is_not_negative() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        EchoObservation(message_length=-1)


@pytest.mark.parametrize("model", [EchoAction, EchoObservation])
def test_every_field_is_described_in_the_schema(model: type[EchoAction | EchoObservation]) -> None:
    schema = model.model_json_schema()
    assert all(field.get("description") for field in schema["properties"].values())
    assert schema["additionalProperties"] is False
