# SPDX-License-Identifier: BSD-3-Clause
"""The notes environment."""

from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment

from notes_env.models import NoteAction, NoteObservation, NotesState


def read_note(text: str) -> str:
    """Read a note."""
    return text


def measure_note(text: str) -> dict[str, Any]:
    """Read a note together with its length in Unicode code points."""
    return {"text": text, "length": len(text)}


class NotesEnvironment(Environment[NoteAction, NoteObservation, NotesState]):
    """Takes notes and rewards their length."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    BLOCKING = False
    TOOLS = (read_note, measure_note)

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
    ) -> NoteObservation:
        episode_id = str(uuid4()) if episode_id is None else episode_id
        self._episode: dict[str, Any] = {
            "episode_id": episode_id,
            "step_count": 0,
            "characters": 0,
        }
        if seed is not None:
            self._episode["seed"] = seed
        return NoteObservation(text="Ready for notes", reward=0.0)

    def step(
        self, action: NoteAction, timeout_s: float | None = None, **kwargs: Any
    ) -> NoteObservation:
        length = len(action.text)
        self._episode["step_count"] += 1
        self._episode["characters"] += length
        return NoteObservation(
            text=action.text,
            length=length,
            reward=length * action.weight,
            metadata={"original_text": action.text, "step": self._episode["step_count"]},
        )

    @property
    def state(self) -> NotesState:
        return NotesState(**self._episode)

    # As many tasks as there are numbers, in every split there is.
    def list_splits(self) -> list[str]:
        return ["train"]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        return [self.get_task(split, 0)]

    def num_tasks(self, split: str) -> int:
        return 1

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        return {"split": split, "index": index}

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        return self.list_tasks(split)[start:stop]

    def dump_state(self) -> dict[str, Any]:
        return dict(self._episode)

    def load_state(self, state: dict[str, Any]) -> None:
        self._episode = dict(state)
