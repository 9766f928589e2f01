# SPDX-License-Identifier: BSD-3-Clause
"""`CASES`: what the vectors say to a server, by the name of their file."""

import json
from typing import Any

from vector_events import Case, Event, ask, call, close, closed, frame, request, rpc, rpc_body, step

_STATE = ask(frame("state"))
_RESET = ask(frame("reset", {"seed": 7, "episode_id": "demo"}))
_HI = step("Hi")
_REFUSED_HANDSHAKE: list[Event] = [{"refused": None}]
_ELSEWHERE = {"Origin": "https://elsewhere.example"}


def _harmless(sent: Any, like: str | None = None) -> list[list[Event]]:
    """The frame is refused and changes nothing: the next step is step 2 of the same episode."""
    return [_RESET, _HI, ask(sent, like), _HI, _STATE]


_SESSIONS = [
    Case("episode", "WS-2 WS-3 WS-4 WS-5 WS-6 WS-7 WS-12 WS-14", [_RESET, _HI, _STATE, close()]),
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
    Case("step-with-default", "WS-3", [ask(frame("step", {"text": "Hi"}))]),
    Case("step-with-metadata", "WS-3", [step("Hi", metadata={"trace": 1})]),
    Case(
        "step-text", "WS-3 WS-12", [step(text) for text in ("", "x" * 12, "👩‍🚀", "\x00\u2028\n")]
    ),
    Case(
        "two-sessions",
        "WS-1",
        [
            ask(frame("reset", {"episode_id": "one"}), on="one"),
            step("Hi", on="one"),
            ask(frame("reset", {"episode_id": "other"}), on="other"),
            ask(frame("state"), on="one"),
            ask(frame("state"), on="other"),
        ],
    ),
    Case(
        "order",
        "WS-8",
        [[step(str(n))[0] for n in range(4)], [{"expect": None} for _ in range(4)]],
    ),
    Case("unknown-path", "WS-9", [_REFUSED_HANDSHAKE], path="/nope"),
    Case(
        "bad-reset-arguments",
        "WS-13",
        [
            _RESET,
            ask(frame("reset", {"seed": -1})),
            ask(frame("reset", {"seed": "seven"})),
            ask(frame("reset", {"episode_id": 5})),
            ask(frame("reset", {"episode_id": "x" * 256})),
            _STATE,
        ],
    ),
    Case(
        "tool-actions",
        "WS-15",
        [
            _RESET,
            ask(frame("step", {"type": "list_tools"})),
            call("read_note", text="Hello!"),
            call("measure_note", text="Test"),
            call("nope"),
            _STATE,
        ],
    ),
]

_ERRORS = [
    Case(
        "invalid-json",
        "ERR-1",
        _harmless(
            '{"type":',
            frame("error", {"message": "Invalid JSON: ${reason}", "code": "INVALID_JSON"}),
        ),
    ),
    Case("unknown-type", "ERR-2", _harmless(frame("dance"))),
    Case("no-type", "ERR-2", _harmless('{"data":{}}')),
    Case("no-data", "ERR-3", _harmless(frame("step"))),
    Case("data-is-no-object", "ERR-3", _harmless(frame("step", 5))),
    Case("action-of-another-type", "ERR-3", _harmless(frame("step", {"text": 5}))),
    Case("action-out-of-bounds", "ERR-3", _harmless(frame("step", {"text": "Hi", "weight": 2}))),
    Case("mcp-without-data", "ERR-3", _harmless(frame("mcp"))),
    Case("state-with-data", "ERR-4", _harmless(frame("state", {}))),
    Case("unknown-key", "ERR-4", _harmless(frame("step", {"text": "Hi"}, loud=1))),
    Case("unknown-field", "ERR-4", _harmless(frame("step", {"text": "Hi", "loud": 1}))),
    Case(
        "environment-fails",
        "ERR-5",
        [ask(frame("reset", {"episode_id": "demo", "scenario": {"fail_at": 1}})), _HI, _HI],
    ),
    Case("environment-fails-unexpectedly", "ERR-6", [_RESET, step("fail"), _HI], "failing"),
    Case("a-list", "ERR-7", _harmless("[]")),
    Case("a-number", "ERR-7", _harmless("5")),
    Case("null", "ERR-7", _harmless("null")),
    Case("binary", "ERR-8", _harmless(b'{"type":"state"}')),
    Case("lone-surrogate", "ERR-9", _harmless('{"type":"step","data":{"text":"\\ud800"}}')),
    Case(
        "deep",
        "ERR-10",
        _harmless(['{"type":"reset","data":{"deep":', ["[", 20_000], ["]", 20_000], "}}"]),
    ),
    Case(
        "long-integer",
        "ERR-11",
        _harmless(['{"type":"reset","data":{"seed":', ["9", 5000], "}}"]),
    ),
    Case(
        "capacity",
        "ERR-12",
        [
            ask(frame("state"), on="one"),
            [{"expect": None, "on": "other"}],
            closed("other"),
            close("one"),
            ask(frame("state"), on="third"),
            close("third"),
        ],
        "full",
    ),
    Case("factory", "ERR-13", [[{"expect": None}], closed()], "unbuildable"),
    Case(
        "unknown-session", "ERR-14", [[{"expect": None}], closed()], path="/ws?session_id=unknown"
    ),
]

_HTTP = [
    Case(
        "not-json",
        "HTTP-13",
        [request("POST", "/step", '{"action":'), request("POST", "/reset", '{"seed":')],
    ),
    Case(
        "not-finite",
        "HTTP-14",
        [
            request("POST", "/reset", '{"seed":NaN}'),
            request("POST", "/reset", '{"seed":1e999}'),
            request("POST", "/step", '{"action":{"text":"Hi","weight":-Infinity}}'),
        ],
    ),
    Case(
        "http-episode",
        "HTTP-1 HTTP-3 HTTP-5 HTTP-10 HTTP-11",
        [
            request("POST", "/reset"),
            request("POST", "/reset", {}),
            request("POST", "/reset", {"seed": 7, "episode_id": "demo", "difficulty": 1}),
            request("POST", "/step", {"action": {"text": "Hi"}}),
            request(
                "POST", "/step", {"action": {"text": "Hi"}, "timeout_s": 1.5, "request_id": "r"}
            ),
            request("GET", "/state"),
        ],
    ),
    Case(
        "http-cookies",
        "HTTP-12",
        [
            request("POST", "/reset", {"episode_id": "demo"}, recorded_headers=("set-cookie",)),
            request(
                "POST",
                "/step",
                {"action": {"text": "Hi"}},
                headers={"Cookie": "openenv_episode=${cookie}"},
                recorded_headers=("set-cookie",),
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
    Case("required-field", "SCH-3", _harmless(frame("step", {}))),
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
]

_TOOLS = [
    Case(
        "websocket",
        "MCP-11",
        [
            ask(json.dumps(rpc_body("tools/call", name="read_note", arguments={"text": "Hello!"}))),
            ask(json.dumps(rpc_body("nope"))),
        ],
        path="/mcp",
    ),
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
                frame("mcp", rpc_body("tools/call", name="read_note", arguments={"text": "Hello!"}))
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
                rpc_body(
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
            close(),
            ask(frame("state"), on="again"),
            rpc("openenv/session/close", session_id="${session_id}"),
        ],
        path="/ws?session_id=${session_id}",
    ),
]

_OPERATION = [
    Case("foreign-origin", "OPS-1", [_REFUSED_HANDSHAKE], headers=_ELSEWHERE),
    Case(
        "foreign-origin-over-http",
        "OPS-1",
        [request("POST", "/reset", {}, headers=_ELSEWHERE)],
    ),
    Case(
        "no-token",
        "OPS-2",
        [
            _REFUSED_HANDSHAKE,
            request("GET", "/state", recorded_headers=("www-authenticate",)),
            request("GET", "/health"),
        ],
        "guarded",
    ),
    Case(
        "wrong-token",
        "OPS-2",
        [
            _REFUSED_HANDSHAKE,
            request(
                "GET",
                "/state",
                headers={"Authorization": "Bearer nope"},
                recorded_headers=("www-authenticate",),
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
            close(),
            request("GET", "/sessions"),
        ],
        "full",
    ),
]

_LIMITS = [
    Case(
        "large-frame",
        "LIM-1",
        [ask(['{"type":"reset","data":{"padding":"', ["x", 1_000_000], '"}}']), _HI],
    ),
    # A text frame's header, masked, that announces 1 GiB: the server refuses it by the header.
    Case(
        "huge-frame",
        "LIM-2",
        [_RESET, [{"send_raw_hex": "81ff00000000400000006d61736b"}], closed()],
    ),
    Case("reserved-opcode", "LIM-3", [_RESET, [{"send_raw_hex": "838000000000"}], closed()]),
    Case("frame-without-mask", "LIM-3", [_RESET, [{"send_raw_hex": "81027b7d"}], closed()]),
    Case("text-not-utf-8", "LIM-3", [_RESET, [{"send_raw_hex": "818100000000ff"}], closed()]),
]

CASES: dict[str, list[Case]] = {
    "sessions": _SESSIONS,
    "errors": _ERRORS,
    "http": _HTTP,
    "tools": _TOOLS,
    "operation": _OPERATION,
    "limits": _LIMITS,
}
