# SPDX-License-Identifier: BSD-3-Clause
"""The clients of the installed framework, against our server and the framework's own."""

import asyncio
from typing import Any

import pytest
from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.env_server.types import State
from openenv.core.generic_client import GenericEnvClient
from openenv.core.mcp_client import MCPToolClient
from openenv.core.sync_client import SyncEnvClient

from notes_env.client import NotesEnv
from notes_env.models import NoteAction, NoteObservation


class HandWrittenEnv(EnvClient[NoteAction, NoteObservation, State]):
    """A client in the manner of the framework's template."""

    def _step_payload(self, action: NoteAction) -> dict[str, Any]:
        return {"text": action.text}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[NoteObservation]:
        fields = payload["observation"]
        observation = NoteObservation(text=fields["text"], length=fields["length"])
        return StepResult(observation, payload["reward"], payload["done"])

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(episode_id=payload["episode_id"], step_count=payload["step_count"])


def test_a_hand_written_client(either_server: Any) -> None:
    async def main() -> None:
        async with HandWrittenEnv(base_url=either_server.url) as env:
            await env.reset(episode_id="mine")
            result = await env.step(NoteAction(text="hello"))
            assert (result.observation.text, result.reward) == ("hello", 0.5)
            assert (await env.state()).step_count == 1

    asyncio.run(main())
    for env in (
        HandWrittenEnv(base_url=either_server.url).sync(),
        SyncEnvClient(HandWrittenEnv(base_url=either_server.url)),
    ):
        with env:
            env.reset(episode_id="mine")
            assert env.step(NoteAction(text="hello")).reward == 0.5
            assert env.state().episode_id == "mine"
            if hasattr(env, "new_session"):
                with env.new_session() as other:
                    assert other.step(NoteAction(text="hello")).reward == 0.5


@pytest.mark.parametrize("blocking", [False, True])
def test_the_frameworks_wrapper_of_our_client(
    server_with_a_token: Any, token: str, blocking: bool
) -> None:
    client = NotesEnv(server_with_a_token.url, token=token)
    with SyncEnvClient(client.sync() if blocking else client) as env:
        assert env.reset(episode_id="mine").observation.text == "Ready for notes"
        assert env.step(NoteAction(text="hello")).reward == 0.5
        assert env.state().episode_id == "mine"
        assert env.call_tool("read_note", text="Hi") == "Hi"
        assert env.has_tool("read_note") is True
        if hasattr(SyncEnvClient, "new_session"):
            child = env.new_session()
            assert child.step(NoteAction(text="hello")).reward == 0.5
        env.disconnect()
        env.reset()
    assert client.status == "closed"


def test_the_generic_client(either_server: Any) -> None:
    with GenericEnvClient(base_url=either_server.url).sync() as env:
        env.reset(episode_id="mine")
        result = env.step({"text": "hello"})
        assert (result.observation["text"], result.reward) == ("hello", 0.5)
        assert env.state()["step_count"] == 1
        with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
            env.step({"nonsense": 1})


@pytest.fixture(params=["tools of a light environment", "tools only, ours", "tools only, stock"])
def tools(request: pytest.FixtureRequest) -> tuple[str, str, str, str]:
    """A server's address, two of its tools, and the argument of both."""
    if request.param.startswith("tools of"):
        return request.getfixturevalue("server").url, "read_note", "measure_note", "text"
    ours = request.param.endswith("ours")
    server = request.getfixturevalue("our_tool_server" if ours else "tool_server")
    return server.url, "echo_message", "echo_with_length", "message"


def test_the_client_of_tools(tools: tuple[str, str, str, str]) -> None:
    url, echo, measure, argument = tools

    async def main() -> None:
        async with MCPToolClient(base_url=url) as env:
            await env.reset(episode_id="mine")
            assert {echo, measure} <= {tool.name for tool in await env.list_tools()}
            assert (await env.get_tool(echo)).input_schema["required"] == [argument]
            assert await env.has_tool(echo)
            assert not await env.has_tool("nope")
            assert await env.call_tool(echo, **{argument: "Hello!"}) == "Hello!"
            value = await env.call_tool(measure, **{argument: "Test"})
            assert value == {argument: "Test", "length": 4}
            with pytest.raises(RuntimeError, match="nope"):
                await env.call_tool("nope")
            with pytest.raises(RuntimeError, match="failed"):
                await env.call_tool(echo, wrong=1)
            result = await env.step(CallToolAction(tool_name=echo, arguments={argument: "Hi"}))
            assert result.observation.result["data"] == "Hi"
            assert result.observation.result["is_error"] is False
            listed = await env.step(ListToolsAction())
            assert {echo, measure} <= {tool.name for tool in listed.observation.tools}
            assert (await env.state()).episode_id == "mine"

    asyncio.run(main())
    with MCPToolClient(base_url=url).sync() as env:
        env.reset()
        assert env.call_tool(echo, **{argument: "Hello!"}) == "Hello!"
        assert {echo, measure} <= {tool.name for tool in env.list_tools()}
