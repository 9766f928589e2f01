# SPDX-License-Identifier: BSD-3-Clause
"""What each environment is asked."""

from collections.abc import Sequence

from compatibility.asking import (
    LIST,
    STATE,
    McpSession,
    OneTooMany,
    Request,
    Session,
    call,
    get,
    mcp,
    post,
    reset,
    rpc,
    step,
)

_DESCRIPTION = (get("/health"), get("/metadata"), get("/schema"))
_CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}

SCRIPTS: dict[str, Sequence[Session | Request | McpSession | OneTooMany]] = {
    "plain": [
        *_DESCRIPTION,
        Session(
            [
                step(amount=4),
                reset(seed=3, episode_id="first"),
                step(amount=2),
                step(amount=-5, metadata={"why": "a test"}),
                STATE,
                step(amount="seven"),
                step(amount=1, more=2),
                step(),
                {"type": "reset"},
                {"type": "step"},
                {"type": "dance"},
                {"data": {}},
                {"type": "state", "data": {}},
                "{",
                step(amount=True),
                step(amount="12"),
                step(amount=1.0),
                mcp("tools/list"),
                mcp("tools/call", name="add"),
                mcp("dance"),
                {"type": "mcp", "data": {"method": "tools/list"}},
                {"type": "close"},
            ]
        ),
        post("/reset", {}),
        post("/reset"),
        post("/reset", {"seed": 1, "episode_id": "over HTTP", "level": 3}),
        post("/reset", {"seed": -1}),
        post("/step", {"action": {"amount": 3}}),
        post("/step", {"action": {"amount": 3}, "timeout_s": 5, "request_id": "r", "more": 1}),
        post("/step", {"action": {"amount": "three"}}),
        post("/step", {"action": {}}),
        post("/step", {}),
        post("/step", {"action": {"amount": 3}, "timeout_s": 0}),
        get("/state"),
        get("/reset"),
        get("/nothing"),
        post("/mcp", {}),
        post("/mcp", rpc("tools/list")),
        post("/mcp", rpc("openenv/session/close", session_id="unknown")),
        post("/mcp", rpc("openenv/session/close")),
    ],
    "dict_state": [
        Session([reset(), STATE, step(to="gate"), step(to="hall"), step(to="roof"), step(), STATE]),
        post("/reset", {}),
        post("/step", {"action": {"to": "gate"}}),
        post("/step", {"action": {"to": "roof"}}),
        post("/step", {"action": {"to": "hall"}}),
        post("/step", {"action": {}}),
        OneTooMany(1),
    ],
    "custom_state": [
        *_DESCRIPTION,
        Session(
            [
                STATE,
                reset(episode_id="mine", budget=3),
                step(item={"name": "tea", "price": 2.5}),
                STATE,
                step(item={"name": "cake", "price": 4}, on="2026-02-28"),
                step(item={"name": "cake"}),
                step(item={"name": "cake", "price": 1}, on="yesterday"),
                STATE,
            ]
        ),
        get("/state"),
        post("/step", {"action": {"item": {"name": "tea", "price": 2.5}}}),
    ],
    "nested_action": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                step(command={"kind": "press", "key": "a"}),
                step(command={"kind": "move", "direction": "south"}, repeat="2"),
                step(
                    command={"kind": "move", "direction": "north", "distance": 9},
                    repeat=4,
                    note="short",
                    then=[{"kind": "move", "direction": "north"}],
                ),
                step(command={"kind": "jump"}),
                step(command={"kind": "press", "key": "c"}),
                step(command={"kind": "move", "direction": "west", "distance": 10}),
                step(command={"kind": "press", "key": "a"}, repeat=[]),
                STATE,
            ]
        ),
        post("/step", {"action": {"command": {"kind": "press", "key": "b"}}}),
        post("/step", {"action": {"command": {"kind": "press", "key": "c"}}}),
        Session([step(command={"kind": "press", "key": "a"}, note="a longer note")]),
        post(
            "/step", {"action": {"command": {"kind": "press", "key": "a"}, "note": "a longer note"}}
        ),
    ],
    "pictures": [
        *_DESCRIPTION,
        Session([reset(), step(x=1, y=0), step(x=7, y=5, color=[1, 2, 3]), step(x=99, y=0)]),
        post("/step", {"action": {"x": 0, "y": 0}}),
    ],
    "numpy_metadata": [
        Session([reset(), step(force=1.5), step(force=1), STATE, step(force=1), STATE]),
        post("/reset", {}),
        post("/step", {"action": {"force": 2.5}}),
    ],
    "async_only": [
        Session([reset(), step(question="why"), step(question="how"), STATE, step(question=3)]),
        post("/reset", {}),
        post("/step", {"action": {"question": "who"}}),
        get("/state"),
    ],
    "blocking_async": [
        Session([reset(), step(url="a"), STATE, step(url="b")]),
        Session([step(url="c"), reset()]),
        post("/mcp", rpc("tools/list")),
    ],
    "sqlite": [
        Session(
            [
                reset(),
                *(step(sql=f"insert into words (word) values ('w{n}')") for n in range(12)),
                step(sql="select word from words order by id"),
                reset(),
                step(sql="select count(*) from words"),
                STATE,
            ]
        ),
        Session([step(sql="select count(*) from words")]),
    ],
    "rubric": [
        Session([reset(), step(text="tea"), step(text="tea please"), STATE, reset(), STATE]),
        post("/step", {"action": {"text": "tea"}}),
    ],
    "async_rubric": [
        Session([reset(), step(text="four"), step(text="")]),
        post("/step", {"action": {"text": "four"}}),
    ],
    "calculator_mcp": [
        *_DESCRIPTION,
        Session(
            [
                LIST,
                reset(episode_id="sums"),
                LIST,
                call("add", a=2, b=3),
                call("add", a=2),
                call("remember", value=5),
                call("remember", value=6),
                call("mirror", point={"x": 1, "y": 2}),
                call("words", text="a b c"),
                call("nothing"),
                STATE,
                call("divide", a=1, b=0),
                call("add", a="two"),
                call("subtract", a=1),
                step(type="call_tool"),
                step(type="call_tool", tool_name="add", arguments=[1]),
                step(message="hi"),
                step(type="dance"),
                mcp("tools/list"),
                mcp("tools/call", **_CALL),
                mcp("tools/call", name="remember", arguments={"value": 8}),
                mcp("tools/call", name="subtract", arguments={}),
                mcp("tools/call", name="divide", arguments={"a": 1, "b": 0}),
                mcp("tools/call", name="add", arguments={"a": "two"}),
                mcp("tools/call"),
                mcp("prompts/list"),
                STATE,
            ]
        ),
        post("/reset", {}),
        post("/step", {"action": {"type": "list_tools"}}),
        post("/step", {"action": {"type": "call_tool", "tool_name": "add", "arguments": {"a": 2}}}),
        post("/step", {"action": {"type": "call_tool", "tool_name": "nope"}}),
        post("/step", {"action": {"message": "hi"}}),
        get("/state"),
        post("/mcp", rpc("tools/list")),
        post("/mcp", rpc("tools/call", **_CALL)),
        post("/mcp", rpc("tools/call", name="nope", arguments={})),
        post("/mcp", rpc("tools/call", name="add", arguments={})),
        post("/mcp", rpc("tools/call", arguments={})),
        post("/mcp", rpc("tools/list") | {"id": "a text"}),
        post("/mcp", {"method": "tools/list", "id": 1}),
        post("/mcp", rpc("tools/list") | {"params": [1]}),
        post("/mcp", rpc("tools/list", session_id="unknown")),
        post("/mcp", rpc("dance")),
        post("/mcp", "{"),
        Session([rpc("tools/list"), rpc("tools/call", **_CALL), rpc("dance"), {}, "{"], "/mcp"),
        Session(
            [
                mcp("openenv/session/create"),
                mcp("tools/call", name="count"),
                call("count"),
                mcp("tools/call", name="count"),
                reset(),
                call("remember", value=1),
                mcp("tools/call", name="remember", arguments={"value": 2}),
                call("remember", value=3),
                mcp("openenv/session/close", session_id="unknown"),
                STATE,
            ]
        ),
        McpSession(
            [
                rpc("tools/list"),
                rpc("tools/call", name="remember", arguments={"value": 5}),
                rpc("tools/call", name="remember", arguments={"value": 6}),
                rpc("tools/call", name="count", arguments={}),
                rpc("tools/call", name="count", arguments={}),
            ]
        ),
    ],
    "mode_tools_mcp": [
        Session(
            [
                reset(),
                LIST,
                call("whisper", text="HELLO"),
                call("rehearse", text="la"),
                call("broadcast", text="la"),
                STATE,
                mcp("tools/list"),
                mcp("tools/call", name="whisper", arguments={"text": "A"}),
                mcp("tools/call", name="rehearse", arguments={"text": "A"}),
                step(),
                step(text="hi"),
            ]
        ),
    ],
    "own_action_mcp": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                step(text="hi"),
                mcp("tools/list"),
                mcp("tools/call", name="whisper", arguments={"text": "A"}),
                STATE,
            ]
        ),
        Session([LIST, call("whisper", text="HELLO")]),
        post("/mcp", rpc("tools/list")),
    ],
    "parsed_arguments_mcp": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                call("add", a=1),
                step(type="call_tool", tool_name="add", arguments='{"a": 5, "b": 6}'),
                mcp("tools/list"),
                mcp("tools/call", **_CALL),
                STATE,
            ]
        ),
        Session([LIST]),
        Session([step(type="call_tool", tool_name="add", arguments="{")]),
        post("/mcp", rpc("tools/call", **_CALL)),
    ],
    "tools_only": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                LIST,
                call("read", page=1),
                call("write", page=1),
                call("read", page=3),
                call("read", page="x"),
                STATE,
            ]
        ),
        Session(
            [
                mcp("tools/list"),
                mcp("tools/call", name="read", arguments={"page": 2}),
                mcp("tools/call", name="write", arguments={}),
            ]
        ),
        post("/mcp", rpc("tools/list")),
        post("/mcp", rpc("tools/call", name="read", arguments={"page": 2})),
        post("/step", {"action": {"type": "call_tool", "tool_name": "read"}}),
        Session([rpc("tools/list")], "/mcp"),
    ],
    "hooks": [
        Session([reset(), step(), STATE]),
        get("/scores", "x-served-with"),
        get("/health", "x-served-with"),
        get("/extra/fails"),
        get("/mounted/ping"),
        post("/step", {"action": {}}),
        get("/state"),
    ],
    "factory": [
        *_DESCRIPTION,
        Session([reset(), step(key="b", value=[1, {"x": None}]), step(key="a"), STATE, reset()]),
        post("/step", {"action": {"key": "a", "value": 1}}),
    ],
    "raising": [
        Session(
            [
                reset(seed=13),
                reset(),
                step(what="glass"),
                step(what="wood"),
                step(what="wire"),
                STATE,
                step(what="state"),
                STATE,
                step(what="wood"),
            ]
        ),
        Session([reset(), step(what="wood")]),
    ],
    "unbuildable": [
        Session([None, None]),
        post("/mcp", rpc("openenv/session/create")),
        get("/health"),
    ],
    "ending": [
        Session(
            [
                step(number=1),
                reset(),
                step(number=1),
                step(number=9),
                step(number=7),
                step(number=7),
                STATE,
                reset(),
                step(number=7),
                step(number=7),
                reset(),
                *(step(number=n) for n in (1, 2, 3, 4)),
                STATE,
            ]
        ),
        post("/step", {"action": {"number": 7}}),
    ],
    "dice": [
        Session([step(dice=2), reset(seed=5), step(dice=3), step(dice=9), reset(seed=5)]),
        Session([reset(seed=5), step(dice=3), step(), STATE, reset(seed=6), step(dice=2)]),
        post("/reset", {"seed": 5}),
        post("/step", {"action": {"dice": 2}}),
    ],
    "huge": [
        Session([reset(), step(kilobytes=1024), step(text="b" * 300_000), step(text="é😀\u2028")]),
        post("/step", {"action": {"kilobytes": 1024}}),
        post("/reset", {}),
    ],
    "values": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                *(step(kind=kind) for kind in ("", "other", "bare", "more", "infinite")),
                *(step(kind=kind) for kind in ("not a number", "nothing", "dictionary")),
                step(kind="other"),
                STATE,
            ]
        ),
        post("/reset", {}),
        *(post("/step", {"action": {"kind": kind}}) for kind in ("", "other", "more")),
        *(post("/step", {"action": {"kind": kind}}) for kind in ("not a number", "nothing")),
    ],
    "keywords": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                reset(level=3, wind="west", sail="up", seed=9, episode_id="e"),
                step(degrees=5),
                reset(level="high"),
            ]
        ),
        post("/reset", {"level": 2, "wind": "east", "seed": 1, "other": True}),
        post("/step", {"action": {"degrees": 1}, "timeout_s": 2.5, "hint": "port", "x": 1}),
    ],
    "signatures": [
        Session([reset(), reset(level=3, this=5, seed=9), step(degrees=5), STATE]),
        post("/reset", {"level": 2, "this": 1, "more": [1]}),
        post("/step", {"action": {"degrees": 1}, "timeout_s": 2, "hint": "port", "x": 1}),
    ],
    "own_methods": [
        Session([reset(), reset(level=3, seed=9), step(degrees=5), STATE]),
        post("/reset", {"level": 2, "wind": "east", "sail": "up"}),
        post("/step", {"action": {"degrees": 1}, "timeout_s": 2.5, "hint": "port"}),
    ],
    "thread_bound": [
        Session([reset(), *(step(at=f"{n}") for n in range(12)), reset(), step(at="x"), STATE]),
        Session([step(at="first"), step(at="second")]),
        get("/state"),
    ],
    "described": [
        *_DESCRIPTION,
        Session(
            [
                reset(),
                step(card="ace"),
                step(card="ace", raiseBy=10),
                step(card="ace", raise_by=10),
                step(card="", raiseBy=101),
            ]
        ),
        post("/step", {"action": {"card": "ace", "raiseBy": 5}}),
    ],
    "bare": [
        *_DESCRIPTION,
        Session(
            [
                reset(level=3),
                step(),
                step(metadata={"a": 1, "end": True}),
                step(message="hi"),
                step(metadata=[]),
                STATE,
            ]
        ),
        post("/step", {"action": {}}),
        get("/state"),
    ],
    "production": [
        *_DESCRIPTION,
        post("/reset", {}),
        post("/step", {"action": {"type": "list_tools"}}),
        get("/state"),
        post("/mcp", rpc("tools/list")),
        post("/mcp", rpc("tools/call", **_CALL)),
        Session([rpc("tools/list"), rpc("tools/call", **_CALL)], "/mcp"),
        Session([mcp("tools/list"), mcp("tools/call", **_CALL), reset(), call("add", a=1), STATE]),
    ],
    "tasks": [
        get("/list_environments"),
        get("/sums/splits"),
        get("/other/splits"),
        post("/sums/num_tasks", {"split": "train"}),
        post("/sums/tasks", {"split": "test"}),
        post("/sums/task", {"split": "train", "index": 3}),
        post("/sums/task", {"split": "train", "index": 30}),
        post("/sums/task_range", {"split": "train", "start": 1, "stop": 3}),
        post("/sums/task_range", {"split": "train"}),
        post("/sums/task", {"split": "train"}),
        Session([reset(split="test", index=0), step(number=42), STATE]),
    ],
    "template": [
        *_DESCRIPTION,
        Session(
            [
                reset(episode_id="mine"),
                step(message="Hello"),
                step(message=""),
                step(message=3),
                STATE,
                reset(),
                step(message="again"),
            ]
        ),
        post("/reset", {}),
        post("/step", {"action": {"message": "Hello"}}),
    ],
    "gradio_page": [
        get("/web/metadata"),
        get("/web/state"),
        post("/web/step", {"action": {"amount": 2}}),
        post("/web/reset"),
        post("/web/step", {"action": {"amount": 2}}),
        post("/web/step", {"action": {"amount": 3}}),
        get("/web/state"),
        post("/web/step", {"action": {"amount": "two"}}),
        post("/web/step", {}),
        post("/web/reset", {"seed": 3, "episode_id": "mine", "unsupported": 1}),
        get("/web/state"),
        Request("GET", "/", only_status=True),
        Request("GET", "/web/", only_status=True),
        Request("POST", "/web/gradio_api/call/restart", {"data": []}, only_status=True),
    ],
}
