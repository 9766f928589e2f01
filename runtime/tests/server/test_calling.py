# SPDX-License-Identifier: BSD-3-Clause
"""How environments are called: in threads, on the event loop or awaited, and what blocks it."""

import asyncio
import gc
import json
import re
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from waiting import wait_until

from stepwire.server.calling import Caller, CallingConvention, SessionThread, needs_thread
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.session import Session
from stepwire.server.session_factory import SessionFactory
from stepwire.server.settings import Settings
from stepwire.server.threads import CallThread
from stepwire.server.tool_choice import tools_of

_BLOCKED_S = 0.15  # above the 0.1 s that are reported


class Threaded(Environment[Action, Observation, State]):
    """Each method says in which thread it runs; `block` blocks for as long as the class says."""

    blocks_s = 0.0

    def block(self) -> Observation:
        time.sleep(self.blocks_s)
        return Observation(metadata={"thread": threading.current_thread().name})

    def reset(self, seed: int | None = None) -> Observation:  # type: ignore[override]
        return self.block()

    def step(self, action: Action, timeout_s: float | None = None, **_: Any) -> Observation:
        return self.block()

    @property
    def state(self) -> State:
        return State()


class OnLoop(Threaded):
    BLOCKING = False


class AsyncStep(Threaded):
    async def step_async(self, action: Action, timeout_s: Any = None, **_: Any) -> Observation:
        await asyncio.sleep(0)
        self.block()
        await asyncio.sleep(_BLOCKED_S)
        return self.block()


class AsyncBoth(AsyncStep):
    BLOCKING = False

    async def reset_async(self, seed: int | None = None, **_: Any) -> Observation:  # type: ignore[override]
        return self.block()


@pytest.fixture
def session_with() -> Iterator[Any]:
    """Makes a session with an environment of a class."""
    shared = CallThread("its thread")

    def make(environment_cls: type[Threaded]) -> Session:
        thread = SessionThread(shared) if needs_thread(environment_cls) else None
        environment = environment_cls()
        caller = Caller(environment, CallingConvention(environment), thread)
        return Session(environment, caller, tools_of(environment, Action))

    yield make
    shared.end()


def _blocking(environment_cls: type[Threaded]) -> type[Threaded]:
    """A class of its own whose methods block the thread they are called in."""
    return type(f"Slow{environment_cls.__name__}", (environment_cls,), {"blocks_s": _BLOCKED_S})


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "stepwire.server"]


@pytest.mark.parametrize(
    ("environment_cls", "reset", "step", "other"),
    [
        (Threaded, "its thread", "its thread", "its thread"),
        (OnLoop, "MainThread", "MainThread", "MainThread"),
        (AsyncStep, "its thread", "MainThread", "MainThread"),
        (AsyncBoth, "MainThread", "MainThread", "MainThread"),
    ],
)
def test_a_class_says_where_it_is_called(
    session_with: Any, environment_cls: Any, reset: str, step: str, other: str
) -> None:
    async def threads() -> tuple[str, str, str]:
        session = session_with(environment_cls)
        called = [await session.reset({}), await session.step(Action())]
        called += [await session.call(session.environment.block)]
        return tuple(observation.metadata["thread"] for observation in called)

    assert asyncio.run(threads()) == (reset, step, other)


@pytest.mark.parametrize("environment_cls", [Threaded, OnLoop])
def test_arguments_that_a_method_does_not_accept_are_left_out(
    session_with: Any, environment_cls: Any
) -> None:
    async def call() -> None:
        session = session_with(environment_cls)
        await session.reset({"seed": 1, "level": 2})
        await session.step(Action(), {"timeout_s": 1.0, "level": 2})

    asyncio.run(call())


def test_a_class_that_says_it_does_not_block_is_warned_about_once(
    session_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def step(session: Session, times: int) -> None:
        for _ in range(times):
            await session.step(Action())

    session = session_with(_blocking(OnLoop))
    asyncio.run(step(session, 1))
    assert _warnings(caplog) == []  # a busy machine can make any call slow once
    asyncio.run(step(session, 2))
    (warning,) = _warnings(caplog)
    assert re.match(r"SlowOnLoop\.step took \d+\.\d s on the event loop", warning)
    assert "Remove BLOCKING = False from SlowOnLoop so that it runs in a thread" in warning


@pytest.mark.parametrize("environment_cls", [Threaded, AsyncStep])
def test_no_other_class_is_warned_about_outside_development(
    session_with: Any, caplog: pytest.LogCaptureFixture, environment_cls: Any
) -> None:
    async def step() -> None:
        await session_with(_blocking(environment_cls)).step(Action())

    asyncio.run(step())
    assert _warnings(caplog) == []


def test_development_mode_reports_every_method_that_blocks(
    session_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def call() -> None:
        for made in map(_blocking, (Threaded, OnLoop, AsyncStep, AsyncBoth)):
            session = session_with(made)
            await session.reset({})
            await session.step(Action())

    asyncio.run(call(), debug=True)
    blocked = [warning.partition(" took")[0] for warning in _warnings(caplog)]
    assert blocked == [
        "SlowOnLoop.reset",
        "SlowOnLoop.step",
        "SlowAsyncStep.step_async",  # before and after what it awaits, which is not reported
        "SlowAsyncStep.step_async",
        "SlowAsyncBoth.reset_async",
        "SlowAsyncBoth.step_async",
        "SlowAsyncBoth.step_async",
    ]
    assert "Await what blocks, or remove the async methods" in _warnings(caplog)[-1]


class Failing(Threaded):
    """Raises before or after it has waited."""

    was_cancelled = False

    async def reset_async(self, seed: int | None = None, **_: Any) -> Observation:  # type: ignore[override]
        if seed:
            await asyncio.sleep(0)
        raise KeyError(seed)

    async def step_async(self, action: Action, timeout_s: Any = None, **_: Any) -> Observation:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        raise AssertionError("not cancelled")


def test_development_mode_leaves_errors_and_cancellation_as_they_are(session_with: Any) -> None:
    async def call() -> None:
        session = session_with(Failing)
        for seed in (0, 1):
            with pytest.raises(KeyError, match=str(seed)):
                await session.reset({"seed": seed})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.step(Action()), 0.01)
        assert session.environment.was_cancelled

    asyncio.run(call(), debug=True)


def test_an_environment_whose_client_has_given_up_is_closed() -> None:
    began, go_on, closed = (threading.Event() for _ in range(3))

    class Late(Threaded):
        def __init__(self) -> None:
            super().__init__()
            began.set()
            go_on.wait(60)

        def close(self) -> None:
            closed.set()

    async def give_up() -> None:
        factory = SessionFactory(EnvironmentFactory(Late), Action, Settings())
        making = asyncio.create_task(factory.create())
        assert await asyncio.to_thread(began.wait, 60)  # one that has not begun is never made
        making.cancel()
        with suppress(asyncio.CancelledError):
            await making
        go_on.set()
        assert await asyncio.to_thread(closed.wait, 60)

    asyncio.run(give_up())


@pytest.mark.parametrize("environment_cls", [Threaded, OnLoop, AsyncStep])
def test_an_environment_is_freed_when_its_session_is_closed(environment_cls: Any) -> None:
    async def use() -> "weakref.ref[Any]":
        factory = SessionFactory(EnvironmentFactory(environment_cls), Action, Settings())
        session = await factory.create()
        await session.step(Action())
        await session.state()
        await session.close()
        return weakref.ref(session.environment)

    gc.collect()
    gc.disable()  # a reference circle would keep it until a later collection
    try:
        environment = asyncio.run(use())
        wait_until(lambda: environment() is None)  # the thread is about to end
    finally:
        gc.enable()


def test_a_step_that_blocks_holds_up_no_other_session(connect_to: Any) -> None:
    one, other = connect_to("patient"), connect_to("patient")
    one.send({"type": "step", "data": {"text": "Hi"}})
    while True:
        assert other.ask({"type": "state"})["type"] == "state"  # which the step waits for
        with suppress(TimeoutError):
            reply = json.loads(one.connection.recv(timeout=0.01))
            break
    assert reply["data"]["observation"]["text"] == "another session was answered"


_APPLICATION = """
import stepwire
import time
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app

class Copied(NotesEnvironment):
    async def step_async(self, action, **kwargs):
        time.sleep(0.2)
        return self.step(action)

app = create_app(Copied, NoteAction, NoteObservation)
"""


def test_python_x_dev_is_development_mode(start_server: Any, connect: Any, tmp_path: Path) -> None:
    (tmp_path / "copied_app.py").write_text(_APPLICATION)
    command = [sys.executable, "-X", "dev", "-m", "uvicorn", "copied_app:app", "--port", "{port}"]
    server = start_server(command=command)
    connect(server.ws_url).step(text="Hi")
    assert re.search(r"Copied\.step_async took \d+\.\d s on the event loop", server.log)
