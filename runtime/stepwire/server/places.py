# SPDX-License-Identifier: BSD-3-Clause
"""The places for sessions: of a single process, or shared by the workers of one server.

Workers count their sessions in shared memory, a row of numbers each. The kernel holds the locks,
and lets go of them when a process ends. So the sessions of a worker stop counting when it dies, and
a worker that dies while it counts does not hold up the others.
"""

import mmap
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from typing import Any

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf

CAN_SHARE = sys.platform == "linux"
"""Whether this system has what workers need to share their places."""

MOST_APPLICATIONS = 60
"""Applications of one process whose places are shared; further ones have places in each worker."""

FIGURES = 384
"""Numbers of a worker for `/metrics`, which the next worker in its row goes on with."""

# The numbers in a row: whether the worker accepts sessions, when it last showed that its event loop
# turns, sessions that it was chosen for, all of its sessions, and its sessions of each application.
_ACCEPTS, _TURNED_AT, _EXPECTED, _SESSIONS, _OF_APPLICATIONS = range(5)
_WIDTH = _OF_APPLICATIONS + MOST_APPLICATIONS
_NUMBER = 4  # bytes
_FIGURE = 8
_LONGEST_TURN_S = 1
_TICKS_PER_S = 10


class Table:
    """The rows of all workers; pickled for a process that is being started, it is the same table.

    Methods are called within `locked`. `limit`, `set_limit`, `enter` and `turn` need no lock, and
    neither does `count` when the worker has fewer sessions than before.

    `figures` has `FIGURES` numbers for each row, of whichever workers have had it.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._file = os.memfd_create("stepwire-places")
        os.ftruncate(self._file, self._size)
        self._map()

    def __getstate__(self) -> dict[str, Any]:
        return {"rows": self.rows, "file": reduction.DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]
        self._file = state["file"].detach()
        os.set_inheritable(self._file, False)
        self._map()

    def _map(self) -> None:
        shared = memoryview(mmap.mmap(self._file, self._size))
        begin = self.rows * FIGURES * _FIGURE
        self.figures = shared[:begin].cast("Q")
        self._numbers = shared[begin:].cast("I")

    @property
    def _size(self) -> int:
        """Bytes; one row more has the limits of the applications."""
        return self.rows * FIGURES * _FIGURE + (self.rows + 1) * _WIDTH * _NUMBER

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other workers from counting."""
        lockf(self._file, LOCK_EX, 1, self.rows)
        try:
            yield
        finally:
            lockf(self._file, LOCK_UN, 1, self.rows)

    def enter(self, row: int) -> None:
        """Hold the row until this process ends; the worker that had it before has ended."""
        lockf(self._file, LOCK_EX, 1, row)
        with self.locked():
            self._clear(row)

    def counts(self, row: int) -> bool:
        """Whether the row has numbers, of a worker that lives. It must not be the worker's own."""
        if not (self.accepts(row) or self.load(row)):
            return False
        try:
            lockf(self._file, LOCK_EX | LOCK_NB, 1, row)
        except OSError:
            return True
        self._clear(row)
        lockf(self._file, LOCK_UN, 1, row)
        return False

    def accept(self, row: int, accepts: bool) -> None:
        """Note whether the worker opens sessions."""
        self._numbers[row * _WIDTH + _ACCEPTS] = accepts

    def accepts(self, row: int) -> bool:
        """Whether the worker opens sessions, if it lives."""
        return bool(self._numbers[row * _WIDTH + _ACCEPTS])

    def turn(self, row: int) -> None:
        """Note that the worker's event loop turns."""
        self._numbers[row * _WIDTH + _TURNED_AT] = _now()

    def turns(self, row: int) -> bool:
        """Whether the worker's event loop has turned within the last second."""
        turned_at = self._numbers[row * _WIDTH + _TURNED_AT]
        return _now() - turned_at <= _LONGEST_TURN_S * _TICKS_PER_S

    def count(self, row: int, application: int, sessions: int) -> None:
        """Note the worker's sessions of an application; new ones are those it was chosen for."""
        begin = row * _WIDTH
        cell = begin + _OF_APPLICATIONS + application
        more = sessions - self._numbers[cell]
        self._numbers[begin + _SESSIONS] += more
        self._numbers[cell] = sessions
        if more > 0:  # else there may be no lock, and others write this number
            self.expect(row, -more)

    def sessions(self, row: int, application: int) -> int:
        """The worker's sessions of an application, if it lives."""
        return self._numbers[row * _WIDTH + _OF_APPLICATIONS + application]

    def limit(self, application: int) -> int:
        """The limit on sessions of an application; 0 as long as no worker knows it."""
        return self._numbers[self.rows * _WIDTH + _OF_APPLICATIONS + application]

    def set_limit(self, application: int, limit: int) -> None:
        """Note the limit, which is the same in all workers that know it."""
        self._numbers[self.rows * _WIDTH + _OF_APPLICATIONS + application] = limit

    def expect(self, row: int, sessions: int) -> int:
        """Note sessions that the worker was chosen for, or fewer; returns how many there are."""
        cell = row * _WIDTH + _EXPECTED
        self._numbers[cell] = expected = max(self._numbers[cell] + sessions, 0)
        return expected

    def load(self, row: int) -> int:
        """The worker's sessions, and those that it was chosen for."""
        begin = row * _WIDTH
        return self._numbers[begin + _SESSIONS] + self._numbers[begin + _EXPECTED]

    def _clear(self, row: int) -> None:
        for cell in range(row * _WIDTH, (row + 1) * _WIDTH):
            self._numbers[cell] = 0


def _now() -> int:
    return int(time.monotonic() * _TICKS_PER_S)


class Places:
    """Those of an application that no other worker serves."""

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep the other workers from opening sessions; the number of theirs."""
        yield 0

    def count(self, sessions: int) -> None:
        """Note the sessions of this worker; it notes a further one within `locked`."""

    @property
    def elsewhere(self) -> int:
        """Sessions of the other workers."""
        return 0

    @property
    def others_accept(self) -> bool:
        """Whether another worker opens sessions."""
        return False

    @property
    def limit(self) -> int:
        """The number of places, if another worker knows it; else 0."""
        return 0

    def set_limit(self, limit: int) -> None:
        """Let the other workers know the number of places."""

    def least_loaded(self) -> int | None:
        """The worker that opens sessions and has the fewest, unless that is this one."""
        return None

    def holder(self, session_id: Any) -> int | None:
        """The other worker that has made a session's id, if it lives."""
        return None

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer what other workers `ask`."""

    async def ask(self, worker: int, question: bytes) -> bytes:
        """Have another worker answer; no bytes if it ends before it has answered."""
        raise NotImplementedError  # there is none
