# SPDX-License-Identifier: BSD-3-Clause
"""Replies as JSON: as the stock servers send them, and where those would fail."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import logging
import types
import uuid
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from openenv.core.env_server.serialization import serialize_observation
from openenv.core.env_server.types import Observation, State, WSObservationResponse, WSStateResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    computed_field,
    field_serializer,
    model_serializer,
)

from notes_env.models import NoteObservation
from stepwire.server.encoding import (
    encode_frame,
    encode_observation,
    encode_observation_frame,
    encode_state,
    encode_state_frame,
)


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    x: int = Field(1, alias="horizontal")


@dataclasses.dataclass
class Pair:
    first: int = 1
    second: Any = None


class Seen(Observation):
    value: Any = None


class Configured(Observation):
    """Its settings apply to JSON only, which the stock servers do not make from the model."""

    model_config = ConfigDict(ser_json_bytes="base64", ser_json_timedelta="float")

    image: bytes = b"abc"
    took: datetime.timedelta = datetime.timedelta(seconds=90)


class ForJson(Observation):
    at: datetime.datetime = datetime.datetime(2026, 1, 2)
    day: datetime.date = datetime.date(2026, 1, 2)

    @field_serializer("at", when_used="json")
    def _at(self, value: datetime.datetime) -> str:
        return "json only"

    @field_serializer("day")
    def _day(self, value: datetime.date) -> str:
        return "always"


class ByAlias(Observation):
    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)

    x: int = Field(1, alias="horizontal")


class Described(Observation):
    point: Point = Point()
    secret: str = Field("hidden", exclude=True)
    password: SecretStr = SecretStr("hidden")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return 7


class Wrapped(Observation):
    @model_serializer(mode="wrap")
    def _add(self, handler: Any) -> Any:
        return {**handler(self), "added": 1}


_SAME = {
    "text": "é😀",
    "float": 1.5,
    "not a number": float("nan"),
    "infinity": float("-inf"),
    "integer": 10**40,
    "bytes": b"abc",
    "date and time": datetime.datetime(2026, 1, 2, 3, 4),
    "time span": datetime.timedelta(seconds=90.5),
    "path": Path("/a/b"),
    "decimal": decimal.Decimal("1.50"),
    "set": {1},
    "tuple": (1, (2,)),
    "complex": 1 + 2j,
    "model": Point(x=3),
    "enumeration": Color.RED,
    "uuid": uuid.UUID(int=1),
    "dataclass": Pair(2, Point()),
    "keys": {1: 2, None: 3, 1.5: 4, (1, 2): 5, b"a": 7, Color.RED: 8},
}
_OBSERVATIONS = {name: Seen(value=value, reward=-1) for name, value in _SAME.items()}
_OBSERVATIONS |= {
    cls.__name__: cls(reward=True, metadata={"a": 1})
    for cls in (Configured, ForJson, ByAlias, Described, Wrapped)
}


def _decoded(frame: str) -> Any:
    answer = json.loads(frame)
    assert answer["type"] == "observation"
    return answer["data"]


@pytest.mark.parametrize("name", _OBSERVATIONS)
def test_what_the_stock_servers_send_is_sent_the_same(name: str) -> None:
    observation = _OBSERVATIONS[name]
    stock = WSObservationResponse(data=serialize_observation(observation)).model_dump_json()
    expected, sent = _decoded(stock), _decoded(encode_observation_frame(observation))
    if "metadata" not in expected["observation"]:  # 0.3.0 drops it
        del sent["observation"]["metadata"]
        sent.pop("metadata", None)
    assert sent == expected
    assert json.loads(encode_observation(observation))["observation"].items() >= (
        expected["observation"].items()
    )


@pytest.mark.parametrize(
    ("reward", "sent"), [(-1, "-1.0"), (True, "1.0"), (0.5, "0.5"), (None, "null"), (10**400, "1")]
)
def test_over_http_a_reward_is_a_float(reward: Any, sent: str) -> None:
    text = encode_observation(Observation(reward=reward)).decode()
    assert f'"reward":{sent}' in text
    assert json.loads(encode_observation_frame(Observation(reward=reward)))["data"]["reward"] == (
        reward
    )


class _Array:
    """An array or tensor of any library."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def tolist(self) -> list[Any]:
        return [*self.values]


_TEXT = "<not JSON: object>"
_circular: dict[str, Any] = {"a": 1}
_circular["itself"] = _circular
_deep: list[Any] = []
for _ in range(300):
    _deep = [_deep]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (_Array(1, 2.5, _Array(3)), [1, 2.5, [3]]),
        (array.array("d", [1, 2]), [1.0, 2.0]),
        (collections.deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (types.MappingProxyType({"a": _Array(1)}), {"a": [1]}),
        (b"\xff\x00", "/wA="),
        ("\ud800", "\\ud800"),
        (object(), _TEXT),
        ([1, {"a": (object(), 2)}], [1, {"a": [_TEXT, 2]}]),
        (Pair(1, object()), {"first": 1, "second": _TEXT}),
        ({object(): 1, b"\xff": 2}, {_TEXT: 1, "/w==": 2}),
        (ValueError("/secret/path"), "<not JSON: ValueError>"),
        (Seen, "<not JSON: ModelMetaclass>"),
        (Mock(), "<not JSON: Mock>"),
        (_circular, {"a": 1, "itself": "<not JSON: dict>"}),
    ],
)
def test_a_value_that_is_not_json_costs_nothing_else(value: Any, sent: Any) -> None:
    for observation in (
        Seen(value=value, metadata={"step": 1}, reward=1.0, done=True),
        Seen(metadata={"step": 1, "value": value}, reward=1.0, done=True),
    ):
        answer = _decoded(encode_observation_frame(observation))
        assert (answer["reward"], answer["done"], answer["metadata"]["step"]) == (1.0, True, 1)
        assert answer["metadata"] == answer["observation"]["metadata"]
        found = answer["observation"]["value"] or answer["metadata"]["value"]
        assert found == sent or found["itself"] == sent  # one round later
        over_http = json.loads(encode_observation(observation))
        assert over_http["observation"] == answer["observation"]


def test_numpy_is_sent_as_numbers_and_lists() -> None:
    numpy = pytest.importorskip("numpy")
    image = numpy.arange(12, dtype=numpy.uint8).reshape(2, 2, 3)
    metadata = {
        "flag": numpy.bool_(True),
        "score": numpy.float32(0.5),
        "lost": numpy.array([numpy.nan]),
        numpy.int64(7): numpy.int64(8),
    }
    observation = Seen.model_construct(value=image, metadata=metadata, reward=numpy.float32(2))
    answer = _decoded(encode_observation_frame(observation))
    assert answer["observation"]["value"] == image.tolist()
    assert answer["metadata"] == {"flag": True, "score": 0.5, "lost": [None], "7": 8}
    assert answer["reward"] == 2.0


def test_what_nests_too_deep_is_cut() -> None:
    answer = _decoded(encode_observation_frame(Seen(value=_deep, reward=1.0)))
    assert answer["reward"] == 1.0
    assert "<not JSON: list>" in json.dumps(answer["observation"]["value"])


class Broken(Observation):
    good: int = 1
    bad: int = 2
    secret: str = Field("hidden", exclude=True)

    @field_serializer("bad")
    def _bad(self, value: int) -> int:
        raise RuntimeError("/secret/path")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def worse(self) -> int:
        raise KeyError("/secret/path")


def test_a_field_whose_serializer_fails_costs_nothing_else() -> None:
    answer = _decoded(encode_observation_frame(Broken(reward=1.0)))
    observation = {"good": 1, "bad": 2, "worse": "<not JSON: KeyError>", "metadata": {}}
    assert answer == {"observation": observation, "reward": 1.0, "done": False}


def test_the_log_names_a_field_once_for_each_class(caplog: pytest.LogCaptureFixture) -> None:
    class Named(Seen):
        pass

    with caplog.at_level(logging.WARNING, "stepwire.server"):
        for _ in range(3):
            value = [{"rng": object()}, {"rng": object()}]
            encode_observation_frame(Named(metadata={"debug": value, "png": b"\xff"}))
    assert [record.getMessage() for record in caplog.records] == [
        "Named.metadata.debug[].rng has a builtins.object, which JSON cannot express; "
        "a text is sent instead",
        "Named.metadata.png has bytes that are not UTF-8, sent as base64",
    ]


class Board(State):
    board: list[int] = Field(default_factory=list)
    point: Point = Point()


@pytest.mark.parametrize(
    "state",
    [
        Board(episode_id="e", step_count=1, board=[1], extra=Color.RED),  # type: ignore[call-arg]
        {"board": [1], "nan": float("nan"), "point": Point()},
        {},
        None,
        [("board", 1)],
    ],
)
def test_a_state_is_sent_as_on_the_stock_servers(state: Any) -> None:
    data = state.model_dump() if hasattr(state, "model_dump") else dict(state) if state else {}
    assert json.loads(encode_state_frame(state)) == json.loads(
        WSStateResponse(data=data).model_dump_json()
    )


def test_fields_that_a_state_lacks_have_their_defaults_over_http() -> None:
    assert json.loads(encode_state({"board": object()})) == {
        "episode_id": None,
        "step_count": 0,
        "board": _TEXT,
    }
    assert json.loads(encode_state(None)) == {"episode_id": None, "step_count": 0}
    assert json.loads(encode_state(Point())) == {"episode_id": None, "step_count": 0, "x": 1}


def test_a_state_may_be_a_dataclass() -> None:
    assert json.loads(encode_state_frame(Pair()))["data"] == {"first": 1, "second": None}


def test_an_observation_is_encoded_with_its_metadata_inside_and_beside() -> None:
    metadata = {"step": 1}
    observation = NoteObservation(text="é", length=1, reward=1, metadata=metadata)
    inner = {"text": "é", "length": 1, "metadata": metadata}
    result = {"observation": inner, "reward": 1, "done": False, "metadata": metadata}
    assert json.loads(encode_observation(observation)) == result
    frame = json.loads(encode_observation_frame(observation))
    assert frame == {"type": "observation", "data": result}


def test_empty_metadata_is_null_over_http_and_left_out_of_frames() -> None:
    observation = Observation(done=True, reward=None)
    result = {"observation": {"metadata": {}}, "reward": None, "done": True}
    assert json.loads(encode_observation(observation)) == {**result, "metadata": None}
    assert json.loads(encode_observation_frame(observation))["data"] == result


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_null(number: float) -> None:
    observation = Observation(reward=number, metadata={"loss": number})
    assert json.loads(encode_observation(observation)) == {
        "observation": {"metadata": {"loss": None}},
        "reward": None,
        "done": False,
        "metadata": {"loss": None},
    }
    assert json.loads(encode_frame("mcp", {"value": number})) == {
        "type": "mcp",
        "data": {"value": None},
    }


def test_a_state_is_encoded_with_the_fields_an_environment_adds() -> None:
    state = State(episode_id="e", step_count=2, level={"name": "maze"})  # type: ignore[call-arg]
    assert json.loads(encode_state_frame(state)) == {
        "type": "state",
        "data": {"episode_id": "e", "step_count": 2, "level": {"name": "maze"}},
    }
