# SPDX-License-Identifier: BSD-3-Clause
"""Environments for the page's form, each served below a path of its own.

`/kinds` has a field of each kind, `/orders` actions of two classes, `/tools` tools only, and
`/hostile` answers and describes itself with what a careless page would run.
"""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import asyncio
import base64
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from stepwire.server import create_app


class Colour(str, Enum):
    RED = "red"
    GREEN = "green"


class Press(BaseModel):
    kind: Literal["press"]
    key: Literal["a", "b"]


class Move(BaseModel):
    kind: Literal["move"]
    distance: Annotated[int, Field(ge=1, le=9)] = 1


class Tree(BaseModel):
    label: str
    children: list["Tree"] = []


class Kinds(Action):
    """A field of each kind."""

    text: str = Field(description="Any text", examples=["Hello"])
    code: str = Field("AB-12", pattern="^[A-Z]{2}-[0-9]{2}$", description="A short code")
    count: int = Field(ge=1)
    share: float = Field(0.5, gt=0, lt=1)
    flag: bool
    colour: Colour
    mode: Literal["slow", "fast"] = "slow"
    only: Literal["this"] = "this"
    names: list[str] = Field(min_length=1)
    pair: tuple[int, str]
    scores: dict[str, float]
    command: Annotated[Press | Move, Field(discriminator="kind")]
    either: int | str
    note: str | None = None
    day: date | None = None
    tree: Tree
    anything: Any = None
    free: dict[str, Any] = {}


class Seen(Observation):
    """What was done, as JSON, and a picture of it."""

    did: dict[str, Any] = {}
    picture: str = ""
    board: list[list[int]] = []
    position: list[float] = []


def _picture() -> str:
    """A PNG of 16 × 16 pixels, as base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    rows = (bytes([0, *(c for x in range(16) for c in (x * 16, y * 16, 128))]) for y in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"".join(rows)))]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


class Counted(Environment[Any, Any, State]):
    """Counts its steps."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = State(episode_id="one", step_count=0)

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Observation:
        self._state.step_count = 0
        return Seen()

    @property
    def state(self) -> State:
        return self._state


class KindsEnvironment(Counted):
    """Takes an action with a field of each kind, and shows what it has seen.

    Only the first paragraph of this is its description.
    """

    def step(self, action: Kinds, timeout_s: float | None = None, **kwargs: Any) -> Seen:
        self._state.step_count += 1
        return Seen(
            did=action.model_dump(mode="json", exclude={"metadata"}),
            picture=_picture(),
            board=[[1, 2, 3], [4, 5, 6]],
            position=[0.1 + 0.2, 1.0],
            reward=0.1 + 0.2,
            done=self._state.step_count >= 5,
        )


class Buy(Action):
    """Something to buy."""

    item: str = Field(examples=["milk"])
    from_: str = Field("shop", alias="from")
    model_config = ConfigDict(populate_by_name=True)


class Sum(BaseModel):
    left: "Sum | int"
    right: "Sum | int"


class Reckon(Action):
    """A sum to work out."""

    terms: Sum


class OrdersEnvironment(Counted):
    """Buys things and works out sums."""

    async def step_async(
        self, action: Buy | Reckon, timeout_s: float | None = None, **kwargs: Any
    ) -> Seen:
        if isinstance(action, Buy) and action.item == "slow":
            await asyncio.sleep(2)
        return Seen(did=action.model_dump(by_alias=True, exclude={"metadata"}), reward=True)

    def step(self, action: Buy | Reckon, timeout_s: float | None = None, **kwargs: Any) -> Seen:
        raise NotImplementedError


def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


def find(words: list[str], place: Literal["title", "text"], limit: int | None = None) -> str:
    """Finds a page."""
    return f"{words} in {place}, {limit}"


class ToolsEnvironment(Counted):
    """Offers tools, and nothing else."""

    TOOLS: ClassVar[Any] = (add, find)

    def step(self, action: Any, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        raise NotImplementedError


HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


class Hostile(Action):
    """An action whose names and texts are markup."""

    text: str = Field(HOSTILE, description=HOSTILE, title=HOSTILE, examples=[HOSTILE])
    constructor: dict[str, str] = {}
    odd: Literal["</script><script>document.title='broken'</script>"] | None = Field(
        None, alias="__proto__"
    )


class Anything(Observation):
    model_config = ConfigDict(extra="allow")


class HostileEnvironment(Counted):
    def step(self, action: Hostile, timeout_s: float | None = None, **kwargs: Any) -> Observation:
        members = {"__proto__": {"polluted": HOSTILE}, "constructor": HOSTILE, HOSTILE: [HOSTILE]}
        return Anything(
            **members,
            long="x" * 100_000,
            picture="data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+",
            deep=[[[[[[[[HOSTILE]]]]]]]],
            large=2**70,
            metadata={"toString": HOSTILE},
        )

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(
            name=HOSTILE,
            description=HOSTILE,
            author=HOSTILE,
            documentation_url="javascript:document.title='broken'",
            readme_content=(
                f"---\ntitle: {HOSTILE}\n---\n# Title {HOSTILE}\n\n{HOSTILE}\n\n- {HOSTILE}\n"
                "- [a link](javascript:document.title='broken') `code` **bold**\n\n"
                "[a site](https://example.org/page) ![a picture](https://example.org/a.png)\n\n"
                f"| a | b |\n|---|---|\n| {HOSTILE} | c |\n\n```html\n{HOSTILE}\n```\n"
            ),
        )


_APPS = {
    "kinds": create_app(KindsEnvironment, Kinds, Seen, env_name="kinds", max_concurrent_envs=8),
    "orders": create_app(
        OrdersEnvironment,
        Buy | Reckon,  # type: ignore[arg-type]
        Seen,
        env_name="orders",
        max_concurrent_envs=8,
    ),
    "tools": create_app(
        ToolsEnvironment,
        CallToolAction,
        CallToolObservation,
        env_name="tools",
        max_concurrent_envs=8,
    ),
    "hostile": create_app(
        HostileEnvironment, Hostile, Anything, env_name=HOSTILE, max_concurrent_envs=8
    ),
}


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    """Starts the applications: a mounted one is not started by the one around it."""
    async with AsyncExitStack() as started:
        for app in _APPS.values():
            await started.enter_async_context(app.router.lifespan_context(app))
        yield


async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("")  # for the one who starts this server


app = Starlette(
    routes=[Route("/health", _health), *(Mount(f"/{name}", app) for name, app in _APPS.items())],
    lifespan=_lifespan,
)
