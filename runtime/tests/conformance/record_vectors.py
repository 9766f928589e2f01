# SPDX-License-Identifier: BSD-3-Clause
"""Writes `conformance/vectors/`: says what is below to live servers, and notes what they answer.

uv run python tests/conformance/record_vectors.py

`test_vectors.py` fails when a server's answers are no longer those of the files.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stepwire.conformance.contract import VERSION
from stepwire.conformance.vectors import FOLDER, Vector, matches, text_to_send

_PATIENCE_S = 60.0
_HERE = Path(__file__).parent

Event = dict[str, Any]


def frame(kind: str, data: Any = None, **more: Any) -> str:
    """A message as text, without spaces."""
    message = {"type": kind, **({} if data is None else {"data": data}), **more}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def ask(sent: Any, like: str | None = None, on: str | None = None) -> list[Event]:
    """Send text, its parts, or bytes; a frame comes back, `like` where it is not to be exact."""
    connection = {"on": on} if on else {}
    key, value = ("send_hex", sent.hex()) if isinstance(sent, bytes) else ("send", sent)
    return [{key: value, **connection}, {"expect": like, **connection}]


def closed(on: str | None = None) -> list[Event]:
    return [{"closed": None, **({"on": on} if on else {})}]


def request(
    method: str,
    path: str,
    body: Any = None,
    like: str | None = None,
    headers: Mapping[str, str] | None = None,
    heed: tuple[str, ...] = (),
) -> list[Event]:
    """An HTTP request and its response, of whose headers those to `heed` are noted."""
    sent: Event = {"method": method, "path": path}
    if headers:
        sent["headers"] = dict(headers)
    if body is not None:
        sent["body"] = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    response = {"status": None, "headers": dict.fromkeys(heed), "body": like}
    return [{"request": sent}, {"response": response}]


def rpc(method: str, like: str | None = None, **params: Any) -> list[Event]:
    return request("POST", "/mcp", _rpc(method, **params), like)


def _rpc(method: str, **params: Any) -> dict[str, Any]:
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


_STATE = ask(frame("state"))
_RESET = ask(frame("reset", {"seed": 7, "episode_id": "demo"}))
_HI = ask(frame("step", {"text": "Hi"}))


def _survives(sent: Any, like: str | None = None) -> list[list[Event]]:
    """What is refused changes nothing: a step later it is step 2 of the same episode."""
    return [_RESET, _HI, ask(sent, like), _HI, _STATE]


CASES: dict[str, list[Case]] = {
    "sessions": [
        Case(
            "episode",
            "WS-2 WS-3 WS-4 WS-5 WS-6 WS-7 WS-12 WS-14",
            [_RESET, _HI, _STATE, [{"send": frame("close")}], closed()],
        ),
        Case("reset-without-data", "WS-2 WS-7", [ask(frame("reset")), _STATE]),
        Case(
            "reset-with-further-keys",
            "WS-2",
            [ask(frame("reset", {"difficulty": [1, {"a": None}]}))],
        ),
        Case(
            "reset-counts-anew",
            "WS-6 WS-7",
            [_RESET, _HI, ask(frame("reset", {"episode_id": "next"})), _STATE],
        ),
        Case("same-seed", "WS-10", [_RESET, _HI, _RESET, _HI]),
        Case("step-first", "WS-11", [_HI, _STATE]),
        Case(
            "step-with-metadata",
            "WS-3",
            [ask(frame("step", {"message": "Hi", "metadata": {"trace": 1}}))],
        ),
        Case(
            "step-text",
            "WS-3 WS-12",
            [
                ask(frame("step", {"message": text}))
                for text in ("", "x" * 12, "👩‍🚀", "\x00\u2028\n")
            ],
        ),
        Case(
            "two-sessions",
            "WS-1",
            [
                ask(frame("reset", {"episode_id": "one"}), on="one"),
                ask(frame("step", {"text": "Hi"}), on="one"),
                ask(frame("reset", {"episode_id": "other"}), on="other"),
                ask(frame("state"), on="one"),
                ask(frame("state"), on="other"),
            ],
        ),
        Case(
            "order",
            "WS-8",
            [
                [{"send": frame("step", {"message": str(n)})} for n in range(4)],
                [{"expect": None} for _ in range(4)],
            ],
        ),
        Case("unknown-path", "WS-9", [[{"refused": None}]], path="/nope"),
        Case(
            "bad-reset-arguments",
            "WS-13",
            [
                _RESET,
                *(
                    ask(frame("reset", data))
                    for data in (
                        {"seed": -1},
                        {"seed": "seven"},
                        {"episode_id": 5},
                        {"episode_id": "x" * 256},
                    )
                ),
                _STATE,
            ],
        ),
        Case(
            "tool-actions",
            "WS-15",
            [
                _RESET,
                ask(frame("step", {"type": "list_tools"})),
                ask(
                    frame(
                        "step",
                        {
                            "type": "call_tool",
                            "tool_name": "read_note",
                            "arguments": {"text": "Hello!"},
                        },
                    )
                ),
                ask(
                    frame(
                        "step",
                        {
                            "type": "call_tool",
                            "tool_name": "measure_note",
                            "arguments": {"text": "Test"},
                        },
                    )
                ),
                ask(frame("step", {"type": "call_tool", "tool_name": "nope", "arguments": {}})),
                _STATE,
            ],
        ),
    ],
    "errors": [
        Case(
            "invalid-json",
            "ERR-1",
            _survives(
                '{"type":',
                frame("error", {"message": "Invalid JSON: ${reason}", "code": "INVALID_JSON"}),
            ),
        ),
        Case("unknown-type", "ERR-2", _survives(frame("dance"))),
        Case("no-type", "ERR-2", _survives('{"data":{}}')),
        Case("no-data", "ERR-3", _survives(frame("step"))),
        Case("data-is-no-object", "ERR-3", _survives(frame("step", 5))),
        Case("action-of-another-type", "ERR-3", _survives(frame("step", {"message": 5}))),
        Case("mcp-without-data", "ERR-3", _survives(frame("mcp"))),
        Case("state-with-data", "ERR-4", _survives(frame("state", {}))),
        Case("unknown-key", "ERR-4", _survives(frame("step", {"text": "Hi"}, loud=1))),
        Case("unknown-field", "ERR-4", _survives(frame("step", {"message": "Hi", "loud": 1}))),
        Case(
            "environment-fails",
            "ERR-5",
            [ask(frame("reset", {"episode_id": "demo", "scenario": {"fail_at": 1}})), _HI, _HI],
        ),
        Case(
            "environment-fails-unexpectedly",
            "ERR-6",
            [_RESET, ask(frame("step", {"message": "fail"})), _HI],
            "failing",
        ),
        Case("a-list", "ERR-7", _survives("[]")),
        Case("a-number", "ERR-7", _survives("5")),
        Case("null", "ERR-7", _survives("null")),
        Case("binary", "ERR-8", _survives(b'{"type":"state"}')),
        Case("lone-surrogate", "ERR-9", _survives('{"type":"step","data":{"text":"\\ud800"}}')),
        Case(
            "deep",
            "ERR-10",
            _survives(['{"type":"reset","data":{"deep":', ["[", 20_000], ["]", 20_000], "}}"]),
        ),
        Case(
            "long-integer",
            "ERR-11",
            _survives(['{"type":"reset","data":{"seed":', ["9", 5000], "}}"]),
        ),
        Case(
            "capacity",
            "ERR-12",
            [
                ask(frame("state"), on="one"),
                [{"expect": None, "on": "other"}],
                closed("other"),
                [{"send": frame("close"), "on": "one"}],
                closed("one"),
                ask(frame("state"), on="third"),
                [{"send": frame("close"), "on": "third"}],
                closed("third"),
            ],
            "full",
        ),
        Case("factory", "ERR-13", [[{"expect": None}], closed()], "unbuildable"),
        Case(
            "unknown-session",
            "ERR-14",
            [[{"expect": None}], closed()],
            path="/ws?session_id=nobody",
        ),
    ],
    "http": [
        Case(
            "http-episode",
            "HTTP-1 HTTP-3 HTTP-5 HTTP-10 HTTP-11",
            [
                request("POST", "/reset"),
                request("POST", "/reset", {}),
                request("POST", "/reset", {"seed": 7, "episode_id": "demo", "difficulty": 1}),
                request("POST", "/step", {"action": {"text": "Hi"}}),
                request(
                    "POST",
                    "/step",
                    {"action": {"text": "Hi"}, "timeout_s": 1.5, "request_id": "r"},
                ),
                request("GET", "/state"),
            ],
        ),
        Case(
            "http-cookies",
            "HTTP-12",
            [
                request("POST", "/reset", {"episode_id": "demo"}, heed=("set-cookie",)),
                request(
                    "POST",
                    "/step",
                    {"action": {"text": "Hi"}},
                    headers={"Cookie": "openenv_episode=${cookie}"},
                    heed=("set-cookie",),
                ),
                request("GET", "/state", headers={"Cookie": "openenv_episode=${cookie2}"}),
            ],
        ),
        Case(
            "http-bad-reset",
            "HTTP-2",
            [
                request("POST", "/reset", {"seed": -1}),
                request("POST", "/reset", {"episode_id": "x" * 256}),
            ],
        ),
        Case(
            "http-bad-step",
            "HTTP-4",
            [
                request("POST", "/step", {}),
                request("POST", "/step", {"action": {}}),
                request("POST", "/step", {"action": {"text": 5}}),
                request("POST", "/step", []),
            ],
        ),
        Case(
            "schema",
            "HTTP-6 SCH-1 SCH-2",
            [
                request(
                    "GET",
                    "/schema",
                    like='{"action":{${action}},"observation":{${observation}},"state":{${state}}}',
                ),
                _RESET,
                _HI,
                _STATE,
            ],
        ),
        Case("required-field", "SCH-3", _survives(frame("step", {}))),
        Case(
            "metadata",
            "HTTP-7",
            [
                request(
                    "GET",
                    "/metadata",
                    like='{"name":"${name}","description":"${description}",${rest}}',
                )
            ],
        ),
        Case("health", "HTTP-8", [request("GET", "/health")]),
        Case(
            "openapi",
            "HTTP-9",
            [
                request(
                    "GET",
                    "/openapi.json",
                    like='{"openapi":"${openapi}","info":{${info}"version":"1.${minor}"},${rest}}',
                )
            ],
        ),
    ],
    "tools": [
        Case("empty-request", "MCP-1", [request("POST", "/mcp", {})]),
        Case(
            "tools",
            "MCP-2 MCP-7",
            [
                rpc("tools/list"),
                rpc("tools/call", name="read_note", arguments={"text": "Hello!"}),
                rpc("tools/call", name="measure_note", arguments={"text": "Test"}),
            ],
        ),
        Case("unknown-method", "MCP-3", [rpc("nope")]),
        Case(
            "mcp-frame",
            "MCP-4",
            [
                _RESET,
                _HI,
                ask(
                    frame(
                        "mcp",
                        _rpc("tools/call", name="read_note", arguments={"text": "Hello!"}),
                    )
                ),
                _STATE,
            ],
        ),
        Case(
            "mcp-session",
            "MCP-5",
            [
                rpc("openenv/session/create"),
                rpc("openenv/session/close", session_id="${session_id}"),
                rpc("openenv/session/close", session_id="${session_id}"),
            ],
        ),
        Case(
            "mcp-capacity",
            "MCP-6",
            [
                rpc("openenv/session/create"),
                rpc("openenv/session/create"),
                rpc("openenv/session/close", session_id="${session_id}"),
            ],
            "full",
        ),
        Case("unknown-tool", "MCP-8", [rpc("tools/call", name="nope", arguments={})]),
        Case(
            "mcp-handshake",
            "MCP-10",
            [
                request(
                    "POST",
                    "/mcp",
                    _rpc(
                        "initialize",
                        protocolVersion="2025-06-18",
                        capabilities={},
                        clientInfo={"name": "me", "version": "1"},
                    ),
                    headers={"Accept": "application/json, text/event-stream"},
                    like='{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18",${rest}}',
                )
            ],
        ),
        Case(
            "attach",
            "MCP-9",
            [
                rpc("openenv/session/create"),
                _RESET,
                [{"send": frame("close")}],
                closed(),
                ask(frame("state"), on="again"),
                rpc("openenv/session/close", session_id="${session_id}"),
            ],
            path="/ws?session_id=${session_id}",
        ),
    ],
    "operation": [
        Case(
            "foreign-origin",
            "OPS-1",
            [[{"refused": None}]],
            headers={"Origin": "https://elsewhere.example"},
        ),
        Case(
            "foreign-origin-over-http",
            "OPS-1",
            [request("POST", "/reset", {}, headers={"Origin": "https://elsewhere.example"})],
        ),
        Case(
            "no-token",
            "OPS-2",
            [
                [{"refused": None}],
                request("GET", "/state", heed=("www-authenticate",)),
                request("GET", "/health"),
            ],
            "guarded",
        ),
        Case(
            "wrong-token",
            "OPS-2",
            [
                [{"refused": None}],
                request(
                    "GET",
                    "/state",
                    headers={"Authorization": "Bearer nope"},
                    heed=("www-authenticate",),
                ),
            ],
            "guarded",
            headers={"Authorization": "Bearer nope"},
        ),
        Case(
            "token",
            "OPS-2",
            [_HI],
            "guarded",
            headers={"Authorization": "Bearer a-token-of-the-tests"},
        ),
        Case("idle", "OPS-5", [_RESET, [{"expect": None}], closed()], "impatient"),
        Case("stop", "OPS-6", [_RESET, _HI, [{"stop": True}], closed()], "stopping"),
        Case("ready", "OPS-3", [request("GET", "/ready")]),
        Case(
            "sessions",
            "OPS-4",
            [
                request("GET", "/sessions"),
                _HI,
                request("GET", "/sessions"),
                [{"send": frame("close")}],
                closed(),
                request("GET", "/sessions"),
            ],
            "full",
        ),
    ],
    "limits": [
        Case(
            "large-frame",
            "LIM-1",
            [ask(['{"type":"reset","data":{"padding":"', ["x", 1_000_000], '"}}']), _HI],
        ),
        # A text frame's header, masked, that announces 1 GiB: the server need not see more of it.
        Case(
            "huge-frame",
            "LIM-2",
            [_RESET, [{"send_raw_hex": "81ff00000000400000006d61736b"}], closed()],
        ),
    ],
}


_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What is another one each time.
_VARYING = re.compile(
    rf"(?P<key>episode_id|session_id)\W+(?P<id>{_UUID})"
    r"|\(id (?P<failure>[0-9a-f]{12})\)"
    r"|openenv_episode=(?P<cookie>[^;]{20,})"
)


class Conversations:
    """The connections of one vector, each opened when something happens on it."""

    def __init__(self, url: str, path: str, headers: dict[str, str], known: dict[str, str]) -> None:
        self._url = url.replace("http", "ws", 1)
        self._path = path
        self._headers = headers
        self._known = known
        self._open: dict[str, ClientConnection] = {}
        self._stack = ExitStack()

    def __getitem__(self, name: str) -> ClientConnection:
        """Raises `InvalidStatus` when the handshake is refused."""
        if name not in self._open:
            connection = connect(
                self._url + text_to_send(self._path, self._known),
                additional_headers=self._headers,
                compression=None,
                max_size=None,
                proxy=None,
            )
            self._open[name] = self._stack.enter_context(connection)
        return self._open[name]

    def close(self) -> None:
        self._stack.close()


class Recorder:
    """Plays a case to a server and notes its answers."""

    def __init__(self, case: Case, url: str, pid: int | None) -> None:
        self._case = case
        self._pid = pid
        self._url = url
        self._known: dict[str, str] = {}
        self._conversations = Conversations(url, case.path, case.headers, self._known)
        self._response = requests.Response()

    def record(self) -> Vector:
        case = self._case
        try:
            events = [self._answered(event) for events in case.events for event in events]
        finally:
            self._conversations.close()
        rows = tuple(case.rows.split())
        return Vector(case.id, VERSION, rows, case.server, case.path, case.headers, tuple(events))

    def _answered(self, event: Event) -> Event:
        if "request" in event:
            self._request(event["request"])
            return event
        if "response" in event:
            return {"response": self._responded(event["response"])}
        if "stop" in event:
            assert self._pid is not None
            os.kill(self._pid, signal.SIGTERM)
            return event
        name = event.get("on", "")
        if "refused" in event:
            return event | {"refused": self._refused(name)}
        connection = self._conversations[name]
        if "send" in event:
            connection.send(text_to_send(event["send"], self._known))
        elif "send_hex" in event:
            connection.send(bytes.fromhex(event["send_hex"]))
        elif "send_raw_hex" in event:
            connection.socket.sendall(bytes.fromhex(event["send_raw_hex"]))
        elif "expect" in event:
            text = str(connection.recv(timeout=_PATIENCE_S))
            return event | {"expect": self._generalised(text, event["expect"])}
        else:
            return event | {"closed": _end(connection)}
        return event

    def _request(self, sent: dict[str, Any]) -> None:
        body = sent.get("body")
        self._response = requests.request(
            sent["method"],
            self._url + sent["path"],
            data=None if body is None else text_to_send(body, self._known).encode(),
            headers={
                "Content-Type": "application/json",
                **{
                    name: text_to_send(value, self._known)
                    for name, value in sent.get("headers", {}).items()
                },
            },
            timeout=_PATIENCE_S,
        )

    def _responded(self, expected: dict[str, Any]) -> dict[str, Any]:
        response = self._response
        noted: dict[str, Any] = {"status": response.status_code}
        if expected["headers"]:
            noted["headers"] = {
                name: self._generalised(response.headers[name], None)
                for name in expected["headers"]
            }
        return noted | {"body": self._generalised(response.text, expected["body"])}

    def _refused(self, name: str) -> int:
        try:
            self._conversations[name]
        except InvalidStatus as refused:
            return refused.response.status_code
        raise AssertionError(f"{self._case.id}: the handshake was accepted")

    def _generalised(self, text: str, like: str | None) -> str:
        if like is None:
            return _VARYING.sub(self._named, text)
        if not matches(like, text, self._known):
            raise AssertionError(f"{self._case.id}: {text[:500]} is not like {like}")
        return like

    def _named(self, found: re.Match[str]) -> str:
        """The same text, with a placeholder for what varies."""
        kind = found.lastgroup or ""
        value = found[kind]
        base = {"id": found["key"], "failure": "failure_id"}.get(kind, kind)
        names = [name for name in self._known if re.fullmatch(rf"{base}_?\d*", name)]
        for name in names:
            if self._known[name] == value:
                break
        else:
            name = f"{base}{len(names) + 1}" if names else base
            self._known[name] = value
        return found[0].replace(value, f"${{{name}}}")


def _end(connection: ClientConnection) -> dict[str, Any]:
    try:
        unwanted = connection.recv(timeout=_PATIENCE_S)
    except ConnectionClosed as ended:
        frame_received = ended.rcvd
    else:
        raise AssertionError(f"not closed, but {unwanted!r:.200}")
    assert frame_received is not None, "cut, not closed"
    return {"code": frame_received.code, "reason": frame_received.reason}


def record(urls: Mapping[str, str], stopping_pid: int) -> dict[str, str]:
    """The content of each file; `urls` are the addresses of the servers that cases name.

    `stopping_pid` is the process of the one that is called `stopping`.
    """
    return {
        f"{name}.jsonl": "".join(
            Recorder(case, urls[case.server], stopping_pid).record().as_line() + "\n"
            for case in cases
        )
        for name, cases in CASES.items()
    }


@contextmanager
def _serving(command: list[str], **variables: str) -> Iterator[tuple[str, int]]:
    """A server of this checkout on a free port: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(port), "--log-level", "critical"],
        env=os.environ | variables,
        cwd=_HERE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                requests.get(f"{url}/health", timeout=_PATIENCE_S)
                break
            except requests.ConnectionError:
                time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    with ExitStack() as servers:
        echo = ["notes_env.app"]
        default, _ = servers.enter_context(_serving(echo))
        full, _ = servers.enter_context(_serving(echo, MAX_CONCURRENT_ENVS="1"))
        impatient, _ = servers.enter_context(_serving(echo, SESSION_IDLE_TIMEOUT_S="1"))
        stopping, pid = servers.enter_context(_serving(echo))
        broken, _ = servers.enter_context(
            _serving(["uvicorn", "broken_servers:app", "--ws", "websockets-sansio"])
        )
        urls = {
            "default": default,
            "full": full,
            "failing": f"{broken}/sound",
            "unbuildable": f"{broken}/sound/unbuildable",
            "guarded": f"{broken}/guarded",
            "impatient": impatient,
            "stopping": stopping,
        }
        files = record(urls, pid)
    FOLDER.mkdir(exist_ok=True)
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
