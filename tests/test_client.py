# SPDX-License-Identifier: BSD-3-Clause
"""What the echo environment's client sends, and what it makes of the answers."""

from typing import Any

import pytest
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
)

from echo_env import EchoAction, EchoEnv, EchoObservation
from stepwire.client.errors import InvalidActionError, ServerError, SessionLostError

_MESSAGES = ["hello", "", "naïve 日本語", "👩‍👩‍👧", "\x00\u2028\n", '"}{"', "x" * 1_000_000]


@pytest.mark.parametrize("message", _MESSAGES, ids=lambda text: ascii(text[:12]))
def test_any_text_comes_back_as_it_was(either_server: Any, message: str) -> None:
    with EchoEnv(base_url=either_server.url) as env:
        observation = env.step(EchoAction(message=message)).observation
        assert isinstance(observation, EchoObservation)
        assert observation.echoed_message == message
        assert observation.message_length == len(message)


def test_reset_and_step_give_results_whose_observations_carry_reward_and_done(
    either_server: Any,
) -> None:
    with EchoEnv(base_url=either_server.url) as env:
        for result in (env.reset(), env.step(EchoAction(message="hello"))):
            assert result.observation.reward == result.reward
            assert result.observation.done is result.done is False
        assert result.reward == 0.5
        assert list(vars(result)) == ["observation", "reward", "done", "metadata"]


def test_metadata_is_on_the_result_and_on_the_observation(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        assert env.reset().metadata == {}
        result = env.step(EchoAction(message="hello"))
    expected = {"original_message": "hello", "step": 1}
    assert result.metadata == result.observation.metadata == expected


def test_a_server_that_sends_no_metadata_is_understood(stock_server: Any) -> None:
    # That of openenv-core sends none, that of openenv does.
    with EchoEnv(base_url=stock_server.url) as env:
        result = env.step(EchoAction(message="hello"))
    assert result.metadata == result.observation.metadata
    assert result.metadata in ({}, {"original_message": "hello", "step": 1})


def test_the_state_of_an_episode(either_server: Any) -> None:
    with EchoEnv(base_url=either_server.url) as env:
        before = env.state()
        env.reset()
        env.step(EchoAction(message="hello"))
        after = env.state()
    assert (before.step_count, after.step_count) == (0, 1)
    assert before.episode_id
    assert after.episode_id != before.episode_id


def test_the_seed_of_an_episode(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.reset(seed=7, episode_id="mine")
        assert env.state().model_dump() == {"episode_id": "mine", "step_count": 0, "seed": 7}


def test_metadata_of_an_action_is_sent(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        action = EchoAction(message="hello", metadata={"trace": [1, {"a": None}]})
        assert env.step(action).reward == 0.5


# Tools.


def test_tools(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        assert [tool.name for tool in env.list_tools()] == ["echo_message", "echo_with_length"]
        assert env.call_tool("echo_message", message="Hello!") == "Hello!"
        answer = env.call_tool("echo_with_length", message="Test")
        assert answer == {"message": "Test", "length": 4}


def test_tools_as_actions(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        listed = env.step(ListToolsAction()).observation
        assert isinstance(listed, ListToolsObservation)
        assert [tool.name for tool in listed.tools] == ["echo_message", "echo_with_length"]
        action = CallToolAction(tool_name="echo_message", arguments={"message": "Hi"})
        called = env.step(action)
        assert isinstance(called.observation, CallToolObservation)
        assert (called.observation.tool_name, called.observation.result) == ("echo_message", "Hi")
        assert called.observation.error is None
        assert called.done is False


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("no_such_tool", {}), ("echo_message", {}), ("echo_message", {"message": 3})],
)
def test_a_tool_that_cannot_run_is_an_error_and_the_episode_goes_on(
    server: Any, tool: str, arguments: dict[str, Any]
) -> None:
    with EchoEnv(base_url=server.url) as env:
        with pytest.raises(ServerError, match=tool):
            env.call_tool(tool, **arguments)
        assert env.step(EchoAction(message="hello")).reward == 0.5


# What cannot be sent.


class _NoJson:
    """Something that no JSON can express."""


@pytest.mark.parametrize(
    "action",
    [
        None,
        "hello",
        {"message": "hello"},
        EchoObservation(),
        EchoAction.model_construct(message=_NoJson(), metadata={}),
        EchoAction.model_construct(message="\ud800", metadata={}),
        EchoAction(message="hello", metadata={"what": _NoJson()}),
        EchoAction(message="hello", metadata={"text": "\ud800"}),
        CallToolAction(tool_name="echo_message", arguments={"message": _NoJson()}),
    ],
    ids=lambda action: ascii(action)[:40],
)
def test_an_action_that_cannot_be_sent_is_refused_before_anything_is(
    server: Any, action: Any
) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.reset()
        with pytest.raises(InvalidActionError) as caught:
            env.step(action)
        assert isinstance(caught.value, ValueError)
        assert env.state().step_count == 0


def test_arguments_of_reset_that_cannot_be_sent(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.step(EchoAction(message="hello"))
        with pytest.raises(InvalidActionError, match="reset"):
            env.reset(options=_NoJson())
        assert env.state().step_count == 1


# Sizes.


def test_a_message_above_the_servers_limit_ends_the_session_and_says_so(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        with pytest.raises(SessionLostError, match="1009") as caught:
            env.step(EchoAction(message="x" * (16 << 20)))
        assert caught.value.close_code == 1009
        env.reset()
        assert env.step(EchoAction(message="hello")).metadata == {
            "original_message": "hello",
            "step": 1,
        }


def test_a_reply_above_the_clients_limit_ends_the_session_and_says_so(server: Any) -> None:
    with EchoEnv(base_url=server.url, max_message_size_mb=0.1) as env:
        with pytest.raises(SessionLostError, match="1009"):
            env.step(EchoAction(message="x" * 200_000))
        env.reset()
        assert env.step(EchoAction(message="hello")).reward == 0.5
