# SPDX-License-Identifier: BSD-3-Clause
"""Whether the server still lives, while a call waits for it: a ping asks, a pong answers.

A server that computes answers pings all the same, in its protocol; one that is gone, or behind a
line that is, does not. So a dead line is noticed long before a long reply would be overdue.
"""

import math


class Liveness:
    """When to ping and when to give up, in seconds of the monotonic clock."""

    def __init__(self, interval_s: float | None, timeout_s: float | None) -> None:
        """Ping after `interval_s` of silence; without a pong `timeout_s` later, the line is dead.

        Without `interval_s` there are no pings, without `timeout_s` no pong is waited for.
        """
        self.interval_s = math.inf if interval_s is None else interval_s
        self._timeout_s = timeout_s
        self._due = math.inf
        self._awaits_pong = False

    def heard(self, now: float) -> None:
        """Something arrived, or a call begins."""
        self._due = now + self.interval_s
        self._awaits_pong = False

    def wake_at(self, deadline: float) -> float:
        """Until when to wait for the reply before `is_ping_due` is to be asked."""
        return min(deadline, self._due)

    def is_ping_due(self, now: float) -> bool:
        """Whether to ping now; raises `DeadLineError` when the last one was not answered."""
        if now < self._due:
            return False
        if self._awaits_pong:
            raise DeadLineError(f"it did not answer a ping within {self._timeout_s:g} s")
        self._awaits_pong = self._timeout_s is not None
        self._due = now + (self.interval_s if self._timeout_s is None else self._timeout_s)
        return True


class DeadLineError(OSError):
    """Nobody is at the other end any more."""
