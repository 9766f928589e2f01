# SPDX-License-Identifier: BSD-3-Clause
"""The routes that authors' pages use. `test_custom_page.py` compares them with the framework's."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosedError
from websockets.sync import client as websocket_client

_GUESSING = Path(__file__).with_name("guessing.py")
_TIMEOUT = 60

connect = partial(websocket_client.connect, open_timeout=_TIMEOUT, ping_interval=None)


@pytest.fixture(scope="module")
def ours(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application=_GUESSING)


@pytest.fixture
def update(ours: Any) -> Iterator[Callable[[], Any]]:
    """Receives the next episode that our server sends to a page."""
    with connect(ours.ws_url + "/ui") as page:
        yield lambda: json.loads(page.recv(_TIMEOUT))["episode_state"]


def _ask(server: Any, path: str, body: Any = None, method: str = "POST", **how: Any) -> Any:
    return requests.request(
        method, server.url + path, json=body, timeout=_TIMEOUT, allow_redirects=False, **how
    )


def test_an_episode(ours: Any, update: Callable[[], Any]) -> None:
    update()
    reset = _ask(ours, "/web/reset", {"secret": 3, "episode_id": "an id", "unknown": True})
    assert reset.json() == {
        "observation": {"text": "Guess a number from 0 to 100", "metadata": {"seed": None}},
        "reward": None,
        "done": False,
        "metadata": {"seed": None},
    }
    assert update()["action_logs"] == []
    step = _ask(ours, "/web/step", {"action": {"number": 3}})
    observation = {"text": "right", "metadata": {}}
    assert step.json() == {"observation": observation, "reward": 1.0, "done": True}
    episode = update()
    (logged,) = episode["action_logs"]
    assert datetime.fromisoformat(logged.pop("timestamp"))
    assert logged == {
        "action": {"number": 3},
        "observation": observation,
        "reward": 1.0,
        "done": True,
        "step_count": 1,
    }
    assert (episode["episode_id"], episode["step_count"], episode["is_reset"]) == (
        "an id",
        1,
        False,
    )
    state = {"episode_id": "an id", "step_count": 1, "guesses": [3]}
    assert _ask(ours, "/web/state", method="GET").json() == state


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": {"number": "five"}}, ["body", "action", "number"]),
        ({"action": {"number": 101}}, ["body", "action", "number"]),
        ({"action": 5}, ["body", "action"]),
        ({"message": "five"}, ["body", "action", "number"]),
        ({}, ["body", "action", "number"]),
        (None, ["body"]),
    ],
)
def test_an_invalid_action_is_explained(ours: Any, body: Any, field: list[str]) -> None:
    answer = _ask(ours, "/web/step", body)
    assert answer.status_code == 422
    assert field in [entry["loc"] for entry in answer.json()["detail"]]


def test_a_failed_step_is_explained_and_the_episode_continues(
    ours: Any, update: Callable[[], Any]
) -> None:
    _ask(ours, "/web/reset", {"episode_id": "failing"})
    answers = [_ask(ours, "/web/step", {"action": {"number": n}}) for n in (99, 98, 1)]
    assert [answer.status_code for answer in answers] == [500, 500, 200]
    assert answers[0].json() == {"detail": "99 is never right", "code": "EXECUTION_ERROR"}
    assert "/secret" not in answers[1].text
    states = [update() for _ in range(3)]
    assert [len(state["action_logs"]) for state in states[1:]] == [0, 1]


def test_steps_of_several_clients_are_taken_one_after_the_other(ours: Any) -> None:
    _ask(ours, "/web/reset")
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(
            lambda number: _ask(ours, "/web/step", {"action": {"number": number}}), range(24)
        )
        assert {answer.status_code for answer in answers} == {200}
    assert sorted(_ask(ours, "/web/state", method="GET").json()["guesses"]) == list(range(24))


def test_the_environment_of_the_pages_takes_no_session(
    ours: Any, connect: Callable[..., Any]
) -> None:
    """The class allows one session."""
    _ask(ours, "/web/reset")
    assert _ask(ours, "/sessions", method="GET").json() == {"active_sessions": 0, "max_sessions": 1}
    assert connect(ours.ws_url).ask({"type": "reset"})["type"] == "observation"


@pytest.mark.slow
def test_the_last_thousand_steps_are_logged(ours: Any) -> None:
    _ask(ours, "/web/reset")
    with requests.Session() as client:
        for _ in range(1001):
            client.post(ours.url + "/web/step", json={"action": {"number": 1}}, timeout=_TIMEOUT)
    with connect(ours.ws_url + "/ui") as page:
        logs = json.loads(page.recv(_TIMEOUT))["episode_state"]["action_logs"]
    assert [entry["step_count"] for entry in logs] == list(range(2, 1002))


def test_pages_of_other_sites_and_clients_without_the_token_are_refused(
    start_shared_server: Callable[..., Any],
) -> None:
    guarded = start_shared_server(
        application=_GUESSING,
        env={"API_TOKEN": "a-rather-long-secret", "MAX_MESSAGE_BYTES": "2000"},
    )
    token = {"Authorization": "Bearer a-rather-long-secret"}
    foreign = {**token, "Origin": "https://elsewhere.example"}
    for path in ("/web/reset", "/web/step"):
        assert _ask(guarded, path, {}).status_code == 401
        assert _ask(guarded, path, {}, headers=foreign).status_code == 403
        assert _ask(guarded, path, {"x": "x" * 2000}, headers=token).status_code == 413
    for headers, status in ((None, 401), (foreign, 403)):
        with pytest.raises(Exception, match=str(status)):
            connect(guarded.ws_url + "/ui", additional_headers=headers)
    assert _ask(guarded, "/web/state", method="GET").status_code == 401
    assert _ask(guarded, "/web/reset", {}, headers=token).status_code == 200


def test_authors_may_replace_the_page(start_shared_server: Callable[..., Any]) -> None:
    """Some take the framework's routes out of the application and put their own in place."""
    server = start_shared_server(
        application=_GUESSING, env={"ENABLE_WEB_INTERFACE": "true", "REPLACE": "yes"}
    )
    page = requests.get(server.url, timeout=_TIMEOUT)
    assert (page.url, page.text) == (server.url + "/web/", "guessing: 0 steps")
    assert _ask(server, "/web/reset").status_code == 404


def test_a_stopping_server_does_not_wait_for_pages_to_close(
    start_server: Callable[..., Any],
) -> None:
    server = start_server(application=_GUESSING, env={"SHUTDOWN_GRACE_S": "3600"})
    with connect(server.ws_url + "/ui") as page:
        page.recv(_TIMEOUT)
        assert _ask(server, "/web/reset").status_code == 200
        page.recv(_TIMEOUT)
        server.process.terminate()
        with pytest.raises(ConnectionClosedError):
            page.recv(_TIMEOUT)
    assert page.close_code == 1012
    server.process.wait(_TIMEOUT)


def test_without_the_web_interface_there_are_no_such_routes(
    start_shared_server: Callable[..., Any],
) -> None:
    server = start_shared_server(application=_GUESSING, env={"ENABLE_WEB_INTERFACE": "false"})
    for path in ("/web/reset", "/web/step"):
        assert _ask(server, path, {}).status_code == 404
    for path in ("/web/state", "/web/metadata", "/web", "/web/"):
        assert _ask(server, path, method="GET").status_code == 404
    with pytest.raises(Exception, match="403"):
        connect(server.ws_url + "/ui")
