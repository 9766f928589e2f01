# SPDX-License-Identifier: BSD-3-Clause
"""Echo's tasks: as the environment has them, over the Task API, and in an episode."""

from typing import Any

import pytest
import requests

from echo_env import EchoAction, EchoEnv
from echo_env.server.echo_env_environment import EchoEnvironment
from echo_env.tasks import MESSAGES, NoSuchTaskError


def test_every_task_is_found_by_its_split_and_index() -> None:
    environment = EchoEnvironment()
    found = []
    for split in environment.list_splits():
        tasks = environment.list_tasks(split)
        assert environment.num_tasks(split) == len(tasks) > 1
        assert [environment.get_task(split, index) for index in range(len(tasks))] == tasks
        assert environment.get_task_range(split) == tasks
        assert environment.get_task_range(split, 1, 2) == tasks[1:2]
        found += tasks
    assert len({task["id"] for task in found}) == len({task["message"] for task in found})
    assert EchoEnvironment().list_tasks("test") == environment.list_tasks("test")


@pytest.mark.parametrize("index", [-1, 6, 0.5, "0", None, [0]], ids=repr)
def test_another_index_is_refused(index: Any) -> None:
    with pytest.raises(NoSuchTaskError, match="index must be 0 to 5 in 'train'"):
        EchoEnvironment().get_task("train", index)


@pytest.mark.parametrize("split", ["", "Train", 7, ["train"], "x" * 1000], ids=repr)
def test_another_split_is_refused(split: Any) -> None:
    with pytest.raises(NoSuchTaskError, match=r"must be one of \['train', 'test'\]") as refusal:
        EchoEnvironment().reset(split=split)
    assert len(str(refusal.value)) < 200


def test_an_episode_names_its_task() -> None:
    environment = EchoEnvironment()
    task = environment.get_task("test", 1)
    assert environment.reset(split="test", index=1).metadata["task"] == task
    environment.step(EchoAction(message=task["message"]))
    assert environment.state.model_dump()["task"] == task
    assert "task" not in environment.reset().metadata
    assert "task" not in environment.state.model_dump()


def test_a_seed_chooses_where_the_index_does_not() -> None:
    environment = EchoEnvironment()
    chosen = [environment.reset(seed=seed, split="test").metadata["task"] for seed in range(5)]
    assert [task["index"] for task in chosen] == [0, 1, 2, 3, 0]
    assert environment.reset(split="test").metadata["task"]["index"] == 0


def test_the_task_api_offers_them(server: Any) -> None:
    names = requests.get(f"{server.url}/list_environments", timeout=60).json()
    assert names == ["echo_env"]
    splits = requests.get(f"{server.url}/echo_env/splits", timeout=60).json()
    assert splits == [{"name": name, "type": name} for name in MESSAGES]
    for split, messages in MESSAGES.items():
        listed = _post(server, "echo_env/tasks", split=split)["tasks"]
        assert [task["message"] for task in listed] == list(messages)
        count = _post(server, "echo_env/num_tasks", split=split)
        assert count == {"num_tasks": len(messages)}
    body = {"split": "nowhere", "index": 0}
    refused = requests.post(f"{server.url}/echo_env/task", json=body, timeout=60)
    assert (refused.status_code, refused.json()) == (400, {"detail": "Invalid task index"})


def test_an_agent_solves_each_task(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        for task in _post(server, "echo_env/tasks", split="test")["tasks"]:
            result = env.reset(split="test", index=task["index"])
            assert result.observation.metadata["task"] == task
            result = env.step(EchoAction(message=task["message"]))
            assert result.observation.echoed_message == task["message"]
            assert result.reward == len(task["message"]) * 0.1
            assert env.state().model_dump()["task"] == task
        with pytest.raises(Exception, match="index must be 0 to 3 in 'test'"):
            env.reset(split="test", index=9)


def test_a_task_lasts_over_http(server: Any) -> None:
    with requests.Session() as session:
        ready = session.post(f"{server.url}/reset", json={"split": "train", "index": 5}, timeout=60)
        task = ready.json()["metadata"]["task"]
        session.post(f"{server.url}/step", json={"action": {"message": "Hi"}}, timeout=60)
        assert session.get(f"{server.url}/state", timeout=60).json()["task"] == task


def _post(server: Any, route: str, **body: Any) -> Any:
    return requests.post(f"{server.url}/{route}", json=body, timeout=60).json()
