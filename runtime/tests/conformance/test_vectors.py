# SPDX-License-Identifier: BSD-3-Clause
"""The vectors: complete, equal to what our server says, and played by two clients."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from openenv.core.env_server.types import WSErrorCode
from record_vectors import record
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import ServerError, SessionLostError
from stepwire.conformance.contract import ROWS, VERSION
from stepwire.conformance.vectors import FOLDER, Vector, load, matches, text_to_send

_HERE = Path(__file__).parent
_VECTORS = list(load())


@pytest.fixture
def servers(
    server: Any,
    one_session_server: Any,
    broken_servers: Any,
    start_server: Callable[..., Any],
) -> tuple[dict[str, str], int]:
    """The addresses of the servers that vectors name, and the process id of the one to stop."""
    stopping = start_server()
    return {
        "default": server.url,
        "full": one_session_server.url,
        "impatient": start_server(env={"SESSION_IDLE_TIMEOUT_S": "1"}).url,
        "stopping": stopping.url,
        "failing": f"{broken_servers.url}/sound",
        "unbuildable": f"{broken_servers.url}/sound/unbuildable",
        "guarded": f"{broken_servers.url}/guarded",
    }, stopping.process.pid


def test_every_row_of_the_contract_has_a_vector() -> None:
    assert {row for vector in _VECTORS for row in vector.rows} == set(ROWS)


def test_every_error_code_is_in_a_vector() -> None:
    expected = "".join(e.get("expect", "") for vector in _VECTORS for e in vector.events)
    assert all(f'"code":"{code.value}"' in expected for code in WSErrorCode)


def test_vectors_have_unique_ids_and_the_contracts_version() -> None:
    assert len({vector.id for vector in _VECTORS}) == len(_VECTORS)
    assert {vector.contract for vector in _VECTORS} == {VERSION}


def test_the_files_are_what_our_server_says(servers: tuple[dict[str, str], int]) -> None:
    recorded = record(*servers)
    assert set(recorded) == {path.name for path in FOLDER.iterdir()}
    for name, text in recorded.items():
        now, then = text.splitlines(), (FOLDER / name).read_text("utf-8").splitlines()
        assert now == then, "Run `uv run python runtime/tests/conformance/record_vectors.py`"


@pytest.mark.parametrize(
    ("expected", "text", "learned"),
    [
        ("a", "a", {}),
        ("a.c", "abc", None),
        ('{"id":"${id}"}', '{"id":"7"}', {"id": "7"}),
        ("${id} and ${id}", "7 and 7", {"id": "7"}),
        ("${id} and ${id}", "7 and 8", None),
        ("${known}!", "one!", {}),
        ("${known}!", "two!", None),
        ("${all}", "two\nlines", {"all": "two\nlines"}),
        ("${some}", "", None),
    ],
)
def test_a_placeholder_stands_for_the_same_text_everywhere(
    expected: str, text: str, learned: dict[str, str] | None
) -> None:
    known = {"known": "one"}
    assert matches(expected, text, known) is (learned is not None)
    assert known == {"known": "one", **(learned or {})}


def test_text_to_send_may_repeat_parts_and_have_placeholders() -> None:
    assert text_to_send("${a}-${a}", {"a": "b"}) == "b-b"
    assert text_to_send(["x", ["[", 3], "y"], {}) == "x[[[y"


# Our client, on a server that plays a vector.


def _is_playable(vector: Vector) -> bool:
    """Whether calls of our client send all frames of the vector, on one connection to `/ws`."""
    if (vector.path, vector.headers) != ("/ws", {}) or vector.id == "order":  # it never pipelines
        return False
    for event in vector.events:
        if "on" in event or not set(event) & {"send", "expect", "closed"}:
            return False
        if "send" in event and _call_for(event["send"]) is None:
            return False
    return True


def _call_for(sent: Any) -> Any:
    """The call that sends this frame, or `None` when no call does."""
    try:
        message = json.loads(sent if isinstance(sent, str) else text_to_send(sent, {}))
        data = message.get("data")
    except (ValueError, AttributeError, RecursionError):
        return None
    match message.get("type"), data:
        case "reset", dict() if set(message) == {"type", "data"} and "\\ud800" not in sent:
            return lambda env: env.reset(**data)
        case "step", {"text": str(), "weight": 0.5, **rest} if set(rest) <= {"metadata"}:
            return lambda env: env.step(NoteAction(**data))
        case "step", {"type": "list_tools"}:
            return lambda env: env.list_tools()
        case "step", {"type": "call_tool", "tool_name": name, "arguments": arguments}:
            return lambda env: env.call_tool(name, **arguments)
        case "state", None:
            return lambda env: env.state()
        case "close", None:
            return lambda env: env.close()
    return None


_PLAYABLE = [vector for vector in _VECTORS if _is_playable(vector)]


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """A server that plays one vector to its first client: its address, and what was wrong."""
    vector: Vector = request.param
    complaints: list[str] = []

    def converse(connection: ServerConnection) -> None:
        for event in vector.events:
            if "send" in event:
                sent, wanted = json.loads(connection.recv(60)), text_to_send(event["send"], {})
                if sent != json.loads(wanted):
                    complaints.append(f"expected {wanted[:200]}, got {str(sent)[:200]}")
            elif "expect" in event:
                connection.send(
                    text_to_send(event["expect"], {"episode_id": "e", "failure_id": "f"})
                )
            else:
                connection.close(event["closed"]["code"])
        try:
            connection.recv(60)
        except ConnectionClosed:
            return

    with serve(converse, "127.0.0.1", 0) as stub:
        thread = Thread(target=stub.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{stub.socket.getsockname()[1]}", complaints
        finally:
            stub.shutdown()
            thread.join()


@pytest.mark.parametrize("play", _PLAYABLE, ids=lambda vector: vector.id, indirect=True)
def test_our_client_understands_a_server_that_plays_a_vector(
    request: pytest.FixtureRequest, play: tuple[str, list[str]]
) -> None:
    url, complaints = play
    vector: Vector = request.node.callspec.params["play"]
    events = list(vector.events)
    with NotesEnv(base_url=url) as env:
        if "send" not in events[0]:  # the server speaks first: it refuses the session
            code = json.loads(events[0]["expect"])["data"]["code"]
            with pytest.raises(ServerError) as refused:
                env.reset()
            assert refused.value.code == code
            return
        while events:
            event = events.pop(0)
            if "send" in event:
                answer = json.loads(events[0]["expect"]) if "expect" in events[0] else {}
                _call_and_compare(env, _call_for(event["send"]), answer)
            elif event.get("closed", {}).get("code", 1000) != 1000:
                # ServerError when the client reads the error frame before the close.
                with pytest.raises((ServerError, SessionLostError)):
                    env.state()
                with pytest.raises(SessionLostError):
                    env.state()
    assert not complaints


def _call_and_compare(env: NotesEnv, call: Any, answer: dict[str, Any]) -> None:
    data = answer.get("data", {})
    observation = data.get("observation", {})
    if answer.get("type") == "error":
        with pytest.raises(ServerError) as failed:
            call(env)
        assert (failed.value.code, failed.value.errors) == (data["code"], data.get("errors", []))
        assert failed.value.message == text_to_send(data["message"], {"failure_id": "f"})
    elif observation.get("error"):
        with pytest.raises(ServerError) as failed:
            call(env)
        assert failed.value.code == observation["error"]["error_type"]
    elif "tools" in observation:
        assert [tool.name for tool in call(env)] == [tool["name"] for tool in observation["tools"]]
    elif "tool_name" in observation:
        assert call(env) == observation["result"]["data"]
    elif answer.get("type") == "observation":
        result = call(env)
        assert (result.reward, result.done) == (data["reward"], data["done"])
        for key, value in observation.items():
            assert getattr(result.observation, key) == value
    elif answer.get("type") == "state":
        state = call(env)
        for key, value in data.items():
            assert getattr(state, key) == (value if value != "${episode_id}" else "e")
    else:
        call(env)


def test_vectors_of_every_kind_are_played() -> None:
    kinds = {
        json.loads(text_to_send(event["send"], {}))["type"]
        for vector in _PLAYABLE
        for event in vector.events
        if "send" in event
    }
    assert kinds == {"reset", "step", "state", "close"}
    assert {"episode", "environment-fails-unexpectedly", "factory", "tool-actions"} <= {
        vector.id for vector in _PLAYABLE
    }


# A client in JavaScript.


@pytest.mark.node
def test_a_client_in_javascript_replays_every_vector(
    servers: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm
    assert node
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tmp_path)]
    subprocess.run([*install, "ws@8"], check=True, timeout=300)
    done = subprocess.run(
        [node, str(_HERE / "replay.cjs"), str(FOLDER), json.dumps(servers[0]), str(servers[1])],
        env=os.environ | {"NODE_PATH": str(tmp_path / "node_modules")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    replayed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["id"] for entry in replayed] == [vector.id for vector in _VECTORS]
    assert [entry for entry in replayed if entry["failed"]] == []
