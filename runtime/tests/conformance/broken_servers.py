# SPDX-License-Identifier: BSD-3-Clause
"""Our server with one defect for each check, each below a path named after the check.

`/sound` has no defect; `/guarded` has none and asks for a token. A defect sits between uvicorn and
the application, so each of these is a real server on a socket.
"""

import stepwire  # noqa: F401 - first: it decides how the framework is imported

# isort: split
import json
import os
from typing import Any
from unittest.mock import patch

from defects import CAPACITY, DEFECTS, FAILING_ACTION, TOKEN, Defect
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app


class Failing(NotesEnvironment):
    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        if action.text == FAILING_ACTION["text"]:
            raise KeyError("/secret/path")
        return super().step(action, *arguments, **options)


class Unbuildable(NotesEnvironment):
    def __init__(self) -> None:
        raise RuntimeError("/secret/path")


class Broken:
    """An application with a defect."""

    def __init__(self, application: ASGIApp, defect: type[Defect]) -> None:
        self._application = application
        self._defect = defect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        defect = self._defect()
        headers = [(name, value) for name, value in scope["headers"] if defect.header(name)]
        scope = {**scope, "headers": headers}
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if scope["type"] == "websocket":
            path = defect.path(path) if not path.startswith("/unbuildable") else path
            scope = {
                **scope,
                "path": root + path,
                "query_string": defect.query(scope["query_string"]),
            }
            await self._converse(defect, scope, receive, send)
        else:
            await self._answer(defect, path, scope, receive, send)

    async def _converse(self, defect: Defect, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            event = await receive() if defect.hang_up_with is None else {}
            if event.get("type") == "websocket.receive":
                text = event.get("text")
                defect.text = event["bytes"] if text is None else text
                defect.request = before = _parsed(defect.text)
                defect.received()
                if text is not None and defect.request != _parsed(text):
                    event = {"type": "websocket.receive", "text": json.dumps(defect.request)}
                defect.request = before
            if defect.hang_up_with is not None:
                await hang_up()
                return {"type": "websocket.disconnect", "code": 1006}
            return event

        async def sent(event: Message) -> None:
            if defect.hang_up_with is not None:
                return
            if event["type"] == "websocket.close":
                event = {**event, "code": defect.closed(event.get("code", 1000))}
            if event["type"] != "websocket.send":
                await send(event)
                return
            frame = json.loads(event["text"])
            if "type" not in frame:  # a response of `/mcp`
                defect.answered("/mcp-websocket", frame)
                await send({"type": "websocket.send", "text": json.dumps(frame)})
                return
            for kind, data in defect.sent(frame["type"], frame["data"]):
                text = json.dumps({"type": kind, "data": data})
                await send({"type": "websocket.send", "text": text})

        async def hang_up() -> None:
            await send({"type": "websocket.close", "code": defect.hang_up_with})

        await self._application(scope, received, sent)

    async def _answer(
        self, defect: Defect, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        defect.has_cookies = any(name == b"cookie" for name, _ in scope["headers"])
        start: Message = {}
        parts: list[bytes] = []

        async def received() -> Message:
            event = await receive()
            defect.text = event.get("body", b"")
            defect.request = _parsed(defect.text)
            return event

        async def sent(event: Message) -> None:
            if event["type"] == "http.response.start":
                start.update(event)
            else:
                parts.append(event.get("body", b""))

        await self._application(scope, received, sent)
        body = b"".join(parts)
        answer = _parsed(body)
        if isinstance(answer, dict):
            defect.answered(path, answer)
            body = json.dumps(answer).encode()
        left_out = {b"content-length", *defect.headers_left_out}
        headers = [(name, value) for name, value in start["headers"] if name not in left_out]
        headers.append((b"content-length", str(len(body)).encode()))
        status = defect.status(path, start["status"])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _health(_: Any) -> PlainTextResponse:
    return PlainTextResponse("healthy")


_sound = create_app(Failing, NoteAction, NoteObservation, max_concurrent_envs=CAPACITY)
_sound.mount("/unbuildable", create_app(Unbuildable, NoteAction, NoteObservation))
with patch.dict(os.environ, API_TOKEN=TOKEN):
    _guarded = create_app(Failing, NoteAction, NoteObservation, max_concurrent_envs=CAPACITY)
_guarded.mount("/unbuildable", create_app(Unbuildable, NoteAction, NoteObservation))
app = Starlette(
    routes=[
        Route("/health", _health),
        Mount("/sound", _sound),
        Mount("/guarded", _guarded),
        *(Mount(f"/{check_id}", Broken(_sound, defect)) for check_id, defect in DEFECTS.items()),
    ]
)
