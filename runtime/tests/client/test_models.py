# SPDX-License-Identifier: BSD-3-Clause
"""Models declared as generic arguments, and what is sent and read by them."""

import asyncio
import copy
import pickle
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar

import pytest
from openenv.core.client_types import StepResult
from openenv.core.env_server.types import Action, Observation, State
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    computed_field,
    field_serializer,
)

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction, NoteObservation, NotesState
from stepwire.client import (
    AwaitableState,
    InvalidActionError,
    SessionClient,
    SessionPool,
    UsageError,
)

URL = "http://localhost:8000"

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
OtherT = TypeVar("OtherT")


class OtherAction(Action):
    number: int = 0


class Swapped(SessionClient[ObsT, ActT, State], Generic[ActT, ObsT]):
    """A base whose own variables come in another order."""


class Halfway(Swapped[NoteObservation, OtherT]):
    """A base that leaves one variable open."""


class Whole(Halfway[NoteAction]):
    pass


class Assigned(SessionClient[NoteAction, NoteObservation, State]):
    action_model = OtherAction


class Base(SessionClient[ActT, NoteObservation, State]):
    state_model = NotesState


def _models(client: Any) -> tuple[Any, Any, Any]:
    return client.action_model, client.observation_model, client.state_model


# Declarations.


@pytest.mark.parametrize(
    ("client", "models"),
    [
        (NotesEnv, (NoteAction, NoteObservation, NotesState)),
        (type("Further", (NotesEnv,), {}), (NoteAction, NoteObservation, NotesState)),
        (Whole, (NoteAction, NoteObservation, State)),
        (Assigned, (OtherAction, NoteObservation, State)),
        (type("Further", (Assigned,), {}), (OtherAction, NoteObservation, State)),
        (Base[OtherAction], None),
        (type("Filled", (Base,), {"action_model": NoteAction}), None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_generic_arguments_are_the_models(client: Any, models: Any) -> None:
    if models is not None:
        assert _models(client) == models


def test_what_a_base_assigned_is_kept_where_a_subclass_fills_in_something_else() -> None:
    class Filled(Base[OtherAction]):
        pass

    assert _models(Filled) == (OtherAction, NoteObservation, NotesState)


@pytest.mark.parametrize("arguments", [(Any, NoteObservation, State), (NoteAction, Any, State)])
def test_a_client_without_a_model_says_how_to_declare_it(arguments: Any) -> None:
    class Bare(SessionClient[arguments]):  # type: ignore[type-arg]
        pass

    with pytest.raises(UsageError, match=r"Bare has no `\w+_model`\. Declare .*class Bare\("):
        Bare(base_url=URL)


def test_a_pool_without_a_client_class_says_so() -> None:
    with pytest.raises(UsageError, match="SessionPool has no `client_class`"):
        SessionPool(URL, num_envs=2)


def test_a_pool_has_sessions_of_its_client_class() -> None:
    pool = NotesEnvPool(URL, num_envs=2, message_timeout_s=3)
    assert [type(session) for session in pool.sessions] == [NotesEnv, NotesEnv]


# Actions.


def _payload(action: Any, client: Any = NotesEnv) -> Any:
    return client(base_url=URL)._step_payload(action)


class Aliased(Action):
    model_config = ConfigDict(extra="forbid")

    by_alias: int = Field(default=1, alias="byAlias")
    validated: int = Field(default=2, validation_alias=AliasChoices("valid", "v"))
    dumped: int = Field(default=3, serialization_alias="dump")
    when: date = date(2026, 1, 2)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.by_alias


class AliasedEnv(SessionClient[Aliased, NoteObservation, State]):
    pass


def test_all_fields_of_an_action_are_sent_and_metadata_where_there_is_any() -> None:
    assert _payload(NoteAction(text="Hi")) == {"text": "Hi", "weight": 0.1}
    with_metadata = _payload(NoteAction(text="Hi", metadata={"trace": 1}))
    assert with_metadata == {"text": "Hi", "weight": 0.1, "metadata": {"trace": 1}}


def test_an_action_is_sent_as_its_server_validates_it() -> None:
    payload = _payload(Aliased(), AliasedEnv)
    assert payload == {"byAlias": 1, "valid": 2, "dumped": 3, "when": "2026-01-02"}
    assert Aliased.model_validate(payload) == Aliased()


class Serialized(Action):
    secret: str = "x"
    loud: Annotated[str, PlainSerializer(str.upper)] = "a"
    when: list[date] = Field(default_factory=lambda: [date(2026, 1, 2)])

    @field_serializer("secret")
    def _double(self, value: str) -> str:
        return 2 * value


class Shouting(Action):
    loud: Annotated[str, PlainSerializer(str.upper)] = "a"


class Cached(Action):
    number: int = 3

    @cached_property
    def double(self) -> int:
        return 2 * self.number


def test_serializers_apply_and_cached_properties_are_not_sent() -> None:
    class SerializedEnv(SessionClient[Serialized, NoteObservation, State]):
        pass

    class CachedEnv(SessionClient[Cached, NoteObservation, State]):
        pass

    assert _payload(Serialized(), SerializedEnv) == {
        "secret": "xx",
        "loud": "A",
        "when": ["2026-01-02"],
    }

    class ShoutingEnv(SessionClient[Shouting, NoteObservation, State]):
        pass

    assert _payload(Shouting(), ShoutingEnv) == {"loud": "A"}
    cached = Cached()
    assert cached.double == 6
    assert _payload(cached, CachedEnv) == {"number": 3}


class LoudAction(NoteAction):
    loud: bool = True


class Twin(BaseModel):
    """A note's fields in another class, such as the same one imported under another name."""

    text: str
    weight: float = 0.5


def test_a_subclass_of_the_action_and_an_equal_model_are_sent() -> None:
    assert _payload(LoudAction(text="Hi")) == {"text": "Hi", "weight": 0.1, "loud": True}
    assert _payload(Twin(text="Hi")) == {"text": "Hi", "weight": 0.5}


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        (None, "None of type NoneType"),
        ("Hi", "'Hi' of type str"),
        ({"text": "Hi"}, "{'text': 'Hi'} of type dict"),
        (OtherAction(), r"OtherAction\(.*\) of type OtherAction"),
        (Twin.model_construct(text=3), r"Twin\(.*\) of type Twin"),
        ("x" * 1000, r"'x{10,20}\.\.\.x{10,20}' of type str"),
    ],
)
def test_what_is_no_action_of_the_environment_is_refused(action: Any, shown: str) -> None:
    text = f"^NotesEnv.step takes a NoteAction, not {shown}. Nothing was sent.$"
    with pytest.raises(InvalidActionError, match=text):
        NotesEnv(base_url=URL).step(action)


def test_hooks_that_a_subclass_defines_win() -> None:
    class Hooked(NotesEnv):
        def _step_payload(self, action: Any) -> dict[str, Any]:
            return {"text": str(action)}

        def _parse_result(self, payload: dict[str, Any]) -> StepResult[NoteObservation]:
            result = super()._parse_result(payload)
            result.observation.text += "!"
            return result

    assert _payload("Hi", Hooked) == {"text": "Hi"}
    result = Hooked(base_url=URL)._parse_result(_reply({"text": "Hi", "length": 2}))
    assert result.observation.text == "Hi!"


# Observations.


class Strict(Observation):
    board: list[int]
    moves: list["Move"] = Field(default_factory=list)
    total: int = Field(default=0, alias="sum")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.board)


class Move(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


class Open(Observation):
    model_config = ConfigDict(extra="allow")
    board: list[int]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.board)


class Plain(BaseModel):
    board: list[int]


def _reply(observation: Any, reward: Any = 0.5, done: Any = False) -> dict[str, Any]:
    return {"observation": observation, "reward": reward, "done": done}


def _parse(model: Any, observation: Any, **rest: Any) -> Any:
    class Env(SessionClient[Action, model, State]):
        pass

    return Env(base_url=URL)._parse_result(_reply(observation, **rest))


@pytest.mark.parametrize("metadata", [{}, {"metadata": {}}, {"metadata": None}])
def test_an_observation_has_the_reward_and_done_of_its_frame(metadata: Any) -> None:
    result = _parse(Strict, {"board": [1], **metadata}, reward=2, done=True)
    assert (result.reward, result.done) == (2, True)
    assert result.observation == Strict(board=[1], reward=2, done=True, metadata={})


def test_fields_come_by_name_or_by_alias() -> None:
    for name in ("sum", "total"):
        assert _parse(Strict, {"board": [], name: 3}).observation.total == 3


def test_unknown_keys_are_ignored_unless_the_model_allows_them() -> None:
    received = {"board": [1], "size": 1, "hint": {"deep": 1}, "moves": [{"x": 1, "y": 2}]}
    observation = _parse(Strict, received).observation
    assert observation == Strict(board=[1], moves=[Move(x=1)], reward=0.5)
    opened = _parse(Open, {"board": [1], "size": 1, "hint": 3}).observation
    assert opened == Open(board=[1], hint=3, reward=0.5)  # type: ignore[call-arg]
    assert _parse(Plain, {"board": [1], "hint": 3}).observation == Plain(board=[1])


@pytest.mark.parametrize(
    "observation",
    [{}, {"board": "no list"}, {"board": [1], "moves": [{"x": "?", "y": 1}]}, {"hint": 1}],
)
def test_a_reply_that_is_no_such_observation_is_an_error(observation: Any) -> None:
    with pytest.raises(ValidationError):
        _parse(Strict, observation)


def test_an_observation_of_another_environment_is_no_empty_one_of_ours() -> None:
    with pytest.raises(ValidationError, match="echoed"):
        _parse(NoteObservation, {"echoed": "Hi", "metadata": {"step": 1}})
    assert _parse(NoteObservation, {"metadata": {"step": 1}}).observation.text == ""


# States.


class Frozen(State):
    model_config = ConfigDict(extra="forbid", frozen=True)
    board: list[int] = Field(default_factory=list)


_STATES = [State, NotesState, Frozen, AwaitableState]


async def _awaited(value: Any) -> Any:
    return await value


@pytest.mark.parametrize("way", ["blocking", "on a loop"])
@pytest.mark.parametrize("model", _STATES)
def test_a_state_is_its_authors_class_awaitable_pickled_and_equal_to_a_plain_one(
    rendezvous: Any, model: Any, way: str
) -> None:
    class Env(SessionClient[NoteAction, NoteObservation, model]):
        pass

    async def read() -> Any:
        client = Env(base_url=rendezvous.url)
        if way == "blocking":
            client.sync()
        client.reset(episode_id="mine")
        states = [client.state(), client.state(), client.state()]
        assert all(isinstance(state, model) for state in states)
        plain = model(**states[0].model_dump())
        assert plain == states[0]
        assert states[0] == plain
        assert states[1] == states[2]
        assert states[2] == states[1]
        twins = [copy.copy(states[1]), copy.deepcopy(states[1]), pickle.loads(pickle.dumps(plain))]
        twins.append(pickle.loads(pickle.dumps(states[1])))
        for twin in twins:
            assert isinstance(twin, model)
            assert twin == plain
            assert plain == twin
        assert repr(states[2]) == repr(plain)
        state = await states[0]
        assert isinstance(state, model)
        assert await states[0] is state
        assert await _awaited(state) is state
        assert state.model_copy(update={"step_count": 9}) != plain
        await client.close()
        return state

    assert asyncio.run(read()).episode_id == "mine"


def test_the_state_of_a_hook_is_awaitable_too(rendezvous: Any) -> None:
    class Hooked(NotesEnv):
        def _parse_state(self, payload: dict[str, Any]) -> NotesState:
            return NotesState(episode_id="hooked", step_count=1)

    async def read() -> Any:
        with Hooked(base_url=rendezvous.url) as client:
            state = client.state()
            assert state == NotesState(episode_id="hooked", step_count=1)
            return await _awaited(state)

    assert type(asyncio.run(read())).__name__ == "NotesState"
