# SPDX-License-Identifier: BSD-3-Clause
"""Scored by a rubric of two parts; a transform adds to each observation."""

from typing import Any

from openenv.core.env_server.interfaces import Environment, Transform
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.rubrics import Rubric, WeightedSum

from compatibility.served_by import create_app


class Answer(Action):
    text: str


class Verdict(Observation):
    text: str = ""
    marked: bool = False


class Short(Rubric):
    def forward(self, action: Answer, observation: Verdict) -> float:
        return 1.0 if len(action.text) <= 5 else 0.0


class Polite(Rubric):
    def forward(self, action: Answer, observation: Verdict) -> float:
        return 1.0 if "please" in observation.text else 0.0


class Mark(Transform[Verdict]):
    def __call__(self, observation: Verdict) -> Verdict:
        observation.marked = True
        return observation


class Quiz(Environment[Answer, Verdict, State]):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__(transform=Mark(), rubric=WeightedSum([Short(), Polite()], [0.25, 0.75]))

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> Verdict:
        self._reset_rubric()
        return self._apply_transform(Verdict(text="?"))

    def step(self, action: Answer, timeout_s: float | None = None, **kwargs: Any) -> Verdict:
        seen = Verdict(text=action.text)
        seen.reward = self._apply_rubric(action, seen)
        return self._apply_transform(seen)

    @property
    def state(self) -> State:
        assert self.rubric is not None
        return State(episode_id="quiz", last_score=self.rubric.last_score)


app = create_app(Quiz, Answer, Verdict, max_concurrent_envs=4)
