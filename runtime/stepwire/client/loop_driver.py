# SPDX-License-Identifier: BSD-3-Clause
"""`LoopDriver`: carries the bytes of one connection on an event loop.

The loop watches the socket from the first awaited call on, instead of anew for each call: that
halves the cost of an awaited step. Between calls it lets the connection answer pings. A loop that
cannot watch sockets, such as that of Windows, reads during calls only.
"""

import asyncio
import math
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from stepwire.client.exchange import Exchange
from stepwire.client.loops import running_loop

HUNG_UP = (BrokenPipeError, ConnectionResetError)


class _Idle(Protocol):
    driver: "LoopDriver | None"

    def answer_pings(self) -> bool: ...


class LoopDriver:
    """Carries bytes until `stop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        exchange: Exchange,
        connection: _Idle,
    ) -> None:
        self.loop = loop
        self._sock = sock
        self._exchange = exchange
        # Weak, because the loop references this object: a client that is dropped without `close()`
        # must still be collected.
        self._connection = weakref.ref(connection)
        self._settled: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._sending: asyncio.Future[Any] | None = None
        self._receiving: asyncio.Future[bytes] | None = None
        self._is_watching = True
        try:
            loop.add_reader(sock, self._advance)
        except NotImplementedError:
            self._is_watching = False

    def settle(self) -> "asyncio.Future[None]":
        """What to await until nothing is pending; raises what `Exchange` does, and `OSError`."""
        self._settled = settled = self.loop.create_future()
        exchange = self._exchange
        # One timer serves many calls: most only move the deadline.
        if (
            exchange.out
            or not exchange.is_pending
            or exchange.wake_at < self._timer_due
            or not self._is_watching
        ):
            self._advance(_do_nothing)
        return settled

    def stop(self, *, close: bool) -> None:
        """Stop carrying, and close the socket if asked to. May be called from any thread."""
        if self.loop.is_running() and running_loop() is not self.loop:
            # That loop closes the socket, because it may still watch its descriptor: by the time it
            # stops, the descriptor could be another socket's.
            with suppress(RuntimeError):  # the loop is closed after all
                self.loop.call_soon_threadsafe(self._release, close)
                return
        self._release(close)

    def _release(self, close: bool) -> None:
        # A closed loop raises `RuntimeError`; it watches nothing any more.
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._sending, self._receiving):
            if task is not None:
                with suppress(RuntimeError):
                    task.cancel()
        if self._is_watching:
            self._is_watching = False
            connection = self._connection()
            successor = None if connection is None else connection.driver
            # This may run late. A driver that the loop has got meanwhile watches the same socket.
            if successor is None or successor.loop is not self.loop:
                with suppress(RuntimeError):
                    self.loop.remove_reader(self._sock)
        if close:
            self._sock.close()

    # What happens on the loop.

    def _on_readable_while_idle(self) -> None:
        connection = self._connection()
        if connection is None:
            self._release(close=True)
        elif not connection.answer_pings():  # otherwise the loop would call this repeatedly
            self.loop.remove_reader(self._sock)
            self._is_watching = False

    def _on_received(self, receiving: "asyncio.Future[bytes]") -> None:
        self._receiving = None
        if not receiving.cancelled():
            self._advance(lambda: self._exchange.receive(receiving.result(), monotonic()))

    def _on_sent(self, sending: "asyncio.Future[Any]") -> None:
        self._sending = None
        if not sending.cancelled():
            hung_up = isinstance(sending.exception(), HUNG_UP)
            self._advance(_do_nothing if hung_up else sending.result)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._is_watching:
            self._advance()  # first what has arrived: this loop may have stood still for long
        self._advance(lambda: self._exchange.tick(monotonic()))

    def _advance(self, event: Callable[[], Any] | None = None) -> None:
        """Pass an event to the exchange, then resume the waiting call if that is done or failed.

        Without an `event`, read the socket.
        """
        settled, exchange = self._settled, self._exchange
        if settled is None:
            if event is None:
                self._on_readable_while_idle()
            return
        if settled.done():
            return
        try:
            if event is None:
                exchange.receive(self._sock.recv(exchange.read_size), monotonic())
            else:
                event()
            if exchange.out and self._sending is None:
                self._send()
        except BlockingIOError:
            return  # there was nothing to read after all
        except Exception as error:  # noqa: BLE001 - raised in the waiting call
            settled.set_exception(error)
        else:
            if exchange.is_pending or exchange.out or self._sending is not None:
                self._go_on_waiting()
                return
            settled.set_result(None)
        self._settled = None

    def _go_on_waiting(self) -> None:
        due = self._exchange.wake_at
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self.loop.call_later(due - monotonic(), self._on_timer)
        if not self._is_watching and self._receiving is None:
            receiving = self.loop.sock_recv(self._sock, self._exchange.read_size)
            self._receiving = asyncio.ensure_future(receiving)
            self._receiving.add_done_callback(self._on_received)

    def _send(self) -> None:
        exchange = self._exchange
        data, exchange.out = exchange.out, b""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except HUNG_UP:  # what the server sent before it hung up is still to be read
            return
        if sent < len(data):
            rest = self.loop.sock_sendall(self._sock, data[sent:])
            self._sending = asyncio.ensure_future(rest)
            self._sending.add_done_callback(self._on_sent)


def _do_nothing() -> None:
    """The event that nothing happened, or that sending failed: reading raises the reason."""
