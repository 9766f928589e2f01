# SPDX-License-Identifier: BSD-3-Clause
"""Whole sessions against a model; frames and bytes of any kind, which disturb no other session."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from websockets.sync.client import connect

_REFUSED = {
    "nonsense": "INVALID_JSON",
    '{"type": "step"': "INVALID_JSON",
    "[]": "VALIDATION_ERROR",
    "{}": "UNKNOWN_TYPE",
    '{"type": "dance"}': "UNKNOWN_TYPE",
    '{"type": "step"}': "VALIDATION_ERROR",
    '{"type": "step", "data": {}}': "VALIDATION_ERROR",
    '{"type": "step", "data": {"text": 1}}': "VALIDATION_ERROR",
    '{"type": "step", "data": {"text": "Hi", "more": 1}}': "VALIDATION_ERROR",
    '{"type": "step", "data": {"text": "\\ud800"}}': "VALIDATION_ERROR",
    '{"type": "reset", "data": {"seed": -1}}': "VALIDATION_ERROR",
    '{"type": "reset", "data": {"episode_id": 7}}': "VALIDATION_ERROR",
    '{"type": "state", "data": {}}': "VALIDATION_ERROR",
}
_HANDSHAKE = b"""GET /ws HTTP/1.1\r
Host: 127.0.0.1\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r
Sec-WebSocket-Version: 13\r
\r
"""
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


class _Session:
    def __init__(self, ws_url: str) -> None:
        # No pings: their thread would use `random`, which Hypothesis reports.
        self._opened = connect(
            ws_url,
            compression=None,
            max_size=None,
            proxy=None,
            ping_interval=None,
            open_timeout=60,
        )
        self._connection = self._opened.__enter__()

    def ask(self, frame: Any) -> Any:
        self._connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        return json.loads(self._connection.recv(timeout=60))

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


class SessionModel(RuleBasedStateMachine):
    """What a session has to remember, compared with a session of the server."""

    ws_url: str

    def __init__(self) -> None:
        super().__init__()
        self.session = _Session(self.ws_url)
        self.steps = self.characters = 0
        self.seed: int | None = None
        self.episode_id = self.session.ask({"type": "state"})["data"]["episode_id"]

    def teardown(self) -> None:
        self.session.close()

    @rule(
        seed=st.none() | st.integers(0, 2**63),
        episode_id=st.none() | _TEXT,
        more=st.dictionaries(st.sampled_from(["task", "level"]), st.integers() | _TEXT),
    )
    def reset(self, seed: int | None, episode_id: str | None, more: dict[str, Any]) -> None:
        data = {"seed": seed, "episode_id": episode_id, **more}
        answer = self.session.ask({"type": "reset", "data": data})
        ready = {"text": "Ready for notes", "length": 0, "metadata": {}}
        assert answer == {
            "type": "observation",
            "data": {"observation": ready, "reward": 0.0, "done": False},
        }
        if episode_id is None:
            episode_id = self.session.ask({"type": "state"})["data"]["episode_id"]
            assert episode_id != self.episode_id
        self.episode_id, self.seed, self.steps, self.characters = episode_id, seed, 0, 0

    @rule(
        text=_TEXT,
        weight=st.none() | st.floats(0, 1),
        metadata=st.none() | st.dictionaries(_TEXT, st.integers(), max_size=2),
    )
    def step(self, text: str, weight: float | None, metadata: dict[str, int] | None) -> None:
        self.steps += 1
        self.characters += len(text)
        data: dict[str, Any] = {"text": text}
        data |= {} if weight is None else {"weight": weight}
        data |= {} if metadata is None else {"metadata": metadata}
        told = {"original_text": text, "step": self.steps}
        assert self.session.ask({"type": "step", "data": data}) == {
            "type": "observation",
            "data": {
                "observation": {"text": text, "length": len(text), "metadata": told},
                "reward": len(text) * (0.1 if weight is None else weight),
                "done": False,
                "metadata": told,
            },
        }

    @rule()
    def ask_for_the_state(self) -> None:
        seed = {} if self.seed is None else {"seed": self.seed}
        counts = {"step_count": self.steps, "characters": self.characters}
        known = {"episode_id": self.episode_id, **counts, **seed}
        assert self.session.ask({"type": "state"}) == {"type": "state", "data": known}

    @rule(text=_TEXT)
    def call_a_tool(self, text: str) -> None:
        action = {"type": "call_tool", "tool_name": "measure_note"}
        data = {**action, "arguments": {"text": text}}
        observation = self.session.ask({"type": "step", "data": data})["data"]["observation"]
        assert observation["tool_name"] == "measure_note"
        assert observation["error"] is None

    @rule(frame=st.sampled_from(sorted(_REFUSED)))
    def be_refused(self, frame: str) -> None:
        answer = self.session.ask(frame)
        assert (answer["type"], answer["data"]["code"]) == ("error", _REFUSED[frame])

    @rule()
    def send_a_binary_frame(self) -> None:
        assert self.session.ask(b"\x00")["data"]["code"] == "VALIDATION_ERROR"


def test_a_session_does_what_its_model_does(server: Any) -> None:
    model = type("Model", (SessionModel,), {"ws_url": server.ws_url})
    run_state_machine_as_test(model, settings=settings(max_examples=25, stateful_step_count=40))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
_KIND = st.sampled_from(["reset", "step", "state", "mcp", "close ", "", "step"])
_MESSAGE = st.fixed_dictionaries({}, optional={"type": _KIND | _JSON, "data": _JSON, "more": _JSON})
_FRAME = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    _JSON.map(lambda value: json.dumps(value)),
    _MESSAGE.map(lambda value: json.dumps(value)),
)


@pytest.fixture(scope="module")
def fuzzed(start_shared_server: Any) -> Any:
    """A server of its own, whose log must have no traceback."""
    return start_shared_server(env={"SCENARIOS": "off"})


@pytest.fixture(scope="module")
def witness(fuzzed: Any) -> Iterator[_Session]:
    """A session beside the ones that are fuzzed."""
    session = _Session(fuzzed.ws_url)
    yield session
    session.close()


@given(frames=st.lists(_FRAME, min_size=1, max_size=20))
def test_any_frame_is_answered_once_and_disturbs_no_other_session(
    fuzzed: Any, witness: _Session, frames: list[str | bytes]
) -> None:
    before = witness.ask({"type": "state"})
    session = _Session(fuzzed.ws_url)
    for frame in frames:
        try:
            answer = session.ask(frame)
        except UnicodeEncodeError:  # a lone surrogate, which no frame can have
            continue
        assert answer["type"] in {"observation", "state", "mcp", "error"}
        assert answer["data"]
        if answer["type"] == "error":
            assert answer["data"]["code"] in {
                "INVALID_JSON",
                "UNKNOWN_TYPE",
                "VALIDATION_ERROR",
                "EXECUTION_ERROR",
            }
    assert session.ask({"type": "state"})["type"] == "state"
    session.close()
    assert witness.ask({"type": "state"}) == before
    assert "Traceback" not in fuzzed.log


@given(data=st.binary(max_size=300))
def test_any_bytes_harm_only_their_own_connection(
    fuzzed: Any, witness: _Session, data: bytes
) -> None:
    before = witness.ask({"type": "state"})
    with socket.create_connection(("127.0.0.1", fuzzed.port), timeout=60) as connection:
        connection.sendall(_HANDSHAKE)
        with connection.makefile("rb") as received:
            assert b" 101 " in received.readline()
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # closed before it had read all
                received.read()
    assert witness.ask({"type": "state"}) == before
    assert "Traceback" not in fuzzed.log
