# SPDX-License-Identifier: BSD-3-Clause
"""The Task API: which tasks an environment offers. `reset(split=…, index=…)` starts one of them.

An environment takes part by having methods of these names, `async` or not. No base class declares
them, and `openenv-core` 0.3.0 knows none. Each request calls one method of a fresh environment.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from openenv.core.env_server import types
from openenv.core.env_server.types import BaseMessage
from pydantic import BaseModel, Field

from stepwire.server.json_values import encode
from stepwire.server.sessions import Sessions
from stepwire.server.wire import MessageDecoder

_TAGS: list[str | Enum] = ["Task API"]
IS_IN_FRAMEWORK = hasattr(types, "ListTasksRequest")
"""Whether the framework's own servers have these routes."""

_STANDARD_SPLITS = ("train", "validation", "test")


class SplitRequest(BaseMessage):
    """Names a split."""

    split: str = Field(description="Name of the split", examples=["train"])


class TaskRequest(SplitRequest):
    """Names a task."""

    index: int = Field(description="Position of the task in its split", examples=[0])


class TaskRangeRequest(SplitRequest):
    """Names some tasks of a split, by bounds like those of a Python slice."""

    start: int | None = Field(default=None, description="Position of the first task")
    stop: int | None = Field(default=None, description="Position after the last task")


def _answers(description: str, **schema: Any) -> dict[str, Any]:
    # Not as models: FastAPI would make validators of them for each route.
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_DETAIL = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
_FAILURES: dict[int | str, dict[str, Any]] = {
    400: _answers("The split has no task of this index", **_DETAIL),
    404: _answers("The server has no environment of this name", **_DETAIL),
    500: _answers("The environment failed", **_DETAIL),
    501: _answers("The environment does not offer its tasks in this way", **_DETAIL),
}


class TaskRoutes:
    """`/list_environments` and, below the environment's name, the routes of its tasks."""

    def __init__(self, sessions: Sessions, decoder: MessageDecoder, name: str) -> None:
        self._sessions = sessions
        self._decoder = decoder
        self._name = name
        # In `/docs`, the only value to choose.
        known = Path(description="Name of the environment", json_schema_extra={"enum": [name]})
        self._known_name = Annotated[str, known]

    def add_to(self, router: APIRouter) -> None:
        router.get("/list_environments", tags=_TAGS, summary="Name the environment")(
            self.list_environments
        )
        splits = _answers("The splits", type="array", items={"type": "object"})
        answers: dict[int | str, dict[str, Any]] = {200: splits, **_FAILURES}
        router.get("/{env_name}/splits", tags=_TAGS, summary="List the splits", responses=answers)(
            self._listing_splits()
        )
        for path, summary, body, method, key in (
            ("tasks", "List the tasks of a split", SplitRequest, "list_tasks", "tasks"),
            ("num_tasks", "Count the tasks of a split", SplitRequest, "num_tasks", "num_tasks"),
            ("task", "Get one task", TaskRequest, "get_task", "task"),
            ("task_range", "Get some tasks", TaskRangeRequest, "get_task_range", "tasks"),
        ):
            content = {"application/json": {"schema": body.model_json_schema()}}
            router.post(
                f"/{{env_name}}/{path}",
                tags=_TAGS,
                summary=summary,
                responses={200: _answers("The answer", type="object"), **_FAILURES},
                openapi_extra={"requestBody": {"required": True, "content": content}},
            )(self._asking(method, body, key))

    async def list_environments(self) -> list[str]:
        """Return the name by which the other routes know the environment, in a list."""
        return [self._name]

    def _listing_splits(self) -> Callable[[str], Awaitable[Response]]:
        async def splits(env_name: str) -> Response:
            """Return `name` and `type` of each split."""
            self._check(env_name)
            return await self._answer("list_splits", (), lambda splits: [*map(_split, splits)])

        splits.__annotations__["env_name"] = self._known_name
        return splits

    def _asking(
        self, method: str, model: type[SplitRequest], key: str
    ) -> Callable[[str, Request], Awaitable[Response]]:
        """A route that calls the environment's `method` with the fields of the body."""
        more = {"env_name": self._name} if method == "list_tasks" else {}

        async def answer(env_name: str, request: Request) -> Response:
            body = self._decoder.decode_body(await request.body(), model)
            self._check(env_name)
            arguments = [getattr(body, name) for name in model.model_fields]
            return await self._answer(
                method, arguments, lambda result: {key: _plain(result), **more}
            )

        answer.__annotations__["env_name"] = self._known_name
        return answer

    def _check(self, env_name: str) -> None:
        if env_name.lower() != self._name.lower():
            raise HTTPException(404, f"unknown environment {env_name!r}")

    async def _answer(
        self, method: str, arguments: Iterable[Any], shape: Callable[[Any], Any]
    ) -> Response:
        unsupported = HTTPException(501, f"{method} is not supported for this environment")
        async with self._sessions.temporary() as session:
            function = getattr(session.environment, method, None)
            if not callable(function):
                raise unsupported
            try:
                result = await session.call(function, *arguments)
                if inspect.isawaitable(result):
                    result = await result
            except NotImplementedError:
                raise unsupported from None
            except IndexError:
                raise HTTPException(400, "Invalid task index") from None
            text = encode(shape(result))
        return Response(text, media_type="application/json")


def _split(split: Any) -> Any:
    """The split as it is sent; a name alone gets a type, as on the stock servers."""
    if isinstance(split, dict) or hasattr(split, "model_dump"):
        return _plain(split)
    name = str(split)
    return {"name": name, "type": name if name in _STANDARD_SPLITS else "validation"}


def _plain(value: Any) -> Any:
    """A task may be any object: its attributes are sent."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Enum) or hasattr(value, "tolist") or not hasattr(value, "__dict__"):
        return value  # JSON, or encoded as in observations
    return _plain(vars(value))
