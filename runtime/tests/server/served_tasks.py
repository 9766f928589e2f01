# SPDX-License-Identifier: BSD-3-Clause
"""Environments with tasks, each served by ours and, where that has a Task API, the stock server."""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from stepwire.server import create_app

SIZES = {"train": 3, "test": 2, "held out": 1}


class Split(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="Name")
    type: str
    size: int


@dataclass
class Task:
    id: str
    answer: Split


class Bare:
    """Neither a model nor a dataclass."""

    def __init__(self, identifier: str) -> None:
        self.id = identifier


class Untasked(Environment[Action, Observation, State]):
    """Has no tasks. Counts what is made and what is closed."""

    made = 0
    closed = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.episode: dict[str, Any] = {}

    def reset(self, split: str = "train", index: int | None = None, **_: Any) -> Observation:  # type: ignore[override]
        self.episode = {"split": split, "index": index}
        return Observation(metadata=self.episode)

    def step(self, action: Action, **_: Any) -> Observation:  # type: ignore[override]
        return Observation(metadata=self.episode)

    @property
    def state(self) -> State:
        return State(**self.episode)

    def close(self) -> None:
        type(self).closed += 1


class Tasked(Untasked):
    """Each method in turn answers with other kinds of values."""

    def list_splits(self) -> list[Any]:
        return ["train", {"name": "test", "type": "test", "size": 2}, "held out"]

    def list_tasks(self, split: str) -> list[Any]:
        return [
            {"id": f"{split}-{index}", "tags": ("a", 1.5, None)} for index in range(SIZES[split])
        ]

    def num_tasks(self, split: str) -> int:
        return SIZES[split]

    def get_task(self, split: str, index: int) -> Any:
        if not 0 <= index < SIZES[split]:
            raise IndexError(f"/secret/path has no {index}")
        if split == "held out":
            return {"day": date(2026, 11, 27), "parts": {"one"}, "folder": Path("a/b")}
        kinds: list[Any] = [
            Task(f"{split}-0", Split(name="nested", type="test", size=1)),
            Bare(f"{split}-1"),
            Split(name=f"{split}-2", type="model", size=1),
        ]
        return kinds[index]

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> Any:
        return self.list_tasks(split)[start:stop]


class AsyncTasked(Untasked):
    """`async` methods, and only some of them."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    async def reset_async(self, **arguments: Any) -> Observation:
        return self.reset(**arguments)

    async def step_async(self, action: Action, **arguments: Any) -> Observation:  # type: ignore[override]
        return self.step(action, **arguments)

    async def list_splits(self) -> list[Any]:
        return [Split(name="train", type="train", size=3), 7]

    async def num_tasks(self, split: str) -> int:
        return SIZES[split]

    async def get_task(self, split: str, index: int) -> Any:
        raise IndexError(split, index)

    async def get_task_range(self, split: str, start: Any, stop: Any) -> Any:
        raise NotImplementedError


ENVIRONMENTS: dict[str, tuple[Any, str | None]] = {
    "tasked": (Tasked, "Tasked_Env"),
    "async": (AsyncTasked, None),
    "untasked": (Untasked, None),
    "partial": (partial(Tasked), None),
}


_DATASETS = TemporaryDirectory()


def _count(request: Request) -> JSONResponse:
    made = [Untasked, Tasked, AsyncTasked]
    counts = {cls.__name__: [cls.made, cls.closed] for cls in made}
    for cls in made:
        cls.made = cls.closed = 0
    return JSONResponse(counts)


def _with_a_route(app: Any) -> Any:
    app.post("/own/tasks")(lambda: "the author's")
    return app


def _mounts() -> list[Mount]:
    servers: dict[str, Any] = {"ours": create_app}
    try:
        version("openenv")
    except PackageNotFoundError:
        pass
    else:
        from openenv.core.env_server.http_server import create_app as stock
        from openenv.harbor.environment import HarborEnvironment

        servers["stock"] = stock
        for name in ("alpha", "beta"):
            (Path(_DATASETS.name, "set", name)).mkdir(parents=True)
            (Path(_DATASETS.name, "set", name, "task.toml")).touch()
        HarborEnvironment.configure(datasets=[f"{_DATASETS.name}/set"])
        ENVIRONMENTS["harbor"] = (HarborEnvironment, "harbor")
    return [
        Mount(
            f"/{server}/{name}", _with_a_route(create(env, Action, Observation, env_name=env_name))
        )
        for server, create in servers.items()
        for name, (env, env_name) in ENVIRONMENTS.items()
    ]


app = Starlette(
    routes=[
        Route("/health", lambda _: JSONResponse({"status": "healthy"})),
        Route("/counts", _count),
        *_mounts(),
    ]
)
