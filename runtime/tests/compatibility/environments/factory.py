# SPDX-License-Identifier: BSD-3-Clause
"""Made by a function over a backend that all sessions share."""

from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Put(Action):
    key: str
    value: Any = None


class Store(Observation):
    keys: list[str] = []


class Backend:
    def __init__(self) -> None:
        self.connections = 0


class Storing(Environment[Put, Store, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._data: dict[str, Any] = {}

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Store:
        self._data.clear()
        return Store()

    def step(self, action: Put, timeout_s: float | None = None, **kwargs: Any) -> Store:
        self._data[action.key] = action.value
        return Store(keys=sorted(self._data), metadata={"kept": self._data[action.key]})

    @property
    def state(self) -> State:
        return State(episode_id="store", step_count=len(self._data))


backend = Backend()


def make_store() -> Storing:
    return Storing(backend)


app = create_app(make_store, Put, Store, "store")
