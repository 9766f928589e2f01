# SPDX-License-Identifier: BSD-3-Clause
"""Our server broken in one way for each check: `DEFECTS`, each served below a path of its name.

`/sound` has no defect, `/guarded` asks for a token besides. A defect sits between uvicorn and the
application, so that what is broken is a real server on a socket.
"""

import json
import os
from collections.abc import Callable
from typing import Any, ClassVar
from unittest.mock import patch

import notes_env.environment  # noqa: F401 - first: how the framework is imported

# isort: split
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app

CAPACITY = 4
TOKEN = "a-token-of-the-tests"
FAILING_ACTION = {"message": "fail"}


class Failing(NotesEnvironment):
    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        if action.text == FAILING_ACTION["message"]:
            raise KeyError("/secret/path")
        return super().step(action, *arguments, **options)


class Unbuildable(NotesEnvironment):
    def __init__(self) -> None:
        raise RuntimeError("/secret/path")


class Defect:
    """One connection, or one request, of a server; hooks change what passes by."""

    headers_left_out: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        self.asked: Any = None  # the client's last frame or body, None when it is no JSON
        self.text: str | bytes = ""
        self.has_cookies = False
        self.hang_up_with: int | None = None

    @property
    def kind(self) -> Any:
        return self.asked.get("type") if isinstance(self.asked, dict) else None

    def path(self, path: str) -> str:
        return path

    def query(self, query: bytes) -> bytes:
        return query

    def header(self, name: bytes) -> bool:
        """Whether the application gets to see a header of the client's."""
        return True

    def received(self) -> None:
        """A frame came; `asked` may be changed."""

    def sent(self, kind: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The frames to send instead; `data` may be changed."""
        self.changed(kind, data)
        return [(kind, data)]

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        """As `sent`, for what is one frame all the same."""

    def closed(self, code: int) -> int:
        return code

    def status(self, path: str, status: int) -> int:
        return status

    def answered(self, path: str, body: dict[str, Any]) -> None:
        """A response with JSON; `body` may be changed."""


class SharedCount(Defect):
    taken: ClassVar[int] = 0

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "observation":
            SharedCount.taken = 0 if self.kind == "reset" else SharedCount.taken + 1
        elif kind == "state":
            data["step_count"] = SharedCount.taken


class ResetWithoutDone(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if self.kind == "reset":
            data.pop("done", None)


class StepWithoutDone(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if self.kind == "step":
            data.pop("done", None)


class CountIsNoInteger(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            data["step_count"] = float(data["step_count"])


class CloseCode(Defect):
    def closed(self, code: int) -> int:
        return 1001 if self.kind == "close" else code


class CountGoesOn(Defect):
    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        self.taken += kind == "observation" and self.kind == "step"
        if kind == "state":
            data["step_count"] = self.taken


class SameEpisode(Defect):
    first: Any = None

    def received(self) -> None:
        if self.kind == "reset" and isinstance(self.asked.get("data"), dict):
            self.first = self.asked["data"].setdefault("episode_id", self.first)


class OutOfOrder(Defect):
    """The twelfth reply waits for the next one and comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.replies = 0
        self.held: list[tuple[str, dict[str, Any]]] = []

    def sent(self, kind: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        self.replies += 1
        if self.replies == 12:
            self.held = [(kind, data)]
            return []
        held, self.held = self.held, []
        return [(kind, data), *held]


class AnyPath(Defect):
    def path(self, path: str) -> str:
        return "/ws"


class SeedIgnored(Defect):
    episodes: ClassVar[int] = 0
    seeded = False

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if self.kind == "reset":
            self.seeded = "seed" in (self.asked.get("data") or {})
            SeedIgnored.episodes += 1
        if kind == "observation" and self.seeded:
            data["observation"]["length"] += SeedIgnored.episodes


class StepNeedsReset(Defect):
    reset = False

    def received(self) -> None:
        self.reset = self.reset or self.kind == "reset"
        if self.kind == "step" and not self.reset:
            self.asked.pop("data")


class NoMetadata(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "observation":
            data.pop("metadata", None)
            data["observation"].pop("metadata", None)


class AnySeed(Defect):
    def received(self) -> None:
        if self.kind == "reset" and (self.asked.get("data") or {}).get("seed") == -1:
            del self.asked["data"]["seed"]


class NoSeedInState(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            data.pop("seed", None)


class NoToolActions(Defect):
    def received(self) -> None:
        data = self.asked.get("data") if self.kind == "step" else None
        if isinstance(data, dict) and "type" in data:
            self.asked["data"] = {}


class OwnCode(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "INVALID_JSON":
            data["code"] = "BAD_JSON"


class UnknownTypeEnds(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "UNKNOWN_TYPE":
            self.hang_up_with = 1000


class ErrorsWithoutPlace(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        for entry in data.get("errors", ()):
            entry.pop("loc", None)


class ExtraKeysIgnored(Defect):
    def received(self) -> None:
        if self.kind == "state":
            self.asked.pop("data", None)


class WrongCodeOfFailure(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "EXECUTION_ERROR":
            data["code"] = "SESSION_ERROR"


class ExceptionText(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "EXECUTION_ERROR":
            data["message"] = "KeyError: '/secret/path'"


class NoObjectEnds(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if self.text in ("[]", "5", "null"):
            self.hang_up_with = 1000


class BinaryEnds(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if isinstance(self.text, bytes):
            self.hang_up_with = 1000


class SurrogateTaken(Defect):
    def received(self) -> None:
        if "\\ud800" in str(self.text):
            self.asked["data"]["message"] = "?"


class DepthEnds(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if "[" * 1000 in str(self.text):
            self.hang_up_with = 1000


class DigitsEnd(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if "9" * 1000 in str(self.text):
            self.hang_up_with = 1000


class CapacityWithoutCounts(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        data.pop("active_sessions", None)


class FactoryWithoutName(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        data.pop("factory_name", None)


class UnknownSessionTaken(Defect):
    def query(self, query: bytes) -> bytes:
        return b"" if b"no-such-session" in query else query


class NoAttaching(Defect):
    def query(self, query: bytes) -> bytes:
        return query if b"no-such-session" in query else b""


class LargeFrameEnds(Defect):
    def received(self) -> None:
        if len(self.text) > 500_000:
            self.hang_up_with = 1009


def response(path: str, change: Callable[[dict[str, Any]], object]) -> type[Defect]:
    """A defect of one route's answers."""

    class ResponseDefect(Defect):
        def answered(self, answered_path: str, body: dict[str, Any]) -> None:
            if answered_path == path:
                change(body)

    return ResponseDefect


def wrong_status(path: str, received: int, sent: int) -> type[Defect]:
    class StatusDefect(Defect):
        def status(self, answered_path: str, status: int) -> int:
            return sent if (answered_path, status) == (path, received) else status

    return StatusDefect


class NoOrigin(Defect):
    def header(self, name: bytes) -> bool:
        return name != b"origin"


class NoCookies(Defect):
    headers_left_out = (b"set-cookie",)


class CountOfAllRequests(Defect):
    steps: ClassVar[int] = 0

    def answered(self, path: str, body: dict[str, Any]) -> None:
        CountOfAllRequests.steps += path == "/step"
        if path == "/state" and not self.has_cookies:
            body["step_count"] = CountOfAllRequests.steps


class FillsIn(Defect):
    def received(self) -> None:
        data = self.asked.get("data") if self.kind == "step" else None
        if isinstance(data, dict) and "type" not in data:
            data.setdefault("message", "")


class EmptyRequestRefused(Defect):
    def status(self, path: str, status: int) -> int:
        return 422 if path == "/mcp" and self.asked == {} else status


class OtherFrame(Defect):
    def sent(self, kind: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("observation" if kind == "mcp" else kind, data)]


def rpc(method: str, change: Callable[[dict[str, Any]], object]) -> type[Defect]:
    """A defect of the answers to one JSON-RPC method over HTTP."""

    class RpcDefect(Defect):
        def answered(self, path: str, body: dict[str, Any]) -> None:
            asked = self.asked.get("method") if isinstance(self.asked, dict) else None
            if path == "/mcp" and asked == method:
                change(body)

    return RpcDefect


def _succeed(body: dict[str, Any]) -> None:
    body.pop("error", None)
    body["result"] = body.get("result") or {"closed": True}


def _require_score(part: str) -> Callable[[dict[str, Any]], object]:
    return lambda schemas: schemas[part].setdefault("required", []).append("score")


DEFECTS: dict[str, type[Defect]] = {
    "ws-isolation": SharedCount,
    "ws-reset": ResetWithoutDone,
    "ws-step": StepWithoutDone,
    "ws-state": CountIsNoInteger,
    "ws-close": CloseCode,
    "ws-step-count": CountGoesOn,
    "ws-episode-id": SameEpisode,
    "ws-order": OutOfOrder,
    "ws-path": AnyPath,
    "ws-seed": SeedIgnored,
    "ws-step-first": StepNeedsReset,
    "ws-metadata": NoMetadata,
    "ws-reset-arguments": AnySeed,
    "ws-state-seed": NoSeedInState,
    "ws-tool-actions": NoToolActions,
    "err-invalid-json": OwnCode,
    "err-unknown-type": UnknownTypeEnds,
    "err-validation": ErrorsWithoutPlace,
    "err-unknown-key": ExtraKeysIgnored,
    "err-execution": WrongCodeOfFailure,
    "err-execution-text": ExceptionText,
    "err-no-object": NoObjectEnds,
    "err-binary": BinaryEnds,
    "err-surrogate": SurrogateTaken,
    "err-depth": DepthEnds,
    "err-digits": DigitsEnd,
    "err-capacity": CapacityWithoutCounts,
    "err-factory": FactoryWithoutName,
    "err-unknown-session": UnknownSessionTaken,
    "http-reset": response("/reset", lambda body: body.pop("done", None)),
    "http-reset-arguments": wrong_status("/reset", 422, 400),
    "http-step": response("/step", lambda body: body.pop("done", None)),
    "http-step-arguments": wrong_status("/step", 422, 400),
    "http-state": response(
        "/state", lambda body: body.update(step_count=float(body["step_count"]))
    ),
    "http-schema": response("/schema", lambda body: body.update(state={"title": "State"})),
    "http-metadata": response("/metadata", lambda body: body.pop("name")),
    "http-health": response("/health", lambda body: body.update(status="ok")),
    "http-openapi": response("/openapi.json", lambda body: body["info"].update(version="0.1.0")),
    "http-isolation": CountOfAllRequests,
    "http-observation-metadata": response("/reset", lambda body: body.pop("metadata", None)),
    "http-cookies": NoCookies,
    "schema-observation": response("/schema", _require_score("observation")),
    "schema-state": response("/schema", _require_score("state")),
    "schema-action": FillsIn,
    "mcp-empty": EmptyRequestRefused,
    "mcp-id": rpc("tools/list", lambda body: body.update(id=None)),
    "mcp-unknown-method": rpc(
        "conformance/unknown", lambda body: body["error"].update(code=-32603)
    ),
    "mcp-frame": OtherFrame,
    "mcp-session": rpc("openenv/session/close", _succeed),
    "mcp-capacity": rpc(
        "openenv/session/create", lambda body: (body.get("error") or {}).update(code=-32603)
    ),
    "mcp-tools": rpc(
        "tools/list", lambda body: [tool.pop("inputSchema") for tool in body["result"]["tools"]]
    ),
    "mcp-unknown-tool": rpc("tools/call", _succeed),
    "mcp-attach": NoAttaching,
    "mcp-handshake": rpc("initialize", lambda body: body["result"].pop("serverInfo")),
    "limit-large-frame": LargeFrameEnds,
    "ops-origin": NoOrigin,
    "ops-ready": response("/ready", lambda body: body.update(status="yes")),
    "ops-sessions": response("/sessions", lambda body: body.update(active_sessions=0)),
}


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
                defect.asked = before = _parsed(defect.text)
                defect.received()
                if text is not None and defect.asked != _parsed(text):
                    event = {"type": "websocket.receive", "text": json.dumps(defect.asked)}
                defect.asked = before
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
            defect.asked = _parsed(event.get("body", b""))
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
# Taken back: the tests import this module too, and servers they start inherit their variables.
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
