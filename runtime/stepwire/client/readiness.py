# SPDX-License-Identifier: BSD-3-Clause
"""Has an event loop read the socket of one connection, and wakes the call that waits for it.

The loop watches the socket from the first awaited call on, not anew for each: that halves the cost
of an awaited step. Between calls it lets the connection answer pings.
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


class _Readable(Protocol):
    def read_available(self) -> bool: ...
    def answer_pings(self) -> None: ...


class Readiness:
    """Watches a socket on the running loop until `stop`.

    It is what a waiting task waits for: an object that asyncio takes for a future by the attribute
    `_asyncio_future_blocking` (see `asyncio.isfuture`). A future would have the task go on in the
    loop's next round, with a look at all sockets before it; here it goes on in the very callback
    that read the message, which saves a tenth of an awaited step.
    """

    _asyncio_future_blocking = False

    def __init__(self, sock: socket.socket, connection: _Readable) -> None:
        self.loop = self._loop = asyncio.get_running_loop()  # `_loop` is what tasks look at
        self._sock = sock
        # The loop holds this object; held by it in turn, a dropped client would never be collected.
        self._connection = weakref.ref(connection)
        self._go_on: Callable[[Any], Any] | None = None  # wakes the waiting task
        self._context = copy_context()  # of that task
        self._error: BaseException | None = None  # what to raise in it
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self.loop.add_reader(sock, self._on_readable)

    @types.coroutine
    def message(self, deadline: float) -> Generator[Any, None, None]:
        """Wait until a message is there; raises `TimeoutError` from `deadline` (monotonic) on."""
        self._deadline = deadline
        if deadline < self._timer_due:  # one timer for many calls: most only move the deadline
            self._set_timer(deadline)
        self._asyncio_future_blocking = True
        yield self

    # What a task asks of a future.

    def add_done_callback(
        self, callback: Callable[[Any], Any], *, context: Context | None = None
    ) -> None:
        self._go_on = callback
        self._context = copy_context() if context is None else context

    def result(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def cancel(self, msg: Any = None) -> bool:
        go_on, self._go_on = self._go_on, None
        if go_on is None:
            return False
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        # Later, as it is another task that cancels this one.
        self.loop.call_soon(go_on, self, context=self._context)
        return True

    def stop(self) -> None:
        """Stop watching, from whichever thread."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(RuntimeError):  # the loop is closed, and watches nothing any more
            if asyncio._get_running_loop() is self.loop:
                self.loop.remove_reader(self._sock)
            else:
                self.loop.call_soon_threadsafe(self.loop.remove_reader, self._sock.fileno())

    def _on_readable(self) -> None:
        connection = self._connection()
        if connection is None:
            self.stop()
        elif self._go_on is None:
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
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._error = error
            self._context.run(go_on, self)

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_later(due - time.monotonic(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._go_on is None:
            return
        if self._deadline > time.monotonic():
            self._set_timer(self._deadline)
        else:
            self._wake(TimeoutError())
