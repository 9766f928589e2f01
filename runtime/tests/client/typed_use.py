# SPDX-License-Identifier: BSD-3-Clause
"""The package as a type checker sees it from outside: `scripts/check` checks it, nothing runs it.

Every comment that ignores an error stands for one the checker must find: where a base class has
become `Any` it finds none, and reports the comment as unused.
"""

from typing import Any

from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    ListToolsAction,
    ListToolsObservation,
    Tool,
)
from typing_extensions import assert_type

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation, NotesState
from stepwire.client import AwaitableState, SessionClient, SessionLostError

_URL = "http://localhost:8000"
_HI = NoteAction(text="Hi")


class _AwaitedNotesEnv(SessionClient[NoteAction, NoteObservation, AwaitableState]):
    """Gives up the fields of `NotesState` for `await env.state()`."""


def use_models() -> None:
    action = NoteAction(text="Hi")
    assert_type(action.text, str)
    assert_type(action.metadata, dict[str, Any])
    NoteAction(text=3)  # type: ignore[arg-type]
    NoteAction()  # type: ignore[call-arg]
    action.note = "Hi"  # type: ignore[attr-defined]

    observation = NoteObservation(text="Hi", length=2)
    assert_type(observation.length, int)
    assert_type(observation.done, bool)
    observation.reward = "high"  # type: ignore[assignment]


def use_environment() -> None:
    environment = NotesEnvironment()
    assert_type(environment.reset(seed=1), NoteObservation)
    assert_type(environment.step(_HI), NoteObservation)
    assert_type(environment.state, NotesState)
    environment.close(1)  # type: ignore[call-arg]
    environment.step("Hi")  # type: ignore[arg-type]


def use_client() -> None:
    with NotesEnv(base_url=_URL, capacity_wait_s=1.5) as env:
        assert_type(env, NotesEnv)
        assert_type(env.reset(seed=1).observation, NoteObservation)
        result = env.step(_HI)
        assert_type(result.observation.length, int)
        assert_type(result.reward, float | None)
        assert_type(result.done, bool)
        assert_type(result.metadata, dict[str, Any] | None)
        assert_type(env.state(), NotesState)
        assert_type(env.state().step_count, int)
        assert_type(env.sync(), NotesEnv)
        assert_type(env.connect(), NotesEnv)
        assert_type(env.new_session(), NotesEnv)
        assert_type(env.base_url, str | None)
        env.step("Hi")  # type: ignore[call-overload]
        env.step()  # type: ignore[call-overload]
        env.restart()  # type: ignore[attr-defined]
        print(result.observation.echo)  # type: ignore[attr-defined]
        print(result.score)  # type: ignore[attr-defined]
        print(env.state().steps)  # type: ignore[attr-defined]
    NotesEnv(base_url=_URL, message_timeout_s="a minute")  # type: ignore[arg-type]
    NotesEnv(base_url=_URL, retries=3)  # type: ignore[call-arg]


def use_tools() -> None:
    with NotesEnv(base_url=_URL).sync() as env:
        assert_type(env.list_tools()[0], Tool)
        assert_type(env.list_tools()[0].name, str)
        env.call_tool("read_note", text="Hi")
        env.call_tool(name="read_note", text="Hi")
        env.call_tool(text="Hi")  # type: ignore[call-overload]
        called = env.step(CallToolAction(tool_name="read_note", arguments={"text": "Hi"}))
        assert_type(called.observation, CallToolObservation)
        assert_type(env.step(ListToolsAction()).observation, ListToolsObservation)
        print(called.observation.text)  # type: ignore[attr-defined]


def start_servers() -> None:
    assert_type(NotesEnv.from_local(port=8001, env_vars={"WORKERS": "2"}, wait_timeout=5), NotesEnv)
    assert_type(NotesEnv.from_docker_image("echo-env:latest", container_port=9000), NotesEnv)
    assert_type(NotesEnv.from_env("my-org/echo", use_docker=False), NotesEnv)
    with NotesEnv.from_local() as env:
        assert_type(env, NotesEnv)
    NotesEnv.from_local("8001")  # type: ignore[arg-type]
    NotesEnv.from_docker_image()  # type: ignore[call-arg]
    NotesEnv.from_env("my-org/echo", wait_timeout="long")  # type: ignore[arg-type]


def use_pool() -> None:
    with NotesEnvPool(_URL, num_envs=2) as pool:
        assert_type(pool, NotesEnvPool)
        assert_type(pool.reset(seed=[1, 2], only=[0])[0].observation, NoteObservation)
        for result in pool.step([_HI, _HI]):
            assert_type(result.observation, NoteObservation)
            assert_type(result.error, BaseException | None)
        for index, result in pool.step_as_completed([_HI, _HI]):
            assert_type(index, int)
            assert_type(result.observation.text, str)
        pool.step(["Hi", "Hi"])  # type: ignore[list-item]
        pool.step(_HI)  # type: ignore[arg-type]
        print(pool.step([_HI, _HI]).observation)  # type: ignore[attr-defined]
    NotesEnvPool(_URL)  # type: ignore[call-arg]


def handle_loss(error: SessionLostError) -> None:
    assert_type(error.close_code, int | None)
    assert_type(error.reason, str)


async def await_client() -> None:
    async with NotesEnv(base_url=_URL) as env:
        assert_type(env, NotesEnv)
        assert_type((await env.reset()).observation, NoteObservation)
        result = await env.step(_HI)
        assert_type(result.observation, NoteObservation)
        assert_type(result.observation.metadata, dict[str, Any])
        await env.state()  # type: ignore[misc]
        assert_type((await env.list_tools())[0], Tool)
        called = await env.step(CallToolAction(tool_name="read_note", arguments={}))
        assert_type(called.observation, CallToolObservation)
        await env.step("Hi")  # type: ignore[call-overload]
        await result.observation  # type: ignore[misc]
        await result.reward  # type: ignore[misc]
        await env.base_url  # type: ignore[misc]
        await env.step  # type: ignore[misc]
        print(result.observation.echo)  # type: ignore[attr-defined]
    async with _AwaitedNotesEnv(base_url=_URL) as awaited:
        assert_type((await awaited.state()).step_count, int)
    async with await NotesEnv(base_url=_URL).connect() as env:
        assert_type(env, NotesEnv)
        assert_type(await env, NotesEnv)
        assert_type(await env.close(), None)
    async with NotesEnvPool(_URL, num_envs=2) as pool:
        assert_type(pool, NotesEnvPool)
        results = await pool.step([NoteAction(text="a"), NoteAction(text="b")])
        assert_type(results[0].observation, NoteObservation)
