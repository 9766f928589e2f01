# SPDX-License-Identifier: BSD-3-Clause
"""Echo's tasks, each a message to send back. `reset(split="test", index=0)` starts one.

The server finds the methods by their names and answers the routes of the Task API with them.
"""

from typing import Any

MESSAGES = {
    "train": ("Hello, World!", "Testing echo", "", "two\nlines", " spaces around ", "naïve café"),
    "test": ("こんにちは", "👩‍🚀", '"quotes" and \\ backslashes', "<b>&amp;</b>"),
}


class NoSuchTaskError(IndexError, ValueError):
    """The Task API answers an `IndexError` with 400; a reset sends the text of a `ValueError`."""


class EchoTasks:
    """All that an environment with tasks needs. None of the methods changes it."""

    def chosen_task(
        self, seed: int | None, split: str | None, index: int | None
    ) -> dict[str, dict[str, Any]]:
        """The task of an episode with a `split`: its task `index`, or the one `seed` chooses."""
        if split is None:
            return {}
        index = (seed or 0) % self.num_tasks(split) if index is None else index
        return {"task": self.get_task(split, index)}

    def list_splits(self) -> list[str]:
        return list(MESSAGES)

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        if split not in self.list_splits():
            raise NoSuchTaskError(f"split must be one of {self.list_splits()}, not {split!r:.80}")
        return [
            {"id": f"{split}-{index}", "split": split, "index": index, "message": message}
            for index, message in enumerate(MESSAGES[split])
        ]

    def num_tasks(self, split: str) -> int:
        return len(self.list_tasks(split))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        for task in self.list_tasks(split):
            if task["index"] == index:
                return task
        last = self.num_tasks(split) - 1
        raise NoSuchTaskError(f"index must be 0 to {last} in {split!r}, not {index!r:.80}")

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        return self.list_tasks(split)[start:stop]
