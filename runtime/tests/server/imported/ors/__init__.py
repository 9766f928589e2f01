# SPDX-License-Identifier: BSD-3-Clause
"""As much of the package `ors` as an environment written for it needs."""

from typing import Any


class Thing:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def model_dump(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Environment:
    def __init__(self, task_spec: Any = None, secrets: Any = None) -> None:
        self.task_spec = task_spec

    def setup(self) -> None:
        pass

    def teardown(self) -> None:
        pass
