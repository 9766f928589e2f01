# SPDX-License-Identifier: BSD-3-Clause
"""`Episode`: what a session knows of its episode, and `LostEpisode`, what a pool tells of it."""

from dataclasses import dataclass
from typing import Any


class Episode:
    """The episode of a session, as far as requests and replies have shown it."""

    id: str | None = None
    seed: int | None = None
    steps = 0  # with a result
    is_running = False  # begun, and not over

    def begin(self, arguments: dict[str, Any]) -> None:
        """Begin with the arguments of a reset."""
        self.id = arguments.get("episode_id")
        self.seed = arguments.get("seed")
        self.steps = 0
        self.is_running = True

    def forget(self) -> None:
        """Forget it: a new session has none."""
        self.id = self.seed = None
        self.steps = 0
        self.is_running = False


@dataclass(frozen=True)
class LostEpisode:
    """An episode that ended with its session, before the environment was done with it."""

    index: int
    """Of the session in its pool."""
    server: str
    """The address of its server, without secrets."""
    episode_id: str | None
    seed: int | None
    """As given to `reset`; `None` if none was."""
    steps: int
    """The number of steps whose results the pool returned. The next one may have been under way."""
    reason: str
