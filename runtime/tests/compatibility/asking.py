# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of a server, and its answers in a form that can be compared."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stepwire.conformance.conversation import Conversation

Answers = list[tuple[str, Any]]
"""Each question with its answer, as in `("reset", {"type": "observation", …})`."""


@dataclass(frozen=True)
class Session:
    """Frames over one WebSocket, each answered by one frame; `None` waits without sending."""

    frames: Sequence[Any]
    path: str = "/ws"

    def ask(self, url: str) -> Answers:
        with ExitStack() as stack:
            try:
                opened = Conversation.open(f"ws{url.removeprefix('http')}{self.path}")
                conversation = stack.enter_context(opened)
            except InvalidStatus as refused:
                return [(f"{self.path} opens", {"refused": refused.response.status_code})]
            return [
                (f"{self.path} {_short(frame)}", _exchange(conversation, frame))
                for frame in self.frames
            ]


def _exchange(conversation: Conversation, frame: Any) -> Any:
    try:
        if frame is not None:
            conversation.send(frame)
        return conversation.receive()
    except ConnectionClosed as closed:
        return {"closed": closed.rcvd.code if closed.rcvd else None}


@dataclass(frozen=True)
class Request:
    """One HTTP request without cookies; a body that is text is sent as it is."""

    method: str
    path: str
    body: Any = None
    headers: Sequence[str] = ()
    """The names of the response's headers that belong to the answer."""
    only_status: bool = False

    def ask(self, url: str) -> Answers:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        response = requests.request(
            self.method,
            f"{url}{self.path}",
            data=None if self.body is None else text.encode(),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        try:
            content = response.json()
        except ValueError:
            content = response.text
        answer = {"status": response.status_code}
        if not self.only_status:
            answer["content"] = content
        answer |= {name: response.headers.get(name) for name in self.headers}
        return [(f"{self.method} {self.path} {_short(self.body)}", answer)]


@dataclass(frozen=True)
class OneTooMany:
    """A connection, and a session over MCP, while all allowed sessions are open."""

    allowed: int

    def ask(self, url: str) -> Answers:
        with ExitStack() as stack:
            for _ in range(self.allowed):
                opened = Conversation.open(f"ws{url.removeprefix('http')}/ws")
                stack.enter_context(opened).ask(reset())
            answers = Session([None, None]).ask(url)
            answers += post("/mcp", rpc("openenv/session/create")).ask(url)
        return answers


@dataclass(frozen=True)
class McpSession:
    """A session of `POST /mcp`: it is created, called, closed, closed again and called again."""

    calls: Sequence[dict[str, Any]]
    """JSON-RPC requests without the session's id."""

    def ask(self, url: str) -> Answers:
        def send(body: dict[str, Any]) -> Any:
            return requests.post(f"{url}/mcp", json=body, timeout=60).json()

        session_id = send(rpc("openenv/session/create"))["result"]["session_id"]
        close = rpc("openenv/session/close")
        answers: Answers = []
        for call in (*self.calls, close, close, self.calls[-1]):
            answer = send(call | {"params": call["params"] | {"session_id": session_id}})
            plain = json.loads(json.dumps(answer).replace(session_id, "the session"))
            answers.append((f"session {_short(call)}", plain))
        return answers


def get(path: str, *headers: str) -> Request:
    return Request("GET", path, headers=headers)


def post(path: str, body: Any = None) -> Request:
    return Request("POST", path, body)


def rpc(method: str, **params: Any) -> dict[str, Any]:
    """A JSON-RPC request, for `POST /mcp`, the WebSocket `/mcp` and the data of `mcp` frames."""
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def reset(**data: Any) -> dict[str, Any]:
    return {"type": "reset", "data": data}


def step(**action: Any) -> dict[str, Any]:
    return {"type": "step", "data": action}


STATE = {"type": "state"}
LIST = step(type="list_tools")


def mcp(method: str, **params: Any) -> dict[str, Any]:
    return {"type": "mcp", "data": rpc(method, **params)}


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """A step that calls a tool."""
    return step(type="call_tool", tool_name=tool, arguments=arguments)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
