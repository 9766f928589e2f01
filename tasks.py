# SPDX-License-Identifier: BSD-3-Clause
"""Echo's tasks: messages to send back, which `reset(split="test", index=0)` starts an episode with.

The server finds the methods by their names and answers the routes of the Task API with them.
"""

from typing import Any

MESSAGES = {
    "train": ("Hello, World!", "Testing echo", "", "two\nlines", " spaces around ", "naïve café"),
    "test": ("こんにちは", "👩‍🚀", '"quotes" and \\ backslashes', "<b>&amp;</b>"),
}


class NoSuchTaskError(IndexError, ValueError):
    """An `IndexError` is a 400 of the Task API; a `ValueError` shows its text to who resets."""


class EchoTasks:
    """All that an environment with tasks needs. None of the methods changes it."""

    def list_splits(self) -> list[str]:
        return list(MESSAGES)

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        if split not in self.list_splits():
            raise NoSuchTaskError(f"split: {split!r:.80} is none of {self.list_splits()}")
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
        raise NoSuchTaskError(f"index: {index!r:.80} is none of 0 to {last}, the tasks of {split}")

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        return self.list_tasks(split)[start:stop]
