# SPDX-License-Identifier: BSD-3-Clause
"""Results of calls made on a running loop: awaited, read without awaiting, or neither."""

import asyncio
import copy
import dataclasses
import gc
import json
import pickle
import socket
from collections.abc import Callable
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
from openenv.core.client_types import StepResult
from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.env_server.types import State

from notes_env.client import NotesEnv
from notes_env.models import NoteAction, NoteObservation
from stepwire.client.errors import ConnectFailedError, ServerError

HELLO = NoteAction(text="hello")


def on_a_loop(url: str, use: Callable[[NotesEnv], Any]) -> Any:
    """`use(client)` in a coroutine that awaits only what `use` returns, as a notebook's cell is."""

    async def main() -> Any:
        client = NotesEnv(base_url=url)
        try:
            result = use(client)
            return await result if asyncio.iscoroutine(result) else result
        finally:
            client.close()

    return asyncio.run(main())


def test_results_are_step_results_and_states_by_type(either_server: Any) -> None:
    def use(env: NotesEnv) -> None:
        assert isinstance(env.reset(), StepResult)
        assert isinstance(env.step(HELLO), StepResult)
        assert isinstance(env.state(), State)

    on_a_loop(either_server.url, use)


def test_reading_a_result_completes_the_call(either_server: Any) -> None:
    def use(env: NotesEnv) -> None:
        ready, result, state = env.reset(), env.step(HELLO), env.state()
        assert state.step_count == 1  # what was called before is performed first
        assert ready.reward == 0.0
        assert (result.reward, result.done) == (0.5, False)
        assert result.observation.text == "hello"
        assert result.observation.reward == 0.5
        assert state.model_dump()["step_count"] == 1

    on_a_loop(either_server.url, use)


def test_a_result_behaves_like_the_dataclass_it_stands_for(server: Any) -> None:
    def use(env: NotesEnv) -> None:
        expected = ["observation", "reward", "done", "metadata"]
        assert list(vars(env.step(HELLO))) == expected
        assert list(dataclasses.asdict(env.step(HELLO))) == expected
        result = env.step(HELLO)
        assert result == result
        for twin in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
            assert twin == result
            twin.reward = 9.0
            assert result.reward == 0.5
        assert "text='hello'" in repr(result)
        assert vars(result.observation)["text"] == "hello"
        assert isinstance(result.observation, NoteObservation)
        assert hash(result) == hash(result)
        assert pickle.loads(pickle.dumps(env.state())).step_count == 3

    on_a_loop(server.url, use)


def test_a_result_equals_a_plain_one_and_can_be_replaced(either_server: Any) -> None:
    def use(env: NotesEnv) -> None:
        result = env.step(HELLO)
        plain: StepResult[Any] = StepResult(result.observation, result.reward, result.done)
        for one, other in ((result, plain), (plain, result), (result, copy.copy(result))):
            assert one == other
            assert [one != other] == [False]
        for field in ("observation", "reward", "done"):
            twin = dataclasses.replace(result, **{field: None})
            assert getattr(twin, field) is None
            assert twin.metadata == result.metadata
            for one, other in ((result, twin), (twin, result), (twin, plain), (plain, twin)):
                assert one != other
        assert dataclasses.replace(result, metadata={"step": 9}) != result
        assert result != None  # noqa: E711 - such as a test of it may write it
        assert env.step(NoteAction(text="other")) != result

    on_a_loop(either_server.url, use)
    with NotesEnv(either_server.url) as env:
        use(env)


def test_what_is_written_to_a_result_is_read_back(server: Any) -> None:
    def use(env: NotesEnv) -> None:
        result = env.step(HELLO)
        result.reward = (result.reward or 0.0) + 1
        assert result.reward == 1.5
        late = env.step(HELLO)
        late.done = True
        assert (late.done, late.reward) == (True, 0.5)
        state = env.state()
        state.step_count = 7
        assert state.step_count == 7

    on_a_loop(server.url, use)


def test_awaiting_gives_the_same_result_each_time_and_after_reading(server: Any) -> None:
    async def use(env: NotesEnv) -> None:
        call = env.step(HELLO)
        first = await call
        assert call.reward == 0.5
        assert await call is first
        assert await first is first
        assert (await env.state()).step_count == 1

    on_a_loop(server.url, use)


def test_awaited_read_and_unread_calls_are_performed_in_the_order_they_were_made(
    rendezvous: Any, other: Any
) -> None:
    async def use(env: NotesEnv) -> str:
        env.reset(episode_id="mixed")
        say = lambda text: env.step(NoteAction(text=text))  # noqa: E731
        say("1")
        second, third = say("2"), say("3")
        await third
        assert second.metadata == {"original_text": "2", "step": 2}
        say("4")
        assert say("5").metadata == {"original_text": "5", "step": 5}
        say("6")
        gathered = await asyncio.gather(*map(say, "789"))
        assert [result.observation.text for result in gathered] == ["7", "8", "9"]
        return "1 2 3 4 5 6 7 8 9"

    assert on_a_loop(rendezvous.url, use) == other("journal mixed")


_ENDS = ["nothing", "the end of the loop", "close()", "await close()", "async with"]


@pytest.mark.parametrize("end", _ENDS)
def test_unread_calls_are_performed_all_the_same(rendezvous: Any, other: Any, end: str) -> None:
    episode = f"unread-{end}".replace(" ", "-")

    async def main() -> None:
        env = NotesEnv(base_url=rendezvous.url)
        if end == "async with":
            async with env:
                call(env)
            return
        call(env)
        if end == "the end of the loop":
            return
        if end == "nothing":
            await asyncio.to_thread(_release, other, episode)
        closed = env.close()
        if end != "close()":
            await closed

    def call(env: NotesEnv) -> None:
        env.reset(episode_id=episode)
        for message in ("a", "b"):
            env.step(NoteAction(text=message))
        if end == "nothing":
            env.step(NoteAction(text=f"hold {episode}"))

    asyncio.run(main())
    assert other(f"journal {episode}").split()[:2] == ["a", "b"]


def _release(other: Any, name: str) -> None:
    for verb in ("held", "release"):
        other(f"{verb} {name}")


_USES = ["read it", "read a later one", "await it", "close()", "await close()", "end the loop"]


@pytest.mark.parametrize("use", _USES)
def test_an_unread_call_that_was_performed_holds_nothing_up(
    rendezvous: Any, other: Any, use: str
) -> None:
    episode = f"unread-then-{use}".replace(" ", "-")

    async def main() -> str:
        env = NotesEnv(base_url=rendezvous.url)
        env.reset(episode_id=episode)
        held = env.step(NoteAction(text=f"hold {episode}"))
        await asyncio.to_thread(_release, other, episode)
        match use:
            case "read it":
                return str(held.observation.text)
            case "read a later one":
                assert env.step(HELLO).metadata["step"] == 2
            case "await it":
                return str((await held).observation.text)
            case "close()":
                env.close()
            case "await close()":
                await env.close()
        return str(held.observation.text) if use != "end the loop" else f"hold {episode}"

    assert asyncio.run(main()) == f"hold {episode}"
    assert other(f"journal {episode}").startswith(f"hold {episode}")


def test_an_unread_call_after_an_awaited_one_does_not_block_the_loop(
    rendezvous: Any, other: Any
) -> None:
    async def use(env: NotesEnv) -> str:
        await env.reset()
        held = env.step(NoteAction(text="hold without blocking"))
        for verb in ("held", "release"):
            await asyncio.to_thread(other, f"{verb} without blocking")
        return str((await held).observation.text)

    assert on_a_loop(rendezvous.url, use) == "hold without blocking"


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.021, 0.022, 0.025, 0.03, 0.05])
def test_a_result_may_be_read_at_any_moment(server: Any, pause_s: float) -> None:
    """As the cells of a notebook are run, while the loop has the call to perform."""

    async def main() -> None:
        for _ in range(5):
            env = NotesEnv(base_url=server.url)
            for _ in range(3):
                step = env.step(HELLO)
                await asyncio.sleep(pause_s)
                assert step.reward == 0.5
            env.close()

    asyncio.run(main())


def test_an_unread_call_has_the_context_variables_of_its_maker(server: Any) -> None:
    variable = ContextVar("variable", default="unset")
    seen = SimpleQueue[str]()

    class Client(NotesEnv):
        def _parse_result(self, payload: dict[str, Any]) -> Any:
            seen.put(variable.get())
            return super()._parse_result(payload)

    async def main() -> None:
        env = Client(base_url=server.url)
        variable.set("set")
        env.step(HELLO)
        assert await asyncio.to_thread(seen.get) == "set"
        variable.set("later")
        assert env.step(HELLO).reward == 0.5
        env.close()

    asyncio.run(main())
    assert seen.get() == "later"


def test_an_unread_call_whose_session_cannot_be_opened() -> None:
    async def main(listener: socket.socket) -> None:
        env = NotesEnv(base_url=f"ws://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=2)
        step = env.step(HELLO)
        opened, _ = await asyncio.to_thread(listener.accept)
        with opened, pytest.raises(ConnectFailedError, match="2 s"):
            _ = step.reward

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(main(listener))


def test_calls_that_cannot_be_performed_any_more_are_logged(
    server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, the loop would perform the call before it ends.
    monkeypatch.setattr("stepwire.client.loops._FLUSH_AFTER_S", 60.0)

    async def main() -> None:
        NotesEnv(base_url=server.url).step(HELLO)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()  # without `shutdown_asyncgens`, which `asyncio.run` calls
    gc.collect()
    assert "Calls to ws://127.0.0.1" in caplog.text
    assert "never performed" in caplog.text


def test_an_error_is_raised_where_the_result_is_asked_for(rendezvous: Any) -> None:
    async def use(env: NotesEnv) -> None:
        failing = env.step(NoteAction(text="fail on purpose"))
        for _ in range(2):
            with pytest.raises(ServerError, match="on purpose"):
                _ = failing.reward
            with pytest.raises(ServerError, match="on purpose"):
                await failing
        assert (await env.step(HELLO)).metadata == {"original_text": "hello", "step": 2}

    on_a_loop(rendezvous.url, use)


def test_an_unread_error_does_not_affect_later_calls(rendezvous: Any) -> None:
    async def use(env: NotesEnv) -> None:
        env.step(NoteAction(text="fail unread"))
        assert (await env.step(HELLO)).metadata == {"original_text": "hello", "step": 2}

    on_a_loop(rendezvous.url, use)


def test_calls_of_eight_clients_can_be_gathered_as_they_are(rendezvous: Any) -> None:
    async def use(env: NotesEnv) -> list[Any]:
        clients = [env, *(NotesEnv(base_url=rendezvous.url) for _ in range(7))]
        meeting = NoteAction(text="meet 8 gathered")
        results = await asyncio.gather(*(client.step(meeting) for client in clients))
        await asyncio.gather(*(client.close() for client in clients))
        return [result.observation.length for result in results]

    assert on_a_loop(rendezvous.url, use) == [len("meet 8 gathered")] * 8


def test_results_of_tools(server: Any) -> None:
    def use(env: NotesEnv) -> None:
        tools = env.list_tools()
        assert len(tools) == 2
        assert [tool.name for tool in tools] == ["read_note", "measure_note"]
        assert tools[0].name == "read_note"
        with_length = env.call_tool("measure_note", text="Test")
        assert with_length == {"text": "Test", "length": 4}
        assert with_length["length"] == 4
        assert sorted(with_length) == ["length", "text"]
        assert with_length.get("text") == "Test"
        echoed = env.call_tool("read_note", text="Hello!")
        assert (echoed, str(echoed), repr(echoed)) == ("Hello!", "Hello!", "'Hello!'")
        assert echoed.upper() == "HELLO!"
        assert "Hell" in echoed
        assert "Hell" not in with_length
        assert not env.call_tool("read_note", text="")
        assert json.dumps(str(echoed)) == '"Hello!"'
        assert f"{echoed:>8}" == "  Hello!"
        for value in (with_length, echoed, tools):
            twins = copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))
            assert [twin == value for twin in twins] == [True] * 3
        call = env.step(CallToolAction(tool_name="read_note", arguments={"text": "m"}))
        assert call.observation.result["data"] == "m"

    on_a_loop(server.url, use)


def test_results_of_tools_may_be_awaited(server: Any) -> None:
    async def use(env: NotesEnv) -> None:
        assert [tool.name for tool in await env.list_tools()] == [
            "read_note",
            "measure_note",
        ]
        assert await env.call_tool("read_note", text="Hello!") == "Hello!"
        called = env.call_tool("read_note", text="Hello!")
        assert asyncio.iscoroutine(called)
        assert await asyncio.create_task(called) == await called == "Hello!"  # type: ignore[arg-type]
        assert await asyncio.gather(called, env.call_tool("read_note", text="2")) == [
            "Hello!",
            "2",
        ]

    on_a_loop(server.url, use)


def test_blocking_results_may_be_awaited_too(server: Any) -> None:
    async def main() -> None:
        with NotesEnv(base_url=server.url) as env:
            results = [env.reset(), env.step(HELLO), env.state(), env.list_tools()]
            for result in results:
                assert await result is result

    asyncio.run(main())


def test_a_result_is_a_coroutine_that_tasks_can_be_made_of(server: Any) -> None:
    async def episode() -> None:
        env = NotesEnv(base_url=server.url)
        result = env.step(NoteAction(text="Hi"))
        assert asyncio.iscoroutine(result)
        assert (await asyncio.create_task(result)).reward == 0.2  # type: ignore[arg-type]
        assert (await asyncio.create_task(env.state())).step_count == 1  # type: ignore[arg-type]
        assert (await result).reward == 0.2  # … and can be awaited again
        await env.close()

    asyncio.run(episode())


def test_an_unread_failure_is_logged(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def episode() -> None:
        async with NotesEnv(base_url=server.url) as env:
            env.reset(seed="not a number")
            assert (await env.step(NoteAction(text="Hi"))).metadata["step"] == 1

    asyncio.run(episode())
    gc.collect()
    assert "never read" in caplog.text
    assert "VALIDATION_ERROR" in caplog.text


def test_showing_a_task_does_not_perform_the_call(server: Any) -> None:
    async def main() -> None:
        env = NotesEnv(base_url=server.url)
        for call in (env.reset(), env.step(HELLO), env.state()):
            task = asyncio.ensure_future(call)  # type: ignore[var-annotated]
            assert "pending" in repr(task)
            task.get_stack()
            assert env.status == "unused"
            task.cancel()
        for tool in ("read_note", "no_such_tool"):
            task = asyncio.ensure_future(env.call_tool(tool, text=""))
            await asyncio.sleep(0)
            assert "pending" in repr(task)
            await asyncio.wait([task])
            assert "finished" in repr(task)
            assert (task.exception() is None) == (tool == "read_note")
        await env.close()

    asyncio.run(main(), debug=True)
