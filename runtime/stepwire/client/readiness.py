# SPDX-License-Identifier: BSD-3-Clause
"""`Readiness`: an event loop reads the socket of one connection and wakes the call that waits.

The loop watches the socket from the first awaited call on, instead of anew for each call: that
halves the cost of an awaited step. Between calls it lets the connection answer pings.
"""

import asyncio
import math
import socket
import time
import types
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Protocol

from stepwire.client.loops import running_loop


class _Readable(Protocol):
    def read_available(self) -> bool: ...
    def answer_pings(self) -> None: ...


class Readiness:
    """Watches a socket on the running loop until `stop`.

    The waiting task awaits this object itself. asyncio takes it for a future because of the
    attribute `_asyncio_future_blocking` (see `asyncio.isfuture`). A real future would resume the
    task in the loop's next iteration, after another poll of all sockets. This one resumes it in the
    callback that read the message, which saves a tenth of an awaited step.
    """

    _asyncio_future_blocking = False

    def __init__(self, sock: socket.socket, connection: _Readable) -> None:
        self.loop = self._loop = asyncio.get_running_loop()  # tasks read `_loop`
        self._sock = sock
        # Weak, because the loop references this object: a client that is dropped without `close()`
        # must be collected all the same.
        self._connection = weakref.ref(connection)
        self._resume: Callable[[Any], Any] | None = None  # resumes the waiting task
        self._context = copy_context()  # of that task
        self._error: BaseException | None = None  # to raise in it
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self.loop.add_reader(sock, self._on_readable)

    @types.coroutine
    def message(self, deadline: float) -> Generator[Any, None, None]:
        """Wait for a message; raises `TimeoutError` at `deadline` (monotonic clock, seconds)."""
        self._deadline = deadline
        if deadline < self._timer_due:  # one timer serves many calls: most only move the deadline
            self._set_timer(deadline)
        self._asyncio_future_blocking = True
        yield self

    # The methods of a future that a task calls.

    def add_done_callback(
        self, callback: Callable[[Any], Any], *, context: Context | None = None
    ) -> None:
        self._resume = callback
        self._context = copy_context() if context is None else context

    def result(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def cancel(self, msg: Any = None) -> bool:
        resume, self._resume = self._resume, None
        if resume is None:
            return False
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        # Not at once: another task is running, the one that cancels.
        self.loop.call_soon(resume, self, context=self._context)
        return True

    def stop(self) -> None:
        """Stop watching. May be called from any thread."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(RuntimeError):  # a closed loop watches nothing
            if running_loop() is self.loop:
                self.loop.remove_reader(self._sock)
            else:
                self.loop.call_soon_threadsafe(self.loop.remove_reader, self._sock.fileno())

    def _on_readable(self) -> None:
        connection = self._connection()
        if connection is None:
            self.stop()
        elif self._resume is None:
            connection.answer_pings()
        else:
            error = None
            try:
                if not connection.read_available():
                    return
            except Exception as raised:  # noqa: BLE001 - raised in the waiting call
                error = raised
            self._wake(error)

    def _wake(self, error: BaseException | None) -> None:
        resume, self._resume = self._resume, None
        if resume is not None:
            self._error = error
            self._context.run(resume, self)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_later(due - time.monotonic(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._resume is None:
            return
        if self._deadline > time.monotonic():
            self._set_timer(self._deadline)
        else:
            self._wake(TimeoutError())
