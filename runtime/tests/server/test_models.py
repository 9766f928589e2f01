# SPDX-License-Identifier: BSD-3-Clause
"""The classes that an environment's messages are described with."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field
from starlette.testclient import TestClient

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation, NotesState
from stepwire.server import create_app
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.models import Models

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

StateT = TypeVar("StateT", bound=State)


class Board(State):
    cells: list[int] = Field(default_factory=list)


class Welcome(Observation):
    rules: str = "none"


class _Plain(Environment):  # type: ignore[type-arg]
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, **_: Any) -> Observation:
        return Welcome(rules="take turns")

    def step(self, action: Action, **_: Any) -> Observation:  # type: ignore[override]
        return Observation()

    @property
    def state(self) -> State:
        return Board(episode_id="e", cells=[1, 2])


class _AnnotatedProperty(_Plain):
    @property
    def state(self) -> Board:
        return Board()


class _AnnotatedWithText(_Plain):
    @property
    def state(self) -> "Board":
        return Board()


class _UnreadableAnnotation(_Plain):
    @property
    def state(self) -> "Missing":
        return Board()


class _Arguments(Environment[Action, Observation, Board]):
    reset = _Plain.reset  # type: ignore[assignment]
    step = _Plain.step  # type: ignore[assignment]

    @property
    def state(self) -> Any:
        return Board()


class _Base(Environment[Action, Observation, StateT], Generic[StateT]):
    pass


class _ArgumentsOfABase(_Base[Board]):
    reset = _Plain.reset  # type: ignore[assignment]
    step = _Plain.step  # type: ignore[assignment]
    state = _Plain.state  # type: ignore[assignment]


class _Inherited(_AnnotatedProperty):
    pass


def _state_of(environment_cls: Any, state_cls: type[State] = State) -> type[State]:
    factory = EnvironmentFactory(environment_cls)
    return Models(factory, Action, Observation, None, state_cls).state


@pytest.mark.parametrize(
    ("environment_cls", "state_cls"),
    [
        (NotesEnvironment, NotesState),
        (_AnnotatedProperty, Board),
        (_AnnotatedWithText, Board),
        (_Arguments, Board),
        (_ArgumentsOfABase, Board),
        (_Inherited, Board),
        (_Plain, State),
        (_UnreadableAnnotation, State),
        (lambda: _Inherited(), State),
    ],
)
def test_the_class_of_the_state_is_found_in_the_annotations(
    environment_cls: Any, state_cls: type[State]
) -> None:
    assert _state_of(environment_cls) is state_cls
    assert _state_of(environment_cls, NotesState) is NotesState  # the argument wins


def test_the_classes_are_described() -> None:
    app = create_app(
        _Plain, NoteAction, NoteObservation, state_cls=Board, reset_observation_cls=Welcome
    )
    with TestClient(app) as client:
        schemas = client.get("/schema").json()
        assert "text" in schemas["action"]["properties"]
        assert "length" in schemas["observation"]["properties"]
        assert "rules" in schemas["reset_observation"]["properties"]
        assert "cells" in schemas["state"]["properties"]
        for _ in range(2):  # the description can be asked for again
            document = client.get("/openapi.json").json()
            components = document["components"]["schemas"]
            assert {"NoteObservation", "Welcome", "Board"} <= set(components)
            answers = {
                path: str(operation["responses"]["200"]["content"]["application/json"]["schema"])
                for path, operations in document["paths"].items()
                for operation in operations.values()
                if path in ("/reset", "/step", "/state")
            }
            assert "/Welcome'" in answers["/reset"]
            assert "/NoteObservation'" in answers["/step"]
            assert "/Board'" in answers["/state"]
        assert client.get("/state").json() == {"episode_id": "e", "step_count": 0, "cells": [1, 2]}
        assert client.post("/reset").json()["observation"]["rules"] == "take turns"


def test_without_a_class_the_first_observation_is_like_all_others() -> None:
    app = create_app(NotesEnvironment, NoteAction, NoteObservation)
    schemas = TestClient(app).get("/schema").json()
    assert schemas["reset_observation"] == schemas["observation"]


def test_an_environment_of_tools_only_needs_no_classes() -> None:
    app = create_app(NotesEnvironment, None, None)
    with TestClient(app) as client:
        schemas = client.get("/schema").json()
        assert "tool_name" in schemas["action"]["properties"]
        assert "tool_name" in schemas["observation"]["properties"]
        with client.websocket_connect("/ws") as session:
            call = {"type": "call_tool", "tool_name": "read_note", "arguments": {"text": "Hi"}}
            session.send_json({"type": "step", "data": call})
            assert session.receive_json()["data"]["observation"]["result"]["data"] == "Hi"
            session.send_json({"type": "step", "data": {"text": "Hi"}})
            assert session.receive_json()["data"]["code"] == "VALIDATION_ERROR"
