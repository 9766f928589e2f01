# SPDX-License-Identifier: BSD-3-Clause
"""What a client sends, and what it makes of the replies."""

import dataclasses
from typing import Any

import pytest
from openenv.core.client_types import StepResult
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
)

from notes_env.client import NotesEnv
from notes_env.models import NoteAction, NoteObservation
from stepwire.client import (
    InvalidActionError,
    ProtocolViolationError,
    ServerError,
    SessionLostError,
)

HELLO = NoteAction(text="hello")
_TEXTS = ["hello", "", "naïve 日本語", "👩‍👩‍👧", "\x00\u2028\n", '"}{"', "x" * 1_000_000]


@pytest.mark.parametrize("text", _TEXTS, ids=lambda text: ascii(text[:12]))
def test_any_text_comes_back_unchanged(either_server: Any, text: str) -> None:
    with NotesEnv(base_url=either_server.url) as env:
        observation = env.step(NoteAction(text=text)).observation
        assert isinstance(observation, NoteObservation)
        assert observation.text == text
        assert observation.length == len(text)


def test_observations_carry_the_reward_and_done_of_their_results(either_server: Any) -> None:
    with NotesEnv(base_url=either_server.url) as env:
        for result in (env.reset(), env.step(HELLO)):
            assert result.observation.reward == result.reward
            assert result.observation.done is result.done is False
        assert result.reward == 0.5
        assert list(vars(result)) == ["observation", "reward", "done", "metadata"]


def test_metadata_is_on_the_result_and_on_the_observation(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        assert env.reset().metadata == {}
        result = env.step(HELLO)
    expected = {"original_text": "hello", "step": 1}
    assert result.metadata == result.observation.metadata == expected


def test_a_server_that_sends_no_metadata_is_understood(stock_server: Any) -> None:
    # The framework's server sends none as of openenv-core 0.3.0, and all of it as of openenv.
    with NotesEnv(base_url=stock_server.url) as env:
        result = env.step(HELLO)
    assert result.metadata == result.observation.metadata
    assert result.metadata in ({}, {"original_text": "hello", "step": 1})


def test_metadata_of_an_action_is_sent(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        action = NoteAction(text="hello", metadata={"trace": [1, {"a": None}]})
        assert env.step(action).reward == 0.5


def test_the_state_of_an_episode(either_server: Any) -> None:
    with NotesEnv(base_url=either_server.url) as env:
        before = env.state()
        env.reset()
        env.step(HELLO)
        after = env.state()
    assert (before.step_count, after.step_count) == (0, 1)
    assert (before.characters, after.characters) == (0, 5)
    assert before.episode_id
    assert after.episode_id != before.episode_id


def test_a_state_has_fields_that_its_model_does_not_name(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        env.reset(seed=7, episode_id="mine")
        expected = {"episode_id": "mine", "step_count": 0, "characters": 0, "seed": 7}
        assert env.state().model_dump() == expected


# Tools.


def test_tools(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        assert [tool.name for tool in env.list_tools()] == ["read_note", "measure_note"]
        assert env.call_tool("read_note", text="Hello!") == "Hello!"
        assert env.call_tool("measure_note", text="Test") == {"text": "Test", "length": 4}


def test_tools_as_actions(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        listed = env.step(ListToolsAction()).observation
        assert isinstance(listed, ListToolsObservation)
        assert [tool.name for tool in listed.tools] == ["read_note", "measure_note"]
        called = env.step(CallToolAction(tool_name="read_note", arguments={"text": "Hi"}))
        assert isinstance(called.observation, CallToolObservation)
        assert called.observation.tool_name == "read_note"
        assert called.observation.result["data"] == "Hi"
        assert called.observation.error is None
        assert called.done is False


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("no_such_tool", {}), ("read_note", {}), ("read_note", {"text": 3})],
)
def test_a_tool_that_cannot_run_is_an_error_and_the_episode_goes_on(
    server: Any, tool: str, arguments: dict[str, Any]
) -> None:
    with NotesEnv(base_url=server.url) as env:
        with pytest.raises(ServerError, match=tool):
            env.call_tool(tool, **arguments)
        assert env.step(HELLO).reward == 0.5


# What cannot be sent.


class _NoJson:
    """An object that JSON cannot express."""


@pytest.mark.parametrize(
    "action",
    [
        None,
        "hello",
        {"text": "hello"},
        NoteObservation(),
        NoteAction.model_construct(text=_NoJson(), metadata={}),
        NoteAction.model_construct(text="\ud800", metadata={}),
        NoteAction(text="hello", metadata={"what": _NoJson()}),
        NoteAction(text="hello", metadata={"text": "\ud800"}),
        CallToolAction(tool_name="read_note", arguments={"text": _NoJson()}),
    ],
    ids=lambda action: ascii(action)[:40],
)
def test_an_invalid_action_is_refused_before_anything_is_sent(server: Any, action: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        env.reset()
        with pytest.raises(InvalidActionError) as caught:
            env.step(action)
        assert isinstance(caught.value, ValueError)
        assert env.state().step_count == 0


def test_invalid_arguments_of_reset_are_refused_before_anything_is_sent(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        env.step(HELLO)
        with pytest.raises(InvalidActionError, match="reset"):
            env.reset(options=_NoJson())
        assert env.state().step_count == 1


# Sizes.


def test_a_message_above_the_limit_of_the_server_loses_the_session(server: Any) -> None:
    with NotesEnv(base_url=server.url) as env:
        with pytest.raises(SessionLostError, match="1009") as caught:
            env.step(NoteAction(text="x" * (16 << 20)))
        assert caught.value.close_code == 1009
        env.reset()
        assert env.step(HELLO).metadata == {"original_text": "hello", "step": 1}


def test_a_reply_above_the_limit_of_the_client_loses_the_session(server: Any) -> None:
    with NotesEnv(base_url=server.url, max_message_size_mb=0.1) as env:
        with pytest.raises(SessionLostError, match="1009"):
            env.step(NoteAction(text="x" * 200_000))
        env.reset()
        assert env.step(HELLO).reward == 0.5


class OwnParsing(NotesEnv):
    def _parse_result(self, payload: dict[str, Any]) -> Any:
        return payload["observation"]["mine"]

    def _parse_state(self, payload: dict[str, Any]) -> Any:
        return payload["mine"]


def test_a_mistake_in_an_authors_hook_is_not_called_the_servers(server: Any) -> None:
    for call, hook, frame in (
        (OwnParsing.reset, "_parse_result", "observation"),
        (OwnParsing.state, "_parse_state", "state"),
    ):
        message = rf"^OwnParsing\.{hook} raised KeyError: 'mine' for the {frame} frame of ws:"
        with (
            OwnParsing(base_url=server.url) as env,
            pytest.raises(ProtocolViolationError, match=message),
        ):
            call(env)


@dataclasses.dataclass
class OwnResult(StepResult[Any]):
    info: int = 7


class OwnResults(NotesEnv):
    def _parse_result(self, payload: dict[str, Any]) -> Any:
        text = payload["observation"]["text"]
        return OwnResult(payload["observation"]) if text == "hello" else None


def test_the_result_of_an_authors_hook_keeps_what_it_has(server: Any) -> None:
    with OwnResults(base_url=server.url) as env:
        result: Any = env.step(HELLO)
        assert (result.info, result.reward, result.observation["text"]) == (7, None, "hello")
        with pytest.raises(ProtocolViolationError, match=r"OwnResults\._parse_result raised"):
            env.reset()
