# SPDX-License-Identifier: BSD-3-Clause
"""Pings that find out, while a call waits, whether the server is still there.

A server that is busy computing answers pings all the same; one that is gone does not. So a dead
connection is noticed long before the reply is overdue.
"""

import math


class Liveness:
    """When to ping and when to give up. Times are seconds of the monotonic clock."""

    def __init__(self, interval_s: float | None, timeout_s: float | None) -> None:
        """Ping after `interval_s` of silence, and give up `timeout_s` later without an answer.

        `None` as interval means no pings, `None` as timeout means that answers are not required.
        """
        self.interval_s = math.inf if interval_s is None else interval_s
        self._timeout_s = timeout_s
        self._due = math.inf
        self._awaits_pong = False

    def heard(self, now: float) -> None:
        """Start the interval anew: something arrived, or a call begins."""
        self._due = now + self.interval_s
        self._awaits_pong = False

    def wake_at(self, deadline: float) -> float:
        """The time until which the call may wait before it asks `is_ping_due` again."""
        return min(deadline, self._due)

    def is_ping_due(self, now: float) -> bool:
        """Whether to ping now. Raises `NoPongError` when the last ping was not answered."""
        if now < self._due:
            return False
        if self._awaits_pong:
            raise NoPongError(f"it did not answer a ping within {self._timeout_s:g} s")
        self._awaits_pong = self._timeout_s is not None
        self._due = now + (self.interval_s if self._timeout_s is None else self._timeout_s)
        return True


class NoPongError(OSError):
    """The server did not answer a ping."""
