# SPDX-License-Identifier: BSD-3-Clause
"""A set of tasks, for the Task API of `openenv` 0.4.2 and later."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app

TASKS = {
    "train": [{"id": f"train-{n}", "sum": [n, n + 1]} for n in range(5)],
    "test": [{"id": "test-0", "sum": [20, 22]}],
}


class Say(Action):
    number: int


class Sum(Observation):
    of: list[int] = []


class Sums(Environment[Say, Sum, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._task: dict[str, Any] = TASKS["train"][0]

    def list_splits(self) -> list[Any]:
        return ["train", {"name": "test", "type": "test"}]

    async def list_tasks(self, split: str) -> list[Any]:
        return list(TASKS[split])

    def num_tasks(self, split: str) -> int:
        return len(TASKS[split])

    def get_task(self, split: str, index: int) -> Any:
        return TASKS[split][index]

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[Any]:
        return list(TASKS[split][start:stop])

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str = "train",
        index: int = 0,
        **kwargs: Any,
    ) -> Sum:
        self._task = TASKS[split][index]
        return Sum(of=self._task["sum"])

    def step(self, action: Say, timeout_s: float | None = None, **kwargs: Any) -> Sum:
        right = action.number == sum(self._task["sum"])
        return Sum(of=self._task["sum"], done=True, reward=float(right))

    @property
    def state(self) -> State:
        return State(episode_id=self._task["id"])


app = create_app(Sums, Say, Sum, env_name="sums", max_concurrent_envs=4)
