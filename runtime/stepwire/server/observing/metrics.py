# SPDX-License-Identifier: BSD-3-Clause
"""The figures of this process, for `/metrics`: whole numbers in lists.

Whatever is counted adds to a number in place; `exposition.py` makes metrics of them at a scrape.
Workers that share their places write their figures into shared memory. A worker that takes the seat
of one that died goes on with its counts, so no counter decreases.
"""

import asyncio
import os
from importlib.util import find_spec
from operator import add
from time import perf_counter_ns as now
from typing import Any, Protocol
from weakref import WeakSet

from openenv.core.env_server.exceptions import EnvironmentFactoryError, SessionCapacityError
from openenv.core.env_server.mcp_types import JsonRpcErrorCode
from openenv.core.env_server.types import WSErrorCode

from stepwire.server.places import FIGURES
from stepwire.server.workers import joined

ENABLED = find_spec("prometheus_client") is not None
"""Whether steps and bytes are counted; without the extra `metrics`, they are not."""

SUM = 64
_HISTOGRAM = SUM + 1
# A histogram of nanoseconds: how many had each `bit_length`, then the sum of all.
waiting_times, environment_times, encoding_times, lags = ([0] * _HISTOGRAM for _ in range(4))
HISTOGRAMS = {
    name: slice(place * _HISTOGRAM, (place + 1) * _HISTOGRAM)
    for place, name in enumerate(("waiting", "environment", "encoding", "lag"))
}
"""Where they are among all figures."""

COUNTS = 4 * _HISTOGRAM
"""Where `counts` begin among all figures."""
RECEIVED, SENT, OPENED, EPISODES = range(4)
REASONS = {"capacity": 4, "factory": 5, "stopping": 6}
CODES: dict[Any, int] = {
    code: place for place, code in enumerate((*WSErrorCode, *JsonRpcErrorCode), 7)
}
# What a worker has only as long as it lives.
OPEN, MOST, STOPPING, PROCESS = range(FIGURES - COUNTS - 4, FIGURES - COUNTS)
counts = [0] * (FIGURES - COUNTS)
_OF_LIVING, _NONE = slice(FIGURES - 4, FIGURES), [0] * 4

_TICK_S = 0.5


class CountedSessions(Protocol):
    """The sessions of one application."""

    draining: bool

    @property
    def active(self) -> int: ...
    @property
    def capacity(self) -> int: ...


class Observer:
    """Counts the sessions of an application, and watches the event loop that it runs on."""

    def __init__(self, sessions: CountedSessions) -> None:
        self.sessions = sessions
        self._tick: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to observe, on the running event loop, until `stop`."""
        _take_over()
        _running.add(self)
        _write()
        if ENABLED:
            self._watch(asyncio.get_running_loop())

    def stop(self) -> None:
        """End what `start` began."""
        if self._tick is not None:
            self._tick.cancel()
        _running.discard(self)
        _write()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not a task: an application that is mounted in another is never stopped.
        due = loop.time() + _TICK_S

        def tick() -> None:
            late = max(0, int((loop.time() - due) * 1e9))
            lags[late.bit_length()] += 1
            lags[SUM] += late
            _write()
            self._watch(loop)

        self._tick = loop.call_at(due, tick)


_running: WeakSet[Observer] = WeakSet()  # not all of them are stopped
_has_taken_over = False


def _take_over() -> None:
    """Go on with the counts of the worker that had the seat before; once in a process."""
    global _has_taken_over
    workers = joined()
    if workers is None or _has_taken_over:
        return
    _has_taken_over = True
    before = workers.figures(workers.row)
    before[_OF_LIVING] = _NONE
    begin = 0
    for own in (waiting_times, environment_times, encoding_times, lags, counts):
        own[:] = map(add, own, before[begin:])
        begin += len(own)


def _write() -> list[int]:
    """All figures of this process, which other workers can read from now on."""
    running = [observer.sessions for observer in _running]
    counts[OPEN] = sum(sessions.active for sessions in running)
    counts[MOST] = sum(sessions.capacity for sessions in running)
    counts[STOPPING] = any(sessions.draining for sessions in running)
    counts[PROCESS] = os.getpid()
    figures = [*waiting_times, *environment_times, *encoding_times, *lags, *counts]
    if (workers := joined()) is not None:
        workers.show(figures)
    return figures


def read() -> dict[int, list[int]]:
    """The figures of each worker, by its row; those of one that has died lack its `PROCESS`."""
    own = _write()
    workers = joined()
    if workers is None:
        return {0: own}
    with workers.locked() as others:
        living = {workers.row, *others}
    found = {row: workers.figures(row) for row in range(workers.rows)}
    for row in found.keys() - living:
        found[row][_OF_LIVING] = _NONE
    return {row: figures for row, figures in found.items() if any(figures)}


def note_refusal(error: Exception) -> None:
    """Count a session that was refused."""
    reasons = {SessionCapacityError: "capacity", EnvironmentFactoryError: "factory"}
    counts[REASONS[reasons.get(type(error), "stopping")]] += 1


def note_step(arrived: int, began: int, ended: int, span: "list[int] | None") -> None:
    """Count a step whose reply has just been encoded, by the times of `now`.

    The environment was called at `began` and had answered at `ended`; where a thread called it,
    `span` has the times between which it ran.
    """
    encoding = now() - ended
    # A step that called a tool leaves the span of an earlier one.
    has_span = span is not None and span[0] >= began
    environment = span[1] - span[0] if span is not None and has_span else ended - began
    waiting = ended - arrived - environment
    waiting_times[waiting.bit_length()] += 1
    waiting_times[SUM] += waiting
    environment_times[environment.bit_length()] += 1
    environment_times[SUM] += environment
    encoding_times[encoding.bit_length()] += 1
    encoding_times[SUM] += encoding
