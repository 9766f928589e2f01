# SPDX-License-Identifier: BSD-3-Clause
"""Holds a SQLite connection, which only the thread that opened it may use."""

import sqlite3
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from compatibility.served_by import create_app


class Query(Action):
    sql: str


class Rows(Observation):
    rows: list[list[Any]] = []


class Database(Environment[Query, Rows, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("create table words (id integer primary key, word text)")

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Rows:
        self._connection.execute("delete from words")
        return Rows()

    def step(self, action: Query, timeout_s: float | None = None, **kwargs: Any) -> Rows:
        found = self._connection.execute(action.sql).fetchall()
        return Rows(rows=[list(row) for row in found], reward=float(len(found)))

    @property
    def state(self) -> State:
        return State(episode_id="words")

    def close(self) -> None:
        self._connection.close()


app = create_app(Database, Query, Rows, max_concurrent_envs=4)
