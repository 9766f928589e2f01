# SPDX-License-Identifier: BSD-3-Clause
"""The `web_manager` that an author's page uses, in whatever thread and on whatever event loop."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import field_serializer

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.description import metadata_of_factory
from stepwire.server.http_env_server import HTTPEnvServer
from stepwire.server.pages.web_manager import WebInterfaceManager


class InThreads(NotesEnvironment):
    BLOCKING = True


class OnTheLoop(NotesEnvironment):
    async def step_async(self, action: NoteAction, **kwargs: Any) -> NoteObservation:
        before = self.state.step_count
        await asyncio.sleep(0.01)
        assert self.state.step_count == before, "two steps at once"
        return self.step(action)


_CLASSES = [NotesEnvironment, InThreads, OnTheLoop]


def _manager(environment: Callable[[], Any]) -> WebInterfaceManager:
    server = HTTPEnvServer(environment, NoteAction, NoteObservation)
    metadata = EnvironmentMetadata(name="notes", description="Notes")
    return WebInterfaceManager(server.sessions, NoteAction, NoteObservation, metadata)


def _in_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(60)
    return result[0]


@pytest.mark.parametrize("environment", _CLASSES)
def test_it_is_used_on_the_event_loop_and_in_threads(environment: type[NotesEnvironment]) -> None:
    manager = _manager(environment)
    assert isinstance(manager.env, environment)  # as when a page is built, without a loop

    async def use() -> None:
        manager.use_running_loop()
        await manager.reset_environment({"episode_id": "one", "seed": 5})
        await manager.step_environment({"text": "Hi"})
        assert manager.get_state() == {
            "episode_id": "one", "step_count": 1, "characters": 2, "seed": 5
        }  # fmt: skip
        assert manager.env.state.step_count == 1
        state = await asyncio.to_thread(_in_thread, manager.get_state)
        assert state["step_count"] == 1
        assert await manager._run_sync_in_thread_pool(lambda text: text, text="called") == "called"
        assert manager.episode_state.action_logs[0].action == {"text": "Hi", "weight": 0.1}

    asyncio.run(use())


@pytest.mark.parametrize("environment", _CLASSES)
def test_handlers_with_loops_of_their_own_take_turns_with_the_servers(
    environment: type[NotesEnvironment],
) -> None:
    """A synchronous handler of a Gradio page may call `asyncio.run`, in a thread of Gradio's."""
    manager = _manager(environment)

    def step_elsewhere() -> None:
        asyncio.run(manager.step_environment({"text": "elsewhere"}))

    async def use() -> None:
        manager.use_running_loop()
        await asyncio.gather(
            *(asyncio.to_thread(step_elsewhere) for _ in range(8)),
            *(manager.step_environment({"text": "here"}) for _ in range(8)),
        )
        logged = manager.episode_state.action_logs
        assert [entry.step_count for entry in logged] == list(range(1, 17))

    asyncio.run(use())


@pytest.mark.parametrize(
    ("action_cls", "data", "expected"),
    [
        (NoteAction, {"text": "Hi"}, {"text": "Hi", "weight": 0.1}),
        (NoteAction, {"type": "list_tools"}, {"type": "list_tools"}),
        (
            NoteAction,
            {"type": "call_tool", "tool_name": "read_note", "arguments": '{"text": "Hi"}'},
            {"type": "call_tool", "tool_name": "read_note", "arguments": {"text": "Hi"}},
        ),
        (
            CallToolAction,
            {"type": "call_tool", "tool_name": "read_note", "arguments": "{}"},
            {"type": "call_tool", "tool_name": "read_note", "arguments": {}},
        ),
        (CallToolAction, {"type": "list_tools"}, {"type": "list_tools"}),
    ],
)
def test_actions_may_be_in_the_form_of_the_frameworks_pages(
    action_cls: type[Action], data: dict[str, Any], expected: dict[str, Any]
) -> None:
    server = HTTPEnvServer(NotesEnvironment, action_cls, CallToolObservation)
    metadata = EnvironmentMetadata(name="notes", description="Notes")
    manager = WebInterfaceManager(server.sessions, action_cls, Observation, metadata)
    assert manager.action_from(data).model_dump(exclude={"metadata"}) == expected


def test_tools_are_called_as_in_a_session() -> None:
    async def use() -> Any:
        manager = _manager(NotesEnvironment)
        arguments = json.dumps({"text": "Hi"})
        action = {"type": "call_tool", "tool_name": "measure_note", "arguments": arguments}
        return await manager.step_environment(action)

    assert asyncio.run(use())["observation"]["result"]["data"] == {"text": "Hi", "length": 2}


class WithTools(MCPEnvironment):
    """Overrides `step` only, and inherits a `step_async`."""

    def __init__(self) -> None:
        mcp: Any = FastMCP("tools")
        mcp.tool(self.double)
        self._steps = 0
        super().__init__(mcp)

    def double(self, x: int) -> int:
        return 2 * x

    def reset(self, *arguments: Any, **kwargs: Any) -> Observation:
        return Observation()

    def step(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        self._steps += 1
        stepped: Observation = super().step(action, timeout_s=timeout_s, **kwargs)
        return stepped

    def _step_impl(self, *arguments: Any, **kwargs: Any) -> Observation:
        return Observation()

    @property
    def state(self) -> State:
        return State(step_count=self._steps)


class StepsOverridden(OnTheLoop):
    BLOCKING = True

    def step(self, action: NoteAction, timeout_s: float | None = None, **kwargs: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        return super().step(action)


@pytest.mark.parametrize("environment", [WithTools, StepsOverridden, OnTheLoop])
def test_an_overridden_step_is_called_though_its_async_form_is_inherited(environment: Any) -> None:
    """The framework's page calls `step`, so such steps count there but not in a session."""

    async def use() -> None:
        manager = _manager(environment)
        call = {"type": "call_tool", "tool_name": "double", "arguments": {"x": 3}}
        for _ in range(2):
            await manager.step_environment(call if environment is WithTools else {"text": "Hi"})
        assert [entry.step_count for entry in manager.episode_state.action_logs] == [1, 2]

    asyncio.run(use())


class Faulty(Observation):
    text: str = "sent"
    bad: str = "not sent"

    @field_serializer("bad")
    def _fail(self, value: str) -> str:
        raise RuntimeError(value)


@pytest.mark.parametrize(
    ("state", "episode_id", "step_count"),
    [
        ({}, None, 1),
        ({"episode_id": 7, "step_count": "4"}, "7", 4),
        (None, None, 1),
        ({"step_count": "many"}, None, 1),
    ],
)
def test_a_step_that_was_taken_is_answered_whatever_the_state_is(
    state: Any, episode_id: str | None, step_count: int
) -> None:
    class Stateful(InThreads):
        def step(self, action: NoteAction, timeout_s: float | None = None, **kwargs: Any) -> Any:
            return Faulty(reward=1.0)

    Stateful.state = property(lambda _: state)  # type: ignore[assignment]

    async def use() -> None:
        manager = _manager(Stateful)
        answer = await manager.step_environment({"text": "Hi"})
        assert (answer["observation"]["text"], answer["reward"]) == ("sent", 1.0)
        episode = manager.episode_state
        assert (episode.episode_id, episode.step_count) == (episode_id, step_count)
        assert episode.action_logs[0].step_count == step_count

    asyncio.run(use())


def test_what_an_environment_says_of_itself_before_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> NotesEnvironment:
        raise AssertionError("nothing is made")

    monkeypatch.chdir(tmp_path)
    assert metadata_of_factory(make, None).name == "make"
    assert metadata_of_factory(NotesEnvironment, "notes").description == (
        "NotesEnvironment environment"
    )
    readme = tmp_path / "envs" / "notes" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# Notes")
    assert metadata_of_factory(make, "notes").readme_content == "# Notes"
    (tmp_path / "other.md").write_text("# Other")
    monkeypatch.setenv("ENV_README_PATH", str(tmp_path / "other.md"))
    assert metadata_of_factory(make, "notes").readme_content == "# Other"
