# SPDX-License-Identifier: BSD-3-Clause
"""Environments with the manners of public ones, and broken twins, each below a path of its name.

Their authors kept the framework's rules, but not all that a check could take for granted: most want
a reset before a step, some count as they like, one plays a move in its constructor.
"""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import random
import time
from typing import Any, ClassVar, Literal
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from compatibility.served_by import create_app


class Code(Action):
    code: str
    is_final: bool = False


class Printed(Observation):
    stdout: str = ""
    variables: list[str] = Field(default_factory=list)


class Repl(Environment[Code, Printed, State]):
    """Like `repl`: neither a step nor a state before the first reset."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state: State | None = None

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Printed:
        self._state = State(episode_id=episode_id or str(uuid4()))
        return Printed()

    def step(self, action: Code, timeout_s: float | None = None, **_: Any) -> Printed:
        if self._state is None:
            raise RuntimeError("Environment not initialized. Call reset() first.")
        self._state.step_count += 1
        return Printed(stdout=f"ran {len(action.code)} characters", done=action.is_final)

    @property
    def state(self) -> State:
        if self._state is None:
            raise RuntimeError("Environment not initialized. Call reset() first.")
        return self._state


class Torques(Action):
    values: list[float]


class Joints(Observation):
    joints: dict[str, list[float]] = Field(default_factory=dict)


class Walker(Environment[Torques, Joints, State]):
    """Like `dm_control`: a list whose length only the environment knows, after a reset."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    SIZE = 6

    def __init__(self) -> None:
        super().__init__()
        self._position: list[float] | None = None
        self._state = State(episode_id=str(uuid4()))

    def reset(self, seed: int | None = None, **_: Any) -> Joints:  # type: ignore[override]
        self._position = [random.Random(seed or 0).random() for _ in range(self.SIZE)]
        self._state = State(episode_id=str(uuid4()))
        return Joints(joints={"position": self._position}, reward=0.0)

    def step(self, action: Torques, **_: Any) -> Joints:  # type: ignore[override]
        if self._position is None:
            raise RuntimeError("Call reset before step")
        if len(action.values) != self.SIZE:
            raise ValueError(f"Expected {self.SIZE} values, got {len(action.values)}")
        self._position = [a + b for a, b in zip(self._position, action.values, strict=True)]
        self._state.step_count += 1
        return Joints(joints={"position": self._position}, reward=1.0)

    @property
    def state(self) -> State:
        return self._state


class Drive(Action):
    action_type: str = "observe"
    throttle: float | None = Field(default=None, ge=0, le=1)
    lane: Literal["left", "right"] | None = None


class Scene(Observation):
    speed: float = 0.0
    hint: str | None = None


class Carla(Environment[Drive, Scene, State]):
    """Like `carla`: all fields have defaults, and a step needs a scenario, which `reset` makes."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._scenario: str | None = None
        self._state = State()

    def reset(self, scenario: str = "town", **_: Any) -> Scene:  # type: ignore[override]
        self._scenario = scenario
        self._state = State(episode_id=str(uuid4()))
        return Scene(hint=scenario)

    def step(self, action: Drive, **_: Any) -> Scene:  # type: ignore[override]
        assert self._scenario is not None
        self._state.step_count += 1
        return Scene(speed=action.throttle or 0.0, done=self._state.step_count == 2)

    @property
    def state(self) -> State:
        return self._state


class Fight(Action):
    action: Literal["water", "break", "wait"]
    x: int | None = Field(default=None, ge=0)
    y: int | None = Field(default=None, ge=0)


class Forest(Observation):
    grid: list[int] = Field(default_factory=list)
    burning: int = 0


class FireState(State):
    burnt: int = 0


class Wildfire(Environment[Fight, Forest, FireState]):
    """Like `wildfire`: its state has attributes that only a reset makes."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, **_: Any) -> Forest:  # type: ignore[override]
        self._random = random.Random(seed)
        self._state = FireState(episode_id=str(uuid4()))
        return Forest(grid=[1] * 16, burning=1)

    def step(self, action: Fight, **_: Any) -> Forest:  # type: ignore[override]
        self._state.step_count += 1
        self._state.burnt += self._random.randint(0, 1)
        return Forest(grid=[1] * 16, burning=self._state.burnt, reward=-1.0)

    @property
    def state(self) -> FireState:
        return self._state


class Turn(Action):
    action: int


class Grid(Observation):
    grid: list[list[int]] = Field(default_factory=list)
    alive: bool = True


class Snake(Environment[Turn, Grid, State]):
    """Like `snake`: `reset` takes no arguments and a board is there only after it."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(episode_id=str(uuid4()))
        self._board: list[list[int]] | None = None

    def reset(self) -> Grid:  # type: ignore[override]
        self._board = [[0] * 4 for _ in range(4)]
        self._state = State(episode_id=str(uuid4()))
        return Grid(grid=self._board, reward=0.0)

    def step(self, action: Turn) -> Grid:  # type: ignore[override]
        self._state.step_count += 1
        self._board[0][action.action % 4] += 1  # type: ignore[index]
        return Grid(grid=self._board or [], reward=0.001)

    @property
    def state(self) -> State:
        return self._state


class Move(Action):
    move: str


class Board(Observation):
    legal_moves: list[str] = Field(default_factory=list)


class ChessState(State):
    history: list[str] = Field(default_factory=list)


class Chess(Environment[Move, Board, ChessState]):
    """Like `chess`: the constructor may play a move, and the count is that of both sides' moves."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self, fen: str | None = None) -> Board:  # type: ignore[override]
        self._state = ChessState(episode_id=str(uuid4()))
        if random.random() < 0.5:
            self._play("e7e5")
        return Board(legal_moves=["e2e4", "d2d4"])

    def step(self, action: Move) -> Board:  # type: ignore[override]
        if action.move not in {"e2e4", "d2d4"}:
            return Board(legal_moves=["e2e4", "d2d4"], reward=-0.1)
        self._play(action.move)
        self._play("e7e5")
        return Board(legal_moves=["e2e4", "d2d4"], reward=0.0)

    def _play(self, move: str) -> None:
        self._state.step_count += 1
        self._state.history.append(move)

    @property
    def state(self) -> ChessState:
        return self._state


class ClockState(State):
    uptime_s: float = 0.0
    second: int = 0
    asked: int = 0


class Clock(Environment[Turn, Printed, ClockState]):
    """Its state has clocks and a counter that change by themselves, its observations a time."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._steps, self._asked, self._id = 0, 0, "clock"

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Printed:
        self._steps, self._id = 0, episode_id or str(uuid4())
        return Printed(stdout=str(time.time_ns()))

    def step(self, action: Turn, timeout_s: float | None = None, **_: Any) -> Printed:
        self._steps += 1
        return Printed(stdout=str(time.time_ns()))

    @property
    def state(self) -> ClockState:
        self._asked += 1
        return ClockState(
            episode_id=self._id,
            step_count=self._steps,
            uptime_s=time.monotonic(),
            second=int(time.time()),
            asked=self._asked,
        )


class Where(BaseModel):
    square: str = Field(pattern="^[a-h][1-8]$")
    kind: Literal["square"]


class Place(Action):
    at: Where | None
    stone: Literal["black", "white"]
    size: int = Field(gt=2, lt=20, multiple_of=5)
    path: list[int] = Field(min_length=2, max_length=2)
    pair: tuple[int, str]
    scores: dict[str, float]


class Bandit(Environment[Place, Printed, State]):
    """An action of many kinds of fields; an episode has one step, and no id."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self, seed: int | None = None, **_: Any) -> Printed:  # type: ignore[override]
        self._state = State()
        return Printed()

    def step(self, action: Place, **_: Any) -> Printed:  # type: ignore[override]
        if self._state.step_count:
            raise RuntimeError("The episode is over")
        self._state.step_count += 1
        return Printed(done=True, reward=1.0)

    @property
    def state(self) -> State:
        return self._state


class Ready(Observation):
    """What a step returns; a reset returns the framework's own `Observation`."""

    answer: str


class Tools(Environment[Code, Ready, State]):
    """Like environments of tools: the first observation is a bare one."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(episode_id=str(uuid4()))

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Any:
        self._state = State(episode_id=episode_id or str(uuid4()))
        return Observation(metadata={"status": "ready"})

    def step(self, action: Code, **_: Any) -> Ready:  # type: ignore[override]
        self._state.step_count += 1
        return Ready(answer=action.code)

    @property
    def state(self) -> State:
        return self._state


class Picky(Repl):
    """Takes only the two words of its author."""

    def step(self, action: Code, timeout_s: float | None = None, **_: Any) -> Printed:
        if action.code not in {"open", "close"}:
            raise ValueError(f"There is no command {action.code!r}")
        return super().step(action)


class Told(Action):
    code: str = Field(examples=["open", "close"])


class Obliging(Environment[Told, Printed, State]):
    """Takes only two words, which its schema has as examples."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._inner = Picky()

    def reset(self, **arguments: Any) -> Printed:  # type: ignore[override]
        return self._inner.reset(**arguments)

    def step(self, action: Told, **_: Any) -> Printed:  # type: ignore[override]
        return self._inner.step(Code(code=action.code))

    @property
    def state(self) -> State:
        return self._inner.state


# Broken twins


class SharedRepl(Repl):
    """All sessions and requests use one episode."""

    shared: ClassVar[State | None] = None

    def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Printed:
        SharedRepl.shared = State(episode_id=episode_id or str(uuid4()))
        return Printed()

    def step(self, action: Code, timeout_s: float | None = None, **_: Any) -> Printed:
        self._state = SharedRepl.shared
        return super().step(action)

    @property
    def state(self) -> State:
        if SharedRepl.shared is None:
            raise RuntimeError("Environment not initialized. Call reset() first.")
        return SharedRepl.shared


class SharedChess(Chess):
    """All sessions and requests use one episode, and the constructor may play a move."""

    shared: ClassVar[ChessState] = ChessState(episode_id="first")

    def reset(self, fen: str | None = None) -> Board:
        self._state = SharedChess.shared
        return Board()

    def step(self, action: Move) -> Board:
        self._state.step_count += 1
        return Board()


class DoubleSnake(Snake):
    """Counts each step twice."""

    def step(self, action: Turn) -> Grid:
        self._state.step_count += 1
        return super().step(action)


class UntypedWalker(Walker):
    """Its observations do not match their schema."""

    def step(self, action: Torques, **_: Any) -> Joints:  # type: ignore[override]
        observation = super().step(action)
        return Joints.model_construct(**observation.model_dump() | {"joints": [1, 2]})


class StuckCarla(Carla):
    """Every step raises."""

    def step(self, action: Drive, **_: Any) -> Scene:  # type: ignore[override]
        raise KeyError("/secret/path")


class UncountedFire(Wildfire):
    """Does not count its steps."""

    def step(self, action: Fight, **_: Any) -> Forest:  # type: ignore[override]
        super().step(action)
        self._state.step_count = 0
        return Forest()


class LeakyClock(Clock):
    """A step of one session changes the count of all."""

    steps: ClassVar[int] = 0

    def step(self, action: Turn, timeout_s: float | None = None, **_: Any) -> Printed:
        LeakyClock.steps += 1
        return super().step(action)

    @property
    def state(self) -> ClockState:
        return super().state.model_copy(update={"step_count": LeakyClock.steps})


SHAPES: dict[str, tuple[type[Any], type[Action], type[Observation]]] = {
    "repl": (Repl, Code, Printed),
    "walker": (Walker, Torques, Joints),
    "carla": (Carla, Drive, Scene),
    "wildfire": (Wildfire, Fight, Forest),
    "snake": (Snake, Turn, Grid),
    "chess": (Chess, Move, Board),
    "clock": (Clock, Turn, Printed),
    "bandit": (Bandit, Place, Printed),
    "tools": (Tools, Code, Ready),
    "picky": (Picky, Code, Printed),
    "obliging": (Obliging, Told, Printed),
    "shared-repl": (SharedRepl, Code, Printed),
    "shared-chess": (SharedChess, Move, Board),
    "double-snake": (DoubleSnake, Turn, Grid),
    "untyped-walker": (UntypedWalker, Torques, Joints),
    "stuck-carla": (StuckCarla, Drive, Scene),
    "uncounted-fire": (UncountedFire, Fight, Forest),
    "leaky-clock": (LeakyClock, Turn, Printed),
}


def _health(_: Any) -> PlainTextResponse:
    return PlainTextResponse("healthy")


app = Starlette(
    routes=[
        Route("/health", _health),
        Mount("/alone", create_app(*SHAPES["repl"], max_concurrent_envs=1)),
        *(
            Mount(f"/{name}", create_app(*classes, max_concurrent_envs=4))
            for name, classes in SHAPES.items()
        ),
    ]
)
