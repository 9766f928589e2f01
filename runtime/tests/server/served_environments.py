# SPDX-License-Identifier: BSD-3-Clause
"""Environments that differ from the notes environment, each served below a path of its own."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import asyncio
import builtins
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import EnvironmentMetadata, Observation, State
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app

_HANG_S = 30.0  # a rendezvous that does not happen within this fails its test


class Counting(Environment[NoteAction, NoteObservation, State]):
    """Synchronous methods only, no further keywords, one session at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def reset(self, seed: int | None = None) -> NoteObservation:  # type: ignore[override]
        self.steps = 0
        return NoteObservation(text=f"seed {seed}")

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:  # type: ignore[override]
        self.steps += 1
        return NoteObservation(text=f"timeout {timeout_s}")

    @property
    def state(self) -> State:
        return State(episode_id="only", step_count=self.steps)

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(name="Counting", description="Counts steps", version="3.2.1")


class Meeting(Counting):
    """A step returns when two sessions are in one at once, each in a thread of its own."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    _barrier = threading.Barrier(2)

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        self._barrier.wait(_HANG_S)
        return NoteObservation(text=threading.current_thread().name)


class Crowd(Counting):
    """A step says how many environments there are, itself included, once there are two."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    _present: list["Crowd"] = []  # noqa: RUF012 - shared on purpose
    _met = threading.Event()

    def __init__(self) -> None:
        super().__init__()
        self._present.append(self)
        if len(self._present) > 1:
            self._met.set()

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        self._met.wait(_HANG_S)
        return NoteObservation(length=len(self._present))

    def close(self) -> None:
        self._present.remove(self)


class AsyncMeeting(Counting):
    """The same with `async` methods, on the server's event loop."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    _waiting: list["asyncio.Future[None]"] = []  # noqa: RUF012 - shared on purpose

    async def step_async(self, action: NoteAction, **kwargs: Any) -> NoteObservation:
        if self._waiting:
            self._waiting.pop().set_result(None)
        else:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await asyncio.wait_for(self._waiting[-1], _HANG_S)
        return NoteObservation(text=threading.current_thread().name)


class OneThread(Counting):
    """Has to be called from one thread, also for different sessions."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    REQUIRES_SINGLE_THREAD_EXECUTOR = True

    def __init__(self) -> None:
        super().__init__()
        self.made_in = threading.get_ident()

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        same = threading.get_ident() == self.made_in
        return NoteObservation(text=f"{same} {self.made_in}")


class Patient(Counting):
    """A step returns when another session has been asked for its state."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    _asked = threading.Event()

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        self._asked.clear()
        answered = self._asked.wait(_HANG_S)
        return NoteObservation(text="another session was answered" if answered else "none was")

    @property
    def state(self) -> State:
        self._asked.set()
        return super().state


def name_thread() -> str:
    """The thread that this runs in."""
    return threading.current_thread().name


class InThreads(Counting):
    """Steps and a tool that say which thread they run in; a step raises the exception it names."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    TOOLS = (name_thread,)

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        where = concurrent.futures if action.text == "CancelledError" else builtins
        error: Any = getattr(where, action.text, None)
        if error is not None:
            raise error("/secret/path")
        return NoteObservation(text=name_thread())


class Bound(Counting):
    """Refuses to be called from another thread than the one that made it, `state` included."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    TOOLS = (name_thread,)
    _number: ContextVar[int] = ContextVar("number")  # each session has its own
    _go_on = threading.Event()

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.current_thread()
        self._number.set(0)

    def _check(self) -> None:
        if threading.current_thread() is not self._thread:
            raise AssertionError(f"{self._thread} and {threading.current_thread()}")

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> NoteObservation:  # type: ignore[override]
        self._check()
        return NoteObservation(text=self._thread.name)

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        self._check()
        self._number.set(self._number.get() + 1)
        match action.text:
            case "wait":
                self._go_on.wait(_HANG_S)
            case "go on":
                self._go_on.set()
            case "fail":
                raise KeyError("on purpose")
            case "name threads":
                names = [thread.name for thread in threading.enumerate()]
                return NoteObservation(text="\n".join(names))
        return NoteObservation(text=self._thread.name, length=self._number.get())

    @property
    def state(self) -> State:
        self._check()
        return State(episode_id="bound", step_count=self._number.get())

    def get_metadata(self) -> EnvironmentMetadata:
        self._check()
        return super().get_metadata()

    def dump_state(self) -> dict[str, Any]:
        self._check()
        return {"number": self._number.get()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._check()
        self._number.set(state["number"])

    def close(self) -> None:
        self._check()
        print(f"closed in {self._thread.name} after {self._number.get()} steps", flush=True)


class AsyncBound(Bound):
    """The same with `async` steps, which do not run in the thread; its constructor runs a loop."""

    def __init__(self) -> None:
        asyncio.run(asyncio.sleep(0))
        super().__init__()

    async def step_async(self, action: NoteAction, **kwargs: Any) -> NoteObservation:
        return NoteObservation(text=name_thread())

    @property
    def state(self) -> State:
        return State(episode_id=name_thread())

    def close(self) -> None:
        asyncio.run(asyncio.sleep(0))
        super().close()


class Guarded(Environment[CallToolAction, CallToolObservation, State]):
    """Counts its instances, and the calls that came in the middle of another.

    Its only tool reports the two numbers, and the most instances that there were at once.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True
    alive = most_alive = overlaps = 0
    _lock = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        self._is_busy = False
        with self._lock:
            kind = type(self)
            kind.alive += 1
            kind.most_alive = max(kind.alive, kind.most_alive)

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._is_busy:
            type(self).overlaps += 1
        self._is_busy = True
        yield
        self._is_busy = False

    def reset(self, **_: Any) -> Observation:  # type: ignore[override]
        return Observation()

    def step(self, action: Any, **_: Any) -> Any:
        with self._call():
            time.sleep(0.002)
        return self._report(action)

    def _report(self, action: Any) -> CallToolObservation:
        kind = type(self)
        numbers = [kind.alive, kind.most_alive, kind.overlaps]
        return CallToolObservation(tool_name="report", result=numbers)

    @property
    def state(self) -> State:
        return State()

    def close(self) -> None:
        with self._call():
            time.sleep(0.03)
        with self._lock:
            type(self).alive -= 1


class AsyncGuarded(Guarded):
    """The same with `async` steps."""

    alive = most_alive = overlaps = 0

    async def step_async(self, action: Any, **_: Any) -> Any:
        with self._call():
            await asyncio.sleep(0.002)
        return self._report(action)


class SharedGuarded(AsyncGuarded):
    """The same environment for all sessions."""

    alive = most_alive = overlaps = 0
    _only: Any = None

    @classmethod
    def get(cls) -> "SharedGuarded":
        cls._only = cls._only or cls()
        return cls._only  # type: ignore[no-any-return]

    def close(self) -> None:
        with self._call():
            time.sleep(0.03)


class Failing(NotesEnvironment):
    """Fails in the way that the text asks for; returns any other text."""

    TOOLS = ()

    def step(self, action: NoteAction, timeout_s: float | None = None, **_: Any) -> NoteObservation:
        match action.text:
            case "ValueError":
                raise ValueError("Messages end with a full stop")
            case "lone surrogate":
                raise ValueError("not text: \ud800")
            case "KeyError":
                raise KeyError("/secret/path")
            case "UnicodeError":
                "\ud800".encode()
            case "ValidationError":
                NoteObservation(length=-1)
            case "not a number":
                return NoteObservation(reward=float("nan"))
            case "no observation":
                return None  # type: ignore[return-value]
        return super().step(action)

    @property
    def state(self) -> State:
        if self._episode["episode_id"] == "stateless":
            raise KeyError("/secret/path")
        return super().state

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Any:
        if "level" in kwargs:
            raise ValueError(f"There is no level {kwargs['level']}")
        return super().reset(seed, episode_id)

    def close(self) -> None:
        raise RuntimeError("not closed: /secret/path")


class Remembering(Counting):
    """Can be resumed, in threads. It refuses a state of a former version; notes enlarge a state."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = ""

    def step(self, action: NoteAction, timeout_s: float | None = None) -> NoteObservation:
        self.steps += 1
        self.notes += action.text
        return NoteObservation(text=f"{os.getpid()}", length=self.steps)

    def dump_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "notes": self.notes}

    def load_state(self, state: dict[str, Any]) -> None:
        if "of a former version" in state["notes"]:
            raise ValueError("That was before the notes were numbered")
        self.steps, self.notes = state["steps"], state["notes"]


class Unbuildable(NotesEnvironment):
    def __init__(self) -> None:
        raise RuntimeError("/secret/path")


def shout(message: str, times: int = 1) -> str:
    """Repeat a message in capitals."""
    return message.upper() * times


async def whisper(message: str) -> list[str]:
    return [message.lower()]


def explain(reason: str) -> str:
    raise ValueError(f"Because {reason}")


def crash() -> None:
    raise KeyError("/secret/path")


def keep(first: int, **more: Any) -> dict[str, Any]:
    return {"first": first, **more}


def spread(first: int, *others: int, last: str) -> str:
    return f"{first} {others} {last}"


def stray() -> str:
    return "\ud800"


def stray_inside() -> dict[str, list[str]]:
    return {"text": ["well", "\ud800"]}


class WithTools(NotesEnvironment):
    TOOLS = (shout, whisper, explain, crash, name_thread, keep, spread, stray, stray_inside)


def make_counting() -> Counting:
    return Counting()


def _serve(environment: Callable[[], Any], **options: Any) -> Any:
    return create_app(environment, NoteAction, NoteObservation, **options)


def _serve_tools(environment: Callable[[], Any]) -> Any:
    return create_app(environment, CallToolAction, CallToolObservation, max_concurrent_envs=3)


def _health(_: Any) -> PlainTextResponse:
    return PlainTextResponse("healthy")


app = Starlette(
    routes=[
        Route("/health", _health),
        Mount("/counting", _serve(Counting)),
        Mount("/factory", _serve(make_counting)),
        Mount("/meeting", _serve(Meeting)),
        Mount("/crowd", _serve(Crowd)),
        Mount("/async-meeting", _serve(AsyncMeeting)),
        Mount("/patient", _serve(Patient)),
        Mount("/one-thread", _serve(OneThread)),
        Mount("/in-threads", _serve(InThreads)),
        Mount("/bound", _serve(Bound)),
        Mount("/async-bound", _serve(AsyncBound)),
        Mount("/failing", _serve(Failing)),
        Mount("/remembering", _serve(Remembering)),
        Mount("/unbuildable", _serve(Unbuildable)),
        Mount("/tools", _serve(WithTools)),
        Mount("/full", _serve(NotesEnvironment, max_concurrent_envs=4)),
        Mount("/guarded", _serve_tools(Guarded)),
        Mount("/async-guarded", _serve_tools(AsyncGuarded)),
        Mount("/shared-guarded", _serve_tools(SharedGuarded.get)),
        Mount("/mcp-full", _serve(NotesEnvironment, max_concurrent_envs=2)),
    ]
)
