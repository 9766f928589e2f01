# SPDX-License-Identifier: BSD-3-Clause
"""Tools through our client, and actions on a server that offers only tools."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    Tool,
)

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction, NoteObservation
from stepwire.client import AwaitableState, SessionClient, SessionPool, ToolDialect
from stepwire.client.errors import ProtocolViolationError, ServerError, UsageError

ResultT = TypeVar("ResultT")
HELLO = NoteAction(text="hello")
_READY = "Echo environment ready!"


class ToolNotesEnv(NotesEnv):
    """A client of the notes environment that may also be played with tools."""

    tool_dialect = ToolDialect("keep_note", ready={"text": "Ready for notes"})


class ToolNotesEnvPool(NotesEnvPool):
    client_class = ToolNotesEnv


class WordCountEnv(NotesEnv):
    """One whose tool returns a text, not the fields of an observation."""

    tool_dialect = ToolDialect("echo_message", {"text": str.upper, "length": len})

    def _step_payload(self, action: NoteAction) -> dict[str, Any]:
        return {"message": action.text}


def awaited(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    async def main() -> ResultT:
        return await call()

    return asyncio.run(main())


def blocking(call: Callable[[], ResultT]) -> ResultT:
    return call()


# The framework's own server takes seconds to start.
_FRAMEWORKS = pytest.param("tool_server", marks=pytest.mark.slow)
either_way = pytest.mark.parametrize("now", [blocking, awaited])


@pytest.fixture(params=[_FRAMEWORKS, "our_tool_server"])
def tools_url(request: pytest.FixtureRequest) -> str:
    """The framework's server and ours with an environment that offers only tools."""
    return str(request.getfixturevalue(request.param).url)


@pytest.fixture(params=[_FRAMEWORKS, "our_tool_server", "server"])
def url(request: pytest.FixtureRequest) -> str:
    """The same, and our server with an environment that understands actions as well."""
    return str(request.getfixturevalue(request.param).url)


# Actions on a server of tools.


@either_way
def test_an_action_calls_the_tool_that_the_client_declares(tools_url: str, now: Any) -> None:
    env = ToolNotesEnv(tools_url)
    ready = now(lambda: env.reset(episode_id="one"))
    assert isinstance(ready.observation, NoteObservation)
    # The server of openenv-core 0.3.0 drops the metadata, which has the server's own text.
    assert ready.observation.text in ("Echo environment ready!", "Ready for notes")
    assert ready.observation.text == ready.observation.metadata.get("message", "Ready for notes")
    for number, text in enumerate(["hello", "", "naïve 👩‍🚀"], 1):
        action = NoteAction(text=text, metadata={"trace": number})
        result = now(lambda action=action: env.step(action))
        assert isinstance(result.observation, NoteObservation)
        assert (result.observation.text, result.observation.length) == (text, len(text))
        assert (result.reward, result.observation.reward, result.done) == (None, None, False)
        # The refusal of the first action is no step of the episode.
        state = now(env.state)
        assert (state.episode_id, state.step_count) == ("one", number)
    env.close()


def test_the_value_of_a_tool_makes_the_fields_that_the_client_declares(tools_url: str) -> None:
    with WordCountEnv(tools_url) as env:
        observation = env.step(HELLO).observation
    assert (observation.text, observation.length) == ("HELLO", 5)


def test_calls_that_are_made_before_the_first_is_answered(tools_url: str) -> None:
    async def main() -> list[str]:
        env = ToolNotesEnv(tools_url)
        results = [env.step(NoteAction(text=str(number))) for number in range(3)]
        texts = [(await result).observation.text for result in results]
        await env.close()
        return texts

    assert asyncio.run(main()) == ["0", "1", "2"]


def test_a_pool_on_a_server_of_tools(tools_url: str) -> None:
    with ToolNotesEnvPool(tools_url, num_envs=3) as pool:
        pool.reset()
        for _ in range(2):
            results = pool.step([NoteAction(text=text) for text in ("a", "fail", "ccc")])
            assert [results[0].observation.length, results[2].observation.length] == [1, 3]
            assert isinstance(results[1].error, ServerError)
        # Each session has asked once in which dialect it has to speak.
        assert [session.state().step_count for session in pool.sessions] == [2, 2, 2]


@either_way
def test_a_tool_that_fails_raises_and_the_session_goes_on(tools_url: str, now: Any) -> None:
    env = ToolNotesEnv(tools_url)
    with pytest.raises(ServerError, match=r"Tool 'keep_note' failed: .*the tool failed") as caught:
        now(lambda: env.step(NoteAction(text="fail")))
    assert caught.value.code == "execution_error"
    assert now(lambda: env.step(HELLO)).observation.text == "hello"
    env.close()


def test_a_value_that_does_not_fit_the_declaration_breaks_the_protocol(tools_url: str) -> None:
    class WrongEnv(WordCountEnv):
        tool_dialect = ToolDialect("echo_message")

    with WrongEnv(tools_url) as env, pytest.raises(ProtocolViolationError):
        env.step(HELLO)


@pytest.mark.slow
def test_a_client_without_a_dialect_gets_the_servers_refusal(tool_server: Any) -> None:
    with NotesEnv(tool_server.url) as env, pytest.raises(ServerError, match="tool_name"):
        env.step(HELLO)


@pytest.mark.parametrize("loc", [None, 5, "tool_name", {"tool_name": 1}, [5, None]])
def test_an_error_may_have_places_of_any_form(loc: Any) -> None:
    errors = [{"loc": loc}, {}]
    dialect = ToolDialect("keep_note")
    data = {"code": "VALIDATION_ERROR", "errors": errors}
    assert not dialect.is_spoken(ServerError(data, "ws://host/ws"))
    errors.append({"loc": ["tool_name"]})
    assert dialect.is_spoken(ServerError(data, "ws://host/ws"))


def test_a_server_of_actions_is_played_with_actions(server: Any) -> None:
    with ToolNotesEnv(server.url) as env:
        assert env.reset().observation.text == "Ready for notes"
        assert env.step(HELLO).reward == 0.5
        with pytest.raises(ServerError, match="weight"):
            env.step(NoteAction.model_construct(text="hello", weight="much"))
        assert env.step(HELLO).observation.metadata["step"] == 2


@pytest.mark.parametrize("options", [{}, {"provider": object()}])
def test_a_client_is_dropped_with_its_last_reference(server: Any, options: Any) -> None:
    env = ToolNotesEnv(**options) if options else ToolNotesEnv(server.url)
    if not options:
        env.step(HELLO)
    dropped = weakref.ref(env)
    gc.disable()
    try:
        del env
        assert dropped() is None
    finally:
        gc.enable()


# Tools.


@either_way
@pytest.mark.parametrize("mode", ["simulation", "production"])
def test_the_methods_of_the_frameworks_client(url: str, now: Any, mode: str) -> None:
    tool, argument = ("echo_message", "message")
    value: Any = {"message": "Test", "length": 4}
    with_length = "echo_with_length"
    env = NotesEnv(url, mode=mode)
    names = [tool.name for tool in now(env.list_tools)]
    if tool not in names:
        tool, with_length, argument = "read_note", "measure_note", "text"
        value = {"text": "Test", "length": 4}
    now(env.reset)
    assert {tool, with_length} <= set(names)
    found = now(lambda: env.get_tool(tool))
    assert isinstance(found, Tool)
    assert found.description
    assert list(found.input_schema["properties"]) == [argument]
    assert now(lambda: env.get_tool("nope")) is None
    assert now(lambda: env.has_tool(tool)) is True
    assert now(lambda: env.has_tool("nope")) is False
    assert now(lambda: env.call_tool(tool, **{argument: "Hello!"})) == "Hello!"
    assert now(lambda: env.call_tool(name=tool, **{argument: "Hello!"})) == "Hello!"
    assert now(lambda: env.call_tool(with_length, **{argument: "Test"})) == value
    with pytest.raises(ServerError, match="Tool 'nope' failed: Unknown tool: 'nope'"):
        now(lambda: env.call_tool("nope"))
    with pytest.raises(RuntimeError, match=f"Tool '{tool}' failed: "):  # what stock's raises
        now(lambda: env.call_tool(tool, wrong=1))
    for wrong in [(), (1,), (tool, "Hello!")]:
        with pytest.raises(UsageError, match="takes the tool's name"):
            env.call_tool(*wrong)
    assert now(lambda: env.call_tool(tool, **{argument: "goes on"})) == "goes on"
    env.close()


def test_the_result_of_a_call_tool_action_has_the_frameworks_form(url: str) -> None:
    with NotesEnv(url) as env:
        tool = next(tool for tool in env.list_tools() if tool.name in ("echo_message", "read_note"))
        (argument,) = tool.input_schema["properties"]
        action = CallToolAction(tool_name=tool.name, arguments={argument: "Hi"})
        result = env.step(action).observation.result
    assert result.keys() >= {"content", "structured_content", "meta", "data", "is_error"}
    assert (result["data"], result["is_error"]) == ("Hi", False)
    assert result["content"][0]["type"] == "text"
    assert result["content"][0]["text"] == "Hi"
    assert result["structured_content"] == {"result": "Hi"}


class CountingEnv(NotesEnv):
    """Counts the requests."""

    requests = 0

    def _perform(self, call: Any, pending: Any) -> Any:
        self.requests += 1
        return super()._perform(call, pending)


def test_tools_are_asked_for_once_an_episode(server: Any) -> None:
    with CountingEnv(server.url) as env:
        listed = [tool.name for tool in env.list_tools()]
        assert [tool.name for tool in env.list_tools()] == listed
        assert env.has_tool(listed[0])
        assert env.requests == 1
        env.list_tools().clear()  # the caller's own list
        assert len(env.list_tools(use_cache=False)) == len(listed)
        assert env.requests == 2
        env.reset()
        assert len(env.list_tools()) == len(listed)
        assert env.requests == 4


def test_tools_read_on_a_running_loop_without_await(server: Any) -> None:
    async def main() -> None:
        env = NotesEnv(server.url)
        assert env.has_tool("read_note")
        assert not env.has_tool("nope")
        assert env.get_tool("read_note").name == "read_note"
        assert "Hi" in env.call_tool("read_note", text="Hi!")
        await env.close()

    asyncio.run(main())


# An `MCPEnvironment` of any kind needs no client of its own.


class AnyToolsEnv(SessionClient[CallToolAction, CallToolObservation, AwaitableState]):
    """Takes the place of the framework's `MCPToolClient`."""


class AnyToolsPool(SessionPool[CallToolAction, CallToolObservation]):
    client_class = AnyToolsEnv


def test_a_client_of_tools_only(tools_url: str) -> None:
    action = CallToolAction(tool_name="echo_message", arguments={"message": "Hi"})
    with AnyToolsEnv(tools_url) as env:
        ready = env.reset()
        assert (ready.reward, ready.done) == (0.0, False)
        assert ready.observation.metadata in ({}, {"status": "ready", "message": _READY})
        assert env.step(action).observation.result["data"] == "Hi"
        assert len(env.step(ListToolsAction()).observation.tools) == 3
        assert env.state().step_count == 2
    with AnyToolsPool(tools_url, num_envs=2) as pool:
        results = pool.step([action, action])
        assert [result.observation.result["data"] for result in results] == ["Hi", "Hi"]


@pytest.fixture(autouse=True)
def _no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENENV_CLIENT_MODE", raising=False)
