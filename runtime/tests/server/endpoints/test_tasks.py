# SPDX-License-Identifier: BSD-3-Clause
"""The Task API. What it answers is checked against the stock server too, where that has one."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import requests

try:
    _SERVERS = ["ours", "stock"] if version("openenv") else []
except PackageNotFoundError:
    _SERVERS = ["ours"]

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def tasks_server(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application=Path(__file__).parent.with_name("served_tasks.py"))


@pytest.fixture(params=_SERVERS)
def address(request: pytest.FixtureRequest, tasks_server: Any) -> str:
    return f"{tasks_server.url}/{request.param}"


@pytest.fixture
def ask(address: str) -> Ask:
    """GETs a path, or POSTs a body to it; the status and the answer."""

    def ask_one(path: str, **body: Any) -> tuple[int, Any]:
        method = "POST" if body else "GET"
        answer = requests.request(method, f"{address}/{path}", json=body or None, timeout=60)
        return answer.status_code, answer.json()

    return ask_one


@pytest.fixture
def counts(tasks_server: Any) -> Callable[[], Any]:
    """How many environments of each class were made and closed since the last call."""
    return lambda: requests.get(f"{tasks_server.url}/counts", timeout=60).json()


_TASKS = [{"id": f"train-{index}", "tags": ["a", 1.5, None]} for index in range(3)]


def test_splits_get_a_type_and_tasks_are_sent_as_json(ask: Ask) -> None:
    assert ask("tasked/list_environments") == (200, ["Tasked_Env"])
    splits = [
        {"name": "train", "type": "train"},
        {"name": "test", "type": "test", "size": 2},
        {"name": "held out", "type": "validation"},
    ]
    assert ask("tasked/Tasked_Env/splits") == (200, splits)
    tasks = {"tasks": _TASKS, "env_name": "Tasked_Env"}
    assert ask("tasked/Tasked_Env/tasks", split="train") == (200, tasks)
    assert ask("tasked/Tasked_Env/num_tasks", split="held out") == (200, {"num_tasks": 1})
    kinds = [
        {"id": "train-0", "answer": {"name": "nested", "type": "test", "size": 1}},
        {"id": "train-1"},
        {"name": "train-2", "type": "model", "size": 1},
    ]
    for index, task in enumerate(kinds):
        answer = ask("tasked/Tasked_Env/task", split="train", index=index)
        assert answer == (200, {"task": task})


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, _TASKS),
        ({"start": 1}, _TASKS[1:]),
        ({"stop": 1, "start": None}, _TASKS[:1]),
        ({"start": -2, "stop": -1}, _TASKS[1:2]),
        ({"start": 5, "stop": 9}, []),
    ],
    ids=str,
)
def test_a_range_has_the_bounds_of_a_slice(ask: Ask, bounds: Any, expected: Any) -> None:
    assert ask("tasked/Tasked_Env/task_range", split="train", **bounds) == (
        200,
        {"tasks": expected},
    )


def test_methods_may_be_asynchronous(ask: Ask) -> None:
    assert ask("async/list_environments") == (200, ["AsyncTasked"])
    splits = [{"name": "train", "type": "train", "size": 3}, {"name": "7", "type": "validation"}]
    assert ask("async/AsyncTasked/splits") == (200, splits)
    assert ask("async/AsyncTasked/num_tasks", split="test") == (200, {"num_tasks": 2})


def test_a_task_that_does_not_exist_is_a_bad_request(ask: Ask) -> None:
    for index in (-1, 3):
        answer = ask("tasked/Tasked_Env/task", split="train", index=index)
        assert answer == (400, {"detail": "Invalid task index"})
    answer = ask("async/AsyncTasked/task", split="train", index=0)
    assert answer == (400, {"detail": "Invalid task index"})


@pytest.mark.parametrize("name", ["tasked_env", "TASKED_ENV"])
def test_the_case_of_the_name_does_not_matter(ask: Ask, name: str) -> None:
    status, answer = ask(f"tasked/{name}/tasks", split="test")
    assert (status, answer["env_name"]) == (200, "Tasked_Env")


def test_another_name_is_not_found(ask: Ask, counts: Callable[[], Any]) -> None:
    counts()
    answer = 404, {"detail": "unknown environment 'Tasked'"}
    assert ask("tasked/Tasked/splits") == answer
    for route in ("tasks", "num_tasks", "task_range"):
        assert ask(f"tasked/Tasked/{route}", split="train") == answer
    assert ask("tasked/Tasked/task", split="train", index=0) == answer
    assert set(map(tuple, counts().values())) == {(0, 0)}


def test_a_route_of_the_author_wins_where_the_framework_has_no_task_api(ask: Ask) -> None:
    answers = {
        True: (404, {"detail": "unknown environment 'own'"}),  # as on its server
        False: (200, "the author's"),
    }
    assert ask("tasked/own/tasks", split="train") == answers["stock" in _SERVERS]


def test_what_an_environment_does_not_offer_is_not_implemented(ask: Ask) -> None:
    def refusal(method: str) -> Any:
        return 501, {"detail": f"{method} is not supported for this environment"}

    assert ask("untasked/list_environments") == (200, ["Untasked"])
    assert ask("untasked/Untasked/splits") == refusal("list_splits")
    assert ask("untasked/Untasked/tasks", split="a") == refusal("list_tasks")
    assert ask("untasked/Untasked/num_tasks", split="a") == refusal("num_tasks")
    assert ask("untasked/Untasked/task", split="a", index=0) == refusal("get_task")
    assert ask("untasked/Untasked/task_range", split="a") == refusal("get_task_range")
    # One method is missing, one raises NotImplementedError.
    assert ask("async/AsyncTasked/tasks", split="train") == refusal("list_tasks")
    assert ask("async/AsyncTasked/task_range", split="train") == refusal("get_task_range")


@pytest.mark.parametrize(
    ("route", "body", "errors"),
    [
        ("tasks", {"split": None}, [("string_type", ["body", "split"])]),
        ("num_tasks", {"other": 1}, [("missing", ["body", "split"]), ("extra_forbidden", None)]),
        ("task", {"split": "train"}, [("missing", ["body", "index"])]),
        ("task", {"split": "train", "index": 0.5}, [("int_from_float", ["body", "index"])]),
        ("task_range", {"split": "a", "start": "x"}, [("int_parsing", ["body", "start"])]),
    ],
    ids=str,
)
def test_an_invalid_body_is_refused(
    ask: Ask, counts: Callable[[], Any], route: str, body: Any, errors: Any
) -> None:
    counts()
    status, answer = ask(f"tasked/unknown/{route}", **body)  # the body is looked at first
    assert status == 422
    for found, (kind, location) in zip(answer["detail"], errors, strict=True):
        assert found["type"] == kind
        assert location in (None, found["loc"])
    assert set(map(tuple, counts().values())) == {(0, 0)}


def test_each_request_makes_one_environment_and_closes_it(
    ask: Ask, counts: Callable[[], Any]
) -> None:
    counts()
    ask("tasked/list_environments")
    assert counts()["Tasked"] == [0, 0]
    ask("tasked/Tasked_Env/splits")
    ask("tasked/Tasked_Env/task", split="train", index=9)
    assert counts()["Tasked"] == [2, 2]
    ask("untasked/Untasked/splits")
    assert counts()["Untasked"] == [1, 1]


def test_a_factory_without_a_name_is_called_environment(ask: Ask) -> None:
    assert ask("partial/list_environments") == (200, ["environment"])
    assert ask("partial/environment/num_tasks", split="test") == (200, {"num_tasks": 2})


def test_reset_starts_a_task(ask: Ask, address: str, connect: Callable[..., Any]) -> None:
    chosen = {"split": "test", "index": 1}
    for name in ("tasked", "async"):
        status, answer = ask(f"{name}/reset", **chosen)
        assert (status, answer["metadata"]) == (200, chosen)
        conversation = connect(f"{address.replace('http', 'ws', 1)}/{name}/ws")
        conversation.ask({"type": "reset", "data": chosen})
        state = conversation.ask({"type": "state"})["data"]
        assert {key: state.get(key) for key in chosen} == chosen


if "stock" in _SERVERS:

    def test_the_frameworks_own_environment_with_tasks_answers_alike(
        tasks_server: Any, connect: Callable[..., Any]
    ) -> None:
        def ask(server: str, route: str, **body: Any) -> Any:
            url = f"{tasks_server.url}/{server}/harbor/{route}"
            answer = requests.request("POST" if body else "GET", url, json=body or None, timeout=60)
            return answer.status_code, answer.json()

        _, (split,) = ask("stock", "harbor/splits")
        name = split["name"]
        asked: list[tuple[str, Any]] = [
            ("list_environments", {}),
            ("harbor/splits", {}),
            ("harbor/tasks", {"split": name}),
            ("harbor/num_tasks", {"split": name}),
            *(("harbor/task", {"split": name, "index": index}) for index in (0, 1, 2, -1)),
            ("harbor/task_range", {"split": name, "start": 1}),
        ]
        for route, body in asked:
            assert ask("ours", route, **body) == ask("stock", route, **body), route
        assert ask("ours", "harbor/num_tasks", split=name) == (200, {"num_tasks": 2})
        base = tasks_server.ws_url.removesuffix("/ws")
        reset = {"type": "reset", "data": {"episode_id": "mine", "split": name, "index": 1}}
        ours, stock = (
            [talk.ask(reset), talk.ask({"type": "state"})]
            for talk in (connect(f"{base}/{server}/harbor/ws") for server in _SERVERS)
        )
        assert ours == stock


def test_what_is_not_json_is_sent_as_in_observations(tasks_server: Any) -> None:
    url = f"{tasks_server.url}/ours/tasked/Tasked_Env/task"
    answer = requests.post(url, json={"split": "held out", "index": 0}, timeout=60)
    assert answer.json() == {"task": {"day": "2026-11-27", "parts": ["one"], "folder": "a/b"}}


def test_a_failure_has_no_internals(tasks_server: Any) -> None:
    url = f"{tasks_server.url}/ours/tasked/Tasked_Env/num_tasks"
    answer = requests.post(url, json={"split": "/secret/path"}, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (500, "EXECUTION_ERROR")
    assert "secret" not in answer.text


def test_bodies_have_the_limits_of_the_other_routes(tasks_server: Any) -> None:
    url = f"{tasks_server.url}/ours/tasked/Tasked_Env/num_tasks"
    for body in (b'{"split": "\\ud800"}', b'{"split": ' + b"[" * 150 + b"]" * 150 + b"}", b"{"):
        answer = requests.post(url, data=body, timeout=60)
        assert answer.status_code == 422, answer.text
