# SPDX-License-Identifier: BSD-3-Clause
"""The workers of one server: what each of them knows of the others, and sends them.

`server --workers` starts such workers. A worker can hand another one a connection, or a socket over
which it asks something. Every worker has an inbox, which its successor takes over.
"""

import asyncio
import socket
from array import array
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from uuid import uuid4

from stepwire.server.logs import logger
from stepwire.server.places import CAN_SHARE, FIGURES, MOST_APPLICATIONS, Places, Table

WEBSOCKET = b"w"
"""Kind of a message: a connection, with the bytes of its handshake if it has sent them."""

RETRY_S = 0.02
"""Seconds until a message is sent again to a worker that has many which it has not read."""

_QUESTION = b"q"  # of an application, whose number is the message
_LARGEST = 128 * 1024  # bytes in a message; a handshake has less
# One more worker is there while SIGHUP replaces them; SIGTTIN adds others.
_SPARE = 8
_TURN_S = 0.25
_SUFFIX = 4  # hexadecimal digits at the end of a session's id, which name its worker


class Workers:
    """The workers of a server, as the one in `row` knows them. The parent process makes it."""

    def __init__(
        self, table: Table, row: int, inbox: socket.socket, outboxes: list[socket.socket]
    ) -> None:
        self.row = row
        self._table = table
        self._inbox = inbox
        self._outboxes = outboxes
        self._applications = count()
        self._answers: dict[int, Callable[[bytes], Awaitable[bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._late = 0  # sessions that this worker was chosen for before its last turn

    def __reduce__(self) -> tuple[Any, ...]:
        """The same seat, for the process that is being started."""
        return Workers, (self._table, self.row, self._inbox, self._outboxes)

    def join(self) -> None:
        """Be the worker in `row`, until this process ends."""
        global _joined
        for each in (self._inbox, *self._outboxes):
            each.setblocking(False)
            each.set_inheritable(False)
        self._table.enter(self.row)
        _joined = self

    # Which worker

    @contextmanager
    def locked(self) -> Iterator[list[int]]:
        """Keep the other workers from counting; the rows of those that have or open sessions."""
        with self._table.locked():
            rows = range(self._table.rows)
            yield [row for row in rows if row != self.row and self._table.counts(row)]

    def accept(self, accepts: bool) -> None:
        """Let the others know whether this worker opens sessions."""
        with self._table.locked():
            self._table.accept(self.row, accepts)

    @property
    def accepts(self) -> bool:
        """Whether this worker opens sessions."""
        return self._table.accepts(self.row)

    def least_loaded(self) -> int | None:
        """The worker that opens sessions and has the fewest, unless that is this one.

        A worker that is held up, such as by a long step on its event loop, is chosen only if there
        is no other. The chosen worker counts the session from now on.
        """
        table = self._table
        with self.locked() as others:
            accepting = [row for row in (self.row, *others) if table.accepts(row)]
            if not accepting:
                return None
            turning = [row for row in accepting if row == self.row or table.turns(row)]
            chosen = min(turning or accepting, key=table.load)
            table.expect(chosen, 1)
            return None if chosen == self.row else chosen

    def count(self, application: int, sessions: int) -> None:
        """Note this worker's sessions of an application."""
        more = sessions - self._table.sessions(self.row, application)
        self._late = max(self._late - max(more, 0), 0)
        self._table.count(self.row, application, sessions)

    def _forget_late_sessions(self) -> None:
        """Expect no longer those that were not opened in a whole turn: their clients are gone."""
        with self._table.locked():
            self._late = self._table.expect(self.row, -self._late)

    def holder(self, session_id: Any) -> int | None:
        """The other worker that has made a session's id, if it lives."""
        try:
            row = int(str(session_id)[-_SUFFIX:], 16)
        except ValueError:
            return None
        return row if self.counts(row) else None

    def counts(self, row: int) -> bool:
        """Whether another worker lives, and has or opens sessions."""
        with self.locked() as others:
            return row in others

    # Figures

    @property
    def rows(self) -> int:
        """How many workers there can be."""
        return self._table.rows

    def show(self, figures: list[int]) -> None:
        """Write the figures of this worker."""
        begin = self.row * FIGURES
        self._table.figures[begin : begin + FIGURES] = memoryview(array("Q", figures))

    def figures(self, row: int) -> list[int]:
        """What the workers that have had the row have shown."""
        return self._table.figures[row * FIGURES : (row + 1) * FIGURES].tolist()

    # Messages

    def send(self, row: int, kind: bytes, content: bytes, descriptor: int) -> bool:
        """Send an open file with a message; returns whether the worker will get it."""
        try:
            socket.send_fds(self._outboxes[row], [kind, content], [descriptor])
        except OSError:  # it has many messages that it does not read
            return False
        return True

    def listen(self, take: Callable[[socket.socket, bytes], None]) -> None:
        """Read the inbox on the running event loop; `take` gets connections and handshakes."""
        loop = asyncio.get_running_loop()

        def receive() -> None:
            for kind, content, received in self._received():
                if kind == WEBSOCKET:
                    take(received, content)
                else:
                    task = loop.create_task(self._answer(int(content), received))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

        def turn() -> None:
            self._table.turn(self.row)
            self._forget_late_sessions()
            self._turning = loop.call_later(_TURN_S, turn)

        loop.add_reader(self._inbox, receive)
        turn()

    def close(self) -> None:
        """Read the inbox no longer; another worker gets a handshake that arrives late."""
        asyncio.get_running_loop().remove_reader(self._inbox)
        self._turning.cancel()
        for kind, content, received in self._received():
            with received:
                other = self.least_loaded() if kind == WEBSOCKET else None
                if other is not None:
                    self.send(other, kind, content, received.fileno())

    def _received(self) -> Iterator[tuple[bytes, bytes, socket.socket]]:
        while True:
            try:
                message, descriptors, *_ = socket.recv_fds(
                    self._inbox, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            if not descriptors:
                logger.error("A connection of another worker was lost: too many files are open")
            for descriptor in descriptors:
                received = socket.socket(fileno=descriptor)
                received.setblocking(False)
                yield message[:1], message[1:], received

    # Applications

    def places(self) -> Places:
        """Those of the next application that this worker makes; all workers make the same."""
        number = next(self._applications)
        return SharedPlaces(self, self._table, number) if number < MOST_APPLICATIONS else Places()

    def answer_with(self, application: int, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer what other workers ask an application."""
        self._answers[application] = answer

    async def ask(self, row: int, application: int, question: bytes) -> bytes:
        """Ask an application in another worker; no bytes if that ends first."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            while not self.send(row, _QUESTION, b"%d" % application, theirs.fileno()):
                await asyncio.sleep(RETRY_S)
                if not self.counts(row):
                    break
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            writer.write(question)
            writer.write_eof()
            return await reader.read()
        except OSError:
            return b""
        finally:
            writer.close()

    async def _answer(self, application: int, asking: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=asking)
        try:
            with suppress(OSError):
                question = await reader.read()
                if application in self._answers:
                    writer.write(await self._answers[application](question))
        finally:
            writer.close()


class SharedPlaces(Places):
    """Those of an application that all workers of a server serve."""

    def __init__(self, workers: Workers, table: Table, application: int) -> None:
        self._workers = workers
        self._table = table
        self._application = application

    @contextmanager
    def locked(self) -> Iterator[int]:
        with self._workers.locked() as others:
            yield sum(self._table.sessions(row, self._application) for row in others)

    def count(self, sessions: int) -> None:
        self._workers.count(self._application, sessions)

    @property
    def elsewhere(self) -> int:
        with self.locked() as sessions:
            return sessions

    @property
    def others_accept(self) -> bool:
        with self._workers.locked() as others:
            return any(map(self._table.accepts, others))

    @property
    def limit(self) -> int:
        return self._table.limit(self._application)

    def set_limit(self, limit: int) -> None:
        self._table.set_limit(self._application, limit)

    def least_loaded(self) -> int | None:
        return self._workers.least_loaded()

    def holder(self, session_id: Any) -> int | None:
        return self._workers.holder(session_id)

    def answer_with(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._workers.answer_with(self._application, answer)

    async def ask(self, worker: int, question: bytes) -> bytes:
        return await self._workers.ask(worker, self._application, question)


class Seats:
    """What the parent process gives its workers: a row of the table and an inbox each."""

    def __init__(self, workers: int) -> None:
        rows = workers + _SPARE
        self._table = Table(rows)
        self._inboxes, self._outboxes = zip(
            *(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(rows)),
            strict=True,
        )
        self._processes: dict[int, Any] = {}

    def next(self, process: Any) -> Workers:
        """The seat of a worker process that has ended, or one that none has had."""
        row = self._free()[0]
        self._processes[row] = process
        return Workers(self._table, row, self._inboxes[row], list(self._outboxes))

    @property
    def can_grow(self) -> bool:
        """Whether there is a seat beside the one that replacing workers takes."""
        return len(self._free()) > 1

    def _free(self) -> list[int]:
        ended = [row for row, each in self._processes.items() if each.exitcode is not None]
        return ended + [row for row in range(self._table.rows) if row not in self._processes]

    def close(self) -> None:
        """Let all workers know that none of them opens sessions any more."""
        with self._table.locked():
            for row in range(self._table.rows):
                self._table.accept(row, False)


_joined: Workers | None = None


def joined() -> Workers | None:
    """The workers of this process's server; `None` if it shares no places with others."""
    return _joined


def make_seats(workers: int) -> Seats | None:
    """Seats for that many workers, and some more; `None` where the system has none."""
    return Seats(workers) if CAN_SHARE else None


def new_places() -> Places:
    """The places of a new application in this process."""
    return Places() if _joined is None else _joined.places()


def new_session_id() -> str:
    """A random UUID, whose last digits name the worker that makes it."""
    unique = str(uuid4())
    return unique if _joined is None else f"{unique[:-_SUFFIX]}{_joined.row:0{_SUFFIX}x}"
