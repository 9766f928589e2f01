# SPDX-License-Identifier: BSD-3-Clause
"""The events that vectors are made of, and `Case`: a vector without the server's answers.

`record_vectors.py` fills in what is `None` here: the server's turn. A text in its place is a
pattern with `${name}` placeholders, for an answer that is too long to be recorded exactly or
differs too much from one recording to the next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


def frame(kind: str, data: Any = None, **more: Any) -> str:
    """A message as text, without spaces."""
    message = {"type": kind, **({} if data is None else {"data": data}), **more}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def ask(sent: Any, like: str | None = None, on: str | None = None) -> list[Event]:
    """Send text, a list of its parts, or bytes, and expect one frame."""
    connection = {"on": on} if on else {}
    key, value = ("send_hex", sent.hex()) if isinstance(sent, bytes) else ("send", sent)
    return [{key: value, **connection}, {"expect": like, **connection}]


def step(text: str, on: str | None = None, **more: Any) -> list[Event]:
    """Take a step with the notes environment's action."""
    return ask(frame("step", {"text": text, "weight": 0.5, **more}), on=on)


def call(tool: str, **arguments: Any) -> list[Event]:
    """Call a tool by an action."""
    action = {"type": "call_tool", "tool_name": tool, "arguments": arguments}
    return ask(frame("step", action))


def closed(on: str | None = None) -> list[Event]:
    return [{"closed": None, **({"on": on} if on else {})}]


def close(on: str | None = None) -> list[Event]:
    """End the session."""
    return [{"send": frame("close"), **({"on": on} if on else {})}, *closed(on)]


def request(
    method: str,
    path: str,
    body: Any = None,
    like: str | None = None,
    headers: Mapping[str, str] | None = None,
    recorded_headers: tuple[str, ...] = (),
) -> list[Event]:
    """Send an HTTP request and expect its response."""
    sent: Event = {"method": method, "path": path}
    if headers:
        sent["headers"] = dict(headers)
    if body is not None:
        sent["body"] = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    response = {"status": None, "headers": dict.fromkeys(recorded_headers), "body": like}
    return [{"request": sent}, {"response": response}]


def rpc(method: str, **params: Any) -> list[Event]:
    return request("POST", "/mcp", rpc_body(method, **params))


def rpc_body(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}


@dataclass
class Case:
    """A vector without the server's answers."""

    id: str
    rows: str
    events: list[list[Event]]
    server: str = "default"
    path: str = "/ws"
    headers: dict[str, str] = field(default_factory=dict)
