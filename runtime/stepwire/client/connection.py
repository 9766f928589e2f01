# SPDX-License-Identifier: BSD-3-Clause
"""`Connection`: a socket and its `Exchange`, for blocking callers, for pools and for event loops.

One connection serves them in turn, so a client needs no thread and no loop of its own. The socket
never blocks: waiting for it is what the callers differ in.
"""

import asyncio
import select
import selectors
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from stepwire.client.dialing import dial, dial_async
from stepwire.client.errors import EnvClientError
from stepwire.client.exchange import MOST_UNREQUESTED, Exchange
from stepwire.client.loop_driver import HUNG_UP, LoopDriver

if TYPE_CHECKING:
    from typing_extensions import Self

_CLOSE_TIMEOUT_S = 2.0
_UNREQUESTED_READS = 4  # in a row, from a server that never stops sending
_LONGEST_WAIT_S = 3600.0  # `poll` counts milliseconds in 32 bits


class Connection:
    """An open session with a server. Its client makes sure that calls do not overlap."""

    _sock: socket.socket | None = None  # as `drop` finds it after an interrupted `__init__`
    driver: LoopDriver | None = None
    _close_by: float | None = None  # monotonic; set when closing begins

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self.is_usable = True  # open, and opened by this process
        self.is_of_this_process = True
        self.in_use = threading.Lock()  # held during an exchange
        self._sock = sock
        self._exchange = exchange
        self._poll: Any = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    @classmethod
    def open(cls, exchange: Exchange, headers: dict[str, str], timeout_s: float) -> "Self":
        """Connect, blocking for up to `timeout_s` seconds. Raises `ConnectFailedError`."""
        now = monotonic()
        route = exchange.open(headers, now, timeout_s)
        try:
            sock = dial(route.host, route.port, now + timeout_s)
            connection = cls(sock, exchange)
        except OSError as error:
            exchange.fail(error)
        try:
            exchange.start()
            connection._settle(sock)
        except BaseException as error:
            connection._drop_after(error)
            raise
        return connection

    @classmethod
    async def open_async(
        cls, exchange: Exchange, headers: dict[str, str], timeout_s: float
    ) -> "Self":
        """`open` without blocking the event loop."""
        now = monotonic()
        route = exchange.open(headers, now, timeout_s)
        try:
            sock = await dial_async(route.host, route.port, now + timeout_s)
            connection = cls(sock, exchange)
        except OSError as error:
            exchange.fail(error)
        try:
            exchange.start()
            await connection._driver_of(sock).settle()
        except BaseException as error:
            connection._drop_after(error)
            raise
        return connection

    # One exchange.

    def ask(self, request: bytes, timeout_s: float) -> bytes:
        """Send a request and block until its reply is there, for up to `timeout_s` seconds.

        Raises `ReplyTimeoutError`, `SessionLostError` or `ProtocolViolationError`, and drops the
        connection with each of them.
        """
        with self.in_use:
            try:
                if self.driver is not None:
                    self._stop_driver()
                self._settle(self._begin(request, timeout_s))
                return self._exchange.take()
            except BaseException as error:
                self._drop_after(error)
                raise

    async def ask_async(self, request: bytes, timeout_s: float) -> bytes:
        """`ask` without blocking the event loop. Cancelling it drops the connection."""
        with self.in_use:
            try:
                await self._driver_of(self._begin(request, timeout_s)).settle()
                return self._exchange.take()
            except BaseException as error:
                self._drop_after(error)
                raise

    def _begin(self, request: bytes, timeout_s: float) -> socket.socket:
        """Send a request, or as much of it as can be sent now."""
        if (sock := self._sock) is None:
            raise self._exchange.ended()
        # Without `poll`, only reading shows what is there.
        if self._poll is None or self._poll.poll(0):
            self._read_unrequested(sock)
        exchange = self._exchange
        exchange.ask(request, monotonic(), timeout_s)
        try:
            exchange.out = exchange.out[sock.send(exchange.out) :]
        except OSError:
            self._send(sock)
        return sock

    def _settle(self, sock: socket.socket) -> None:
        """Block until nothing is pending. `poll` keeps its timeout whatever signals arrive."""
        exchange = self._exchange
        while exchange.is_pending or exchange.out:
            wait_s = exchange.wake_at - monotonic()
            if not 0.0 < wait_s < _LONGEST_WAIT_S:
                wait_s = 0.0 if wait_s <= 0.0 else _LONGEST_WAIT_S
            if self._poll is None or exchange.out:
                _wait(sock, self.events, wait_s)
            else:
                self._poll.poll(wait_s * 1000)
            self._carry(sock)

    def _carry(self, sock: socket.socket) -> None:
        """Transfer what can be transferred without waiting."""
        exchange = self._exchange
        try:
            data = sock.recv(exchange.read_size)
        except BlockingIOError:
            pass
        else:
            exchange.receive(data, monotonic())
        if exchange.out:
            self._send(sock)
        if exchange.is_pending or exchange.out:
            exchange.tick(monotonic())

    def _driver_of(self, sock: socket.socket) -> LoopDriver:
        """What carries bytes on the running loop; from the first awaited call on, it watches."""
        loop = asyncio.get_running_loop()
        driver = self.driver
        if driver is None or driver.loop is not loop:
            self._stop_driver()
            driver = self.driver = LoopDriver(loop, sock, self._exchange, self)
        return driver

    def _stop_driver(self) -> None:
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.stop(close=False)

    # One exchange in two halves, for callers that watch many connections at once.

    def begin(self, request: bytes, timeout_s: float) -> None:
        """Send a request. Nothing else may use the connection until `go_on` returns the reply."""
        try:
            self.in_use.acquire()
            if self.driver is not None:
                self._stop_driver()
            self._begin(request, timeout_s)
        except BaseException as error:
            self._drop_after(error)
            raise

    def go_on(self) -> bytes | None:
        """The reply to the request, `None` as long as it is not complete.

        Call it when one of `events` happens on the socket, and at `wake_at` (monotonic clock).
        """
        exchange = self._exchange
        try:
            sock = self._sock
            assert sock is not None
            if exchange.is_pending or exchange.out:
                self._carry(sock)
                if exchange.is_pending or exchange.out:
                    return None
            reply = exchange.take()
        except BaseException as error:
            self._drop_after(error)
            raise
        self.in_use.release()
        return reply

    @property
    def events(self) -> int:
        """What to wait for, as `selectors` has it."""
        to_write = selectors.EVENT_WRITE if self._exchange.out else 0
        return selectors.EVENT_READ | to_write

    @property
    def wake_at(self) -> float:
        """Until when to wait; 0 when there is nothing to wait for."""
        exchange = self._exchange
        return exchange.wake_at if exchange.is_pending or exchange.out else 0.0

    # Between exchanges.

    def fileno(self) -> int:
        """The socket's descriptor, for a selector; -1 when the connection is gone."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket; the server may have closed its end."""
        return self._sock is not None

    @property
    def has_ended(self) -> bool:
        """Whether the connection is known to be closed, by either side."""
        return self._sock is None or self._exchange.has_ended

    def ended(self) -> EnvClientError:
        """The error of a connection that has ended."""
        return self._exchange.ended()

    def disown(self) -> None:
        """Leave the socket to the parent process: this process is a fork of it."""
        self.is_usable = self.is_of_this_process = False

    def answer_pings(self) -> bool:
        """Answer what has arrived on an idle connection, without waiting.

        Returns whether to go on reading from it.
        """
        is_acquired = False
        try:
            sock = self._sock
            is_acquired = sock is not None and self.in_use.acquire(blocking=False)
            return self._read_unrequested(sock) if sock and is_acquired else sock is not None
        except Exception:  # noqa: BLE001 - the next exchange raises what it means
            self._exchange.end()
            return False
        except BaseException:  # a signal's handler may raise it right after `acquire`
            self.drop()
            raise
        finally:
            if is_acquired:
                self.in_use.release()

    def begin_close(self, close_request: bytes) -> None:
        """Send the close request, for `close` to wait; not during an exchange. Never raises.

        The 2 s of `close` begin now: closing many takes no longer than closing one.
        """
        self._close_by = monotonic() + _CLOSE_TIMEOUT_S
        if self._sock is not None and self.in_use.acquire(blocking=False):
            try:
                self._stop_driver()
                with suppress(Exception):
                    self._exchange.close(close_request, monotonic(), _CLOSE_TIMEOUT_S)
                    self._send(self._sock)
            finally:
                self.in_use.release()

    def close(self, close_request: bytes, *, wait: bool) -> None:
        """Send the close request and wait for the server to close, for up to 2 s; never raises.

        After that the server has room for another session. An exchange that is under way may
        finish in the same time if `wait` is true. Otherwise it is cut off and raises
        `SessionLostError`.
        """
        close_by = self._close_by or monotonic() + _CLOSE_TIMEOUT_S
        if self.in_use.acquire(timeout=max(close_by - monotonic(), 0) if wait else 0):
            try:
                self._stop_driver()
                if self._sock is not None:
                    with suppress(Exception):
                        now = monotonic()
                        self._exchange.close(close_request, now, max(close_by - now, 0))
                        self._settle(self._sock)
            finally:
                self.drop()
                self.in_use.release()
        else:
            self._cut()

    async def close_async(self, close_request: bytes, *, wait: bool) -> None:
        """`close` without blocking the event loop."""
        give_up_at = monotonic() + (_CLOSE_TIMEOUT_S if wait else 0)
        while not self.in_use.acquire(blocking=False):
            if monotonic() >= give_up_at:
                self._cut()
                return
            await asyncio.sleep(_CLOSE_TIMEOUT_S / 100)
        try:
            if self._sock is not None:
                with suppress(Exception):
                    self._exchange.close(close_request, monotonic(), _CLOSE_TIMEOUT_S)
                    await self._driver_of(self._sock).settle()
        finally:
            self.drop()
            self.in_use.release()

    def _cut(self) -> None:
        """Wake the exchange that is under way: it drops the socket."""
        with suppress(OSError):
            if self._sock is not None:
                self._sock.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close the socket without a close frame."""
        self.is_usable = False
        sock, self._sock = self._sock, None
        driver, self.driver = self.driver, None
        if sock is None:
            return
        if driver is not None and self.is_of_this_process:  # a fork shares what its parent watches
            driver.stop(close=True)
        else:
            sock.close()

    def __del__(self) -> None:
        # A client that is dropped without `close()` frees its slot on the server, too.
        self.drop()

    def _drop_after(self, error: BaseException) -> None:
        """Drop the connection, as a reply may be under way; raise what `error` means, if known."""
        self.drop()
        if isinstance(error, OSError) and not isinstance(error, EnvClientError):
            self._exchange.fail(error)

    # Bytes out and in.

    def _send(self, sock: socket.socket) -> None:
        exchange = self._exchange
        try:
            exchange.out = exchange.out[sock.send(exchange.out) :]
        except BlockingIOError:
            pass
        except HUNG_UP:
            exchange.out = b""  # what the server sent before it hung up is still to be read

    def _read_unrequested(self, sock: socket.socket) -> bool:
        """Read and answer what has arrived between two calls; returns whether to go on reading."""
        exchange, goes_on = self._exchange, True
        with suppress(BlockingIOError):
            for _ in range(_UNREQUESTED_READS):
                goes_on = exchange.receive_unrequested(sock.recv(MOST_UNREQUESTED), monotonic())
                if not goes_on:
                    break
        if exchange.out:
            self._send(sock)
        return goes_on


def _wait(sock: socket.socket, events: int, wait_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, events)
        selector.select(wait_s)
