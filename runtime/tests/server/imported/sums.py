# SPDX-License-Identifier: BSD-3-Clause
"""An environment for ORS, which `openenv import` makes one of OpenEnv."""

from typing import Any

from ors import Environment, Thing

SUMS = {"train": [[1, 1], [2, 2]], "test": [[3, 4]]}


class Sums(Environment):
    @classmethod
    def list_splits(cls) -> list[Any]:
        return [Thing(name=name, type=name) for name in SUMS]

    @classmethod
    def list_tasks(cls, split: str) -> list[Any]:
        return [{"id": f"{split}-{i}", "sum": terms} for i, terms in enumerate(SUMS[split])]

    @classmethod
    def num_tasks(cls, split: str) -> int:
        return len(SUMS[split])

    @classmethod
    def get_task(cls, split: str, index: int) -> Any:
        return cls.list_tasks(split)[index]

    @classmethod
    def get_task_range(cls, split: str, start: Any = None, stop: Any = None) -> list[Any]:
        return cls.list_tasks(split)[start:stop]

    @classmethod
    def list_tools(cls) -> Any:
        schema = {"type": "object", "properties": {"value": {"type": "integer"}}}
        return Thing(tools=[Thing(name="answer", description="Answer", input_schema=schema)])

    def list_task_tools(self) -> Any:
        return Thing(tools=[])

    def get_prompt(self) -> list[Any]:
        return [Thing(type="text", text=f"Add {self.task_spec['sum']}")]

    def _call_tool(self, name: str, arguments: Any) -> Any:
        if name != "answer":
            return Thing(ok=False, error=f"There is no tool {name}")
        is_right = arguments.get("value") == sum(self.task_spec["sum"])
        output = Thing(
            blocks=[Thing(type="text", text=str(is_right))],
            metadata={"is_right": is_right},
            reward=float(is_right),
            finished=True,
        )
        return Thing(ok=True, output=output)
