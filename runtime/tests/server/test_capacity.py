# SPDX-License-Identifier: BSD-3-Clause
"""`max_concurrent_envs` and `concurrency_config`: the number of sessions and their timeout."""

from typing import Any

import pytest
from openenv.core.env_server.exceptions import ConcurrencyConfigurationError
from openenv.core.env_server.types import ConcurrencyConfig
from starlette.testclient import TestClient
from waiting import wait_until

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app


class _OneAtATime(NotesEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = False


def _max_sessions(environment_cls: Any, **arguments: Any) -> int:
    client = TestClient(create_app(environment_cls, NoteAction, NoteObservation, **arguments))
    number: int = client.get("/sessions").json()["max_sessions"]
    return number


@pytest.mark.parametrize(
    ("environment_cls", "arguments", "expected"),
    [
        (NotesEnvironment, {}, 7),
        (NotesEnvironment, {"max_concurrent_envs": 3}, 3),
        (NotesEnvironment, {"concurrency_config": ConcurrencyConfig(max_concurrent_envs=3)}, 3),
        (NotesEnvironment, {"concurrency_config": ConcurrencyConfig()}, 1),
        (_OneAtATime, {}, 1),
        (_OneAtATime, {"max_concurrent_envs": 1}, 1),
        (_OneAtATime, {"concurrency_config": ConcurrencyConfig()}, 1),
    ],
)
def test_the_argument_comes_before_the_setting(
    environment_cls: Any,
    arguments: dict[str, Any],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_ENVS", "7")
    assert _max_sessions(environment_cls, **arguments) == expected


def test_more_than_the_class_supports_is_refused() -> None:
    config = ConcurrencyConfig(max_concurrent_envs=2)
    with pytest.raises(ConcurrencyConfigurationError, match="max_concurrent_envs=2"):
        _max_sessions(_OneAtATime, concurrency_config=config)


def test_both_arguments_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="Cannot specify both 'max_concurrent_envs' and 'conc"):
        _max_sessions(
            NotesEnvironment, max_concurrent_envs=2, concurrency_config=ConcurrencyConfig()
        )


@pytest.mark.parametrize("number", [0, -1, "many"])
def test_a_number_out_of_bounds_is_refused_by_name(number: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)max_concurrent_envs.*input_value="):
        _max_sessions(NotesEnvironment, max_concurrent_envs=number)


def test_an_idle_session_is_closed_after_the_session_timeout() -> None:
    config = ConcurrencyConfig(max_concurrent_envs=4, session_timeout=0.2)
    app = create_app(NotesEnvironment, NoteAction, NoteObservation, concurrency_config=config)
    with TestClient(app) as client:

        def ends_after_an_answer() -> bool:
            with client.websocket_connect("/ws") as session:
                session.send_json({"type": "state"})
                first = session.receive_json()
                is_answer: bool = first["type"] == "state"
                ended = (session.receive_json() if is_answer else first)["data"]
                assert ended["code"] == "SESSION_ERROR"
                assert ended["message"] == "The session was idle for 0.2 seconds (session_timeout)"
                assert session.receive()["code"] == 1001
            return is_answer

        wait_until(ends_after_an_answer)  # on a busy machine the first may ask too late
