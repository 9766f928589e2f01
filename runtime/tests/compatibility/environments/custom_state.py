# SPDX-License-Identifier: BSD-3-Clause
"""A `State` with fields of its own, including nested models and undeclared fields."""

from datetime import date
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import BaseModel

from compatibility.served_by import create_app


class Item(BaseModel):
    name: str
    price: float


class Buy(Action):
    item: Item
    on: date = date(2026, 1, 31)


class Receipt(Observation):
    paid: float = 0.0
    on: date | None = None


class Basket(State):
    budget: float = 10.0
    items: list[Item] = []


class Shopping(Environment[Buy, Receipt, Basket]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._state = Basket(episode_id="none")

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Receipt:
        self._state = Basket(episode_id=episode_id, budget=float(kwargs.get("budget", 10.0)))
        return Receipt()

    def step(self, action: Buy, timeout_s: float | None = None, **kwargs: Any) -> Receipt:
        self._state.step_count += 1
        self._state.items = [*self._state.items, action.item]
        self._state.budget -= action.item.price
        self._state.last = action.item.name
        return Receipt(paid=action.item.price, on=action.on, done=self._state.budget <= 0)

    @property
    def state(self) -> Basket:
        return self._state


app = create_app(Shopping, Buy, Receipt, max_concurrent_envs=2)
