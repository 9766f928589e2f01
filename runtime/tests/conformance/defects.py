# SPDX-License-Identifier: BSD-3-Clause
"""`DEFECTS`: for each check, one way to break a server that only this check notices."""

from collections.abc import Callable
from typing import Any, ClassVar

CAPACITY = 4
TOKEN = "a-token-of-the-tests"
FAILING_ACTION = {"text": "fail"}


class Defect:
    """One WebSocket or one request to a server; its methods change what passes by."""

    headers_left_out: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        self.request: Any = None  # the client's last frame or body; None unless it is JSON
        self.text: str | bytes = ""
        self.has_cookies = False
        self.hang_up_with: int | None = None

    @property
    def kind(self) -> Any:
        return self.request.get("type") if isinstance(self.request, dict) else None

    def path(self, path: str) -> str:
        return path

    def query(self, query: bytes) -> bytes:
        return query

    def header(self, name: bytes) -> bool:
        """Whether a header of the client reaches the application."""
        return True

    def received(self) -> None:
        """Called for each frame of the client; may change `request`."""

    def sent(self, kind: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The frames to send in place of the server's; may change `data`."""
        self.changed(kind, data)
        return [(kind, data)]

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        """Like `sent`, for a defect that only changes the frame's `data`."""

    def closed(self, code: int) -> int:
        return code

    def status(self, path: str, status: int) -> int:
        return status

    def answered(self, path: str, body: dict[str, Any]) -> None:
        """Called for each JSON response; may change `body`."""


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


class FloatingCount(Defect):
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
        if self.kind == "reset" and isinstance(self.request.get("data"), dict):
            self.first = self.request["data"].setdefault("episode_id", self.first)


class OutOfOrder(Defect):
    """The twelfth reply is sent after the thirteenth."""

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
        return path if path == "/mcp" else "/ws"


class SeedIgnored(Defect):
    episodes: ClassVar[int] = 0
    seeded = False

    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if self.kind == "reset":
            self.seeded = "seed" in (self.request.get("data") or {})
            SeedIgnored.episodes += 1
        if kind == "observation" and self.seeded:
            data["observation"]["length"] += SeedIgnored.episodes


class StepNeedsReset(Defect):
    reset = False

    def received(self) -> None:
        self.reset = self.reset or self.kind == "reset"
        if self.kind == "step" and not self.reset:
            self.request.pop("data")


class NoMetadata(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "observation":
            data.pop("metadata", None)
            data["observation"].pop("metadata", None)


class AnySeed(Defect):
    def received(self) -> None:
        if self.kind == "reset" and (self.request.get("data") or {}).get("seed") == -1:
            del self.request["data"]["seed"]


class NoSeedInState(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            data.pop("seed", None)


class NoToolActions(Defect):
    def received(self) -> None:
        data = self.request.get("data") if self.kind == "step" else None
        if isinstance(data, dict) and "type" in data:
            self.request["data"] = {}


class OwnCode(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "INVALID_JSON":
            data["code"] = "BAD_JSON"


class ErrorsWithoutPlace(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        for entry in data.get("errors", ()):
            entry.pop("loc", None)


class ExtraKeysIgnored(Defect):
    def received(self) -> None:
        if self.kind == "state":
            self.request.pop("data", None)


class WrongCodeOfFailure(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "EXECUTION_ERROR":
            data["code"] = "SESSION_ERROR"


class ExceptionText(Defect):
    def changed(self, kind: str, data: dict[str, Any]) -> None:
        if data.get("code") == "EXECUTION_ERROR":
            data["message"] = "KeyError: '/secret/path'"


class SurrogateTaken(Defect):
    def received(self) -> None:
        if "\\ud800" in str(self.text):
            self.request["data"]["text"] = "?"


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


def ends_when(condition: Callable[[Defect, dict[str, Any]], bool]) -> type[Defect]:
    """A defect that closes the connection instead of sending some frames."""

    class EndDefect(Defect):
        def changed(self, kind: str, data: dict[str, Any]) -> None:
            if condition(self, data):
                self.hang_up_with = 1000

    return EndDefect


def response(path: str, change: Callable[[dict[str, Any]], object]) -> type[Defect]:
    """A defect in the responses of one route."""

    class ResponseDefect(Defect):
        def answered(self, answered_path: str, body: dict[str, Any]) -> None:
            if answered_path == path:
                change(body)

    return ResponseDefect


def refused_otherwise(body: Any) -> type[Defect]:
    """A defect in the refusal of one body."""

    class StatusDefect(Defect):
        def status(self, path: str, status: int) -> int:
            return 400 if status == 422 and self.request == body else status

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
        data = self.request.get("data") if self.kind == "step" else None
        if isinstance(data, dict) and "type" not in data:
            data.setdefault("text", "")


class EmptyRequestRefused(Defect):
    def status(self, path: str, status: int) -> int:
        return 422 if path == "/mcp" and self.request == {} else status


class OtherFrame(Defect):
    def sent(self, kind: str, data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [("observation" if kind == "mcp" else kind, data)]


def rpc(method: str, change: Callable[[dict[str, Any]], object]) -> type[Defect]:
    """A defect in the responses to one JSON-RPC method over HTTP."""

    class RpcDefect(Defect):
        def answered(self, path: str, body: dict[str, Any]) -> None:
            called = self.request.get("method") if isinstance(self.request, dict) else None
            if path == "/mcp" and called == method:
                change(body)

    return RpcDefect


class BrokenBodyRefused(Defect):
    def status(self, path: str, status: int) -> int:
        return 400 if self.text == b'{"action":' else status


class NotFiniteRefused(Defect):
    def status(self, path: str, status: int) -> int:
        return 500 if isinstance(self.text, bytes) and b"NaN" in self.text else status


def _succeed(body: dict[str, Any]) -> None:
    body.pop("error", None)
    body["result"] = body.get("result") or {"closed": True}


def _require_score(part: str) -> Callable[[dict[str, Any]], object]:
    return lambda schemas: schemas[part].setdefault("required", []).append("score")


DEFECTS: dict[str, type[Defect]] = {
    "ws-isolation": SharedCount,
    "ws-reset": ResetWithoutDone,
    "ws-step": StepWithoutDone,
    "ws-state": FloatingCount,
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
    "err-unknown-type": ends_when(lambda _, data: data.get("code") == "UNKNOWN_TYPE"),
    "err-validation": ErrorsWithoutPlace,
    "err-unknown-key": ExtraKeysIgnored,
    "err-execution": WrongCodeOfFailure,
    "err-execution-text": ExceptionText,
    "err-no-object": ends_when(lambda defect, _: defect.text in ("[]", "5", "null")),
    "err-binary": ends_when(lambda defect, _: isinstance(defect.text, bytes)),
    "err-surrogate": SurrogateTaken,
    "err-depth": ends_when(lambda defect, _: "[" * 1000 in str(defect.text)),
    "err-digits": ends_when(lambda defect, _: "9" * 1000 in str(defect.text)),
    "err-capacity": CapacityWithoutCounts,
    "err-factory": FactoryWithoutName,
    "err-unknown-session": UnknownSessionTaken,
    "http-reset": response("/reset", lambda body: body.pop("done", None)),
    "http-reset-arguments": refused_otherwise({"seed": -1}),
    "http-step": response("/step", lambda body: body.pop("done", None)),
    "http-step-arguments": refused_otherwise({}),
    "http-json": BrokenBodyRefused,
    "http-not-finite": NotFiniteRefused,
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
    "mcp-websocket": response("/mcp-websocket", lambda body: body.update(id=None)),
    "limit-large-frame": LargeFrameEnds,
    "ops-origin": NoOrigin,
    "ops-ready": response("/ready", lambda body: body.update(status="yes")),
    "ops-sessions": response("/sessions", lambda body: body.update(active_sessions=0)),
}
