# SPDX-License-Identifier: BSD-3-Clause
"""`Session`: the calls of one client, one after the other, over a connection that may be lost.

The first call opens the connection. A session is lost when its connection goes away, and the
episode with it: the call under way says so, and so does every further one until a call that starts
an episode opens a new connection.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stepwire.client.addresses import without_secrets
from stepwire.client.calls import Call, weak_method
from stepwire.client.connection import Connection
from stepwire.client.endings import closed_during_call, session_lost
from stepwire.client.errors import (
    CapacityReachedError,
    ProtocolViolationError,
    ServerError,
    SessionLostError,
    UsageError,
)
from stepwire.client.keepalive import register_for_keepalive
from stepwire.client.loops import CallLock, Holder, flush_soon
from stepwire.client.messages import CLOSE_REQUEST, Episode
from stepwire.client.options import Options
from stepwire.client.way import Way

logger = logging.getLogger("stepwire.client")


class Session:
    """Performs calls in the order in which they were made, blocking or on an event loop."""

    def __init__(
        self,
        url: str,
        options: Options,
        *,
        find_server: Callable[[], str] | None = None,
        rephrase: Callable[[Call[Any], ServerError], bool] | None = None,
    ) -> None:
        """`url` is the WebSocket's.

        `find_server`, called before each connection is opened, returns the `url` to use from then
        on. `rephrase`, called when the server refuses a call, returns whether it has changed the
        call and the session is to perform it again.
        """
        self.way = Way(url, options, find_server)
        self.message_timeout_s = options.message_timeout_s
        self.connection: Connection | None = None
        self.episode = Episode()
        self._rephrase = rephrase and weak_method(rephrase)
        self._loss: SessionLostError | None = None  # what every call raises until a new episode
        self._is_closed = False
        self._cut_off = Holder()  # who held the lock at the last `close`; its calls end with that
        self.lock = CallLock(weak_method(self._lose_left_call))  # held while calls are performed
        self._begun: Call[Any] | None = None  # by `begin`
        self.deferred: deque[Call[Any]] = deque()  # not performed yet
        self._flushing_loop: asyncio.AbstractEventLoop | None = None  # which performs them soon
        self._is_confirmed = True  # the server has answered in the session, or none is open

    @property
    def status(self) -> str:
        """ "unused", "open", "lost" or "closed", as far as is known without I/O."""
        connection = self.connection
        if connection is not None and connection.is_usable and not connection.has_ended:
            return "open"
        if connection is not None or self._loss is not None:
            return "lost"
        return "closed" if self._is_closed else "unused"

    def perform_up_to(self, call: Call[Any]) -> None:
        """Perform the calls that were deferred before `call`, and `call`; blocks."""
        deferred, holder = self.deferred, Holder()
        try:
            self.lock.acquire_blocking(holder)
            while not call.is_done:
                self._perform_one(deferred.popleft() if deferred else call)
        finally:
            holder.is_over = True
            self.lock.wake_next()

    async def perform_up_to_async(self, call: Call[Any]) -> None:
        """`perform_up_to` without blocking the event loop."""
        # In one function: each more that a reply passes through costs 1 % of a step.
        lock, deferred, holder = self.lock, self.deferred, Holder(asyncio.get_running_loop())
        try:
            if not lock.acquire_now(holder):
                await lock.acquire(holder)
            one = call
            pause: float | None = None  # before another attempt; `None` once a call is done
            while not call.is_done:
                if pause is None:
                    one = deferred.popleft() if deferred else call
                is_new = (connection := self.connection) is None
                try:
                    if pause:
                        await asyncio.sleep(pause)
                    if connection is None or not connection.is_usable:
                        connection = await self._open_async(one)
                    reply = await connection.ask_async(one.request, self.message_timeout_s)
                    self._finish(one, reply)
                    pause = None
                except BaseException as error:  # noqa: BLE001 - kept in the call, or raised again
                    pause = self._pause_after(error, one, is_new=is_new)
        except UsageError as error:  # of `acquire`
            with suppress(ValueError):
                deferred.remove(call)
            call.fail(error)
        finally:
            holder.is_over = True
            lock.wake_next()

    def defer(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Leave a call to the running loop, unless its result is awaited or read soon."""
        call.loop = loop
        self.deferred.append(call)
        if self._flushing_loop is not loop:  # once for all calls of the next 20 ms
            self._flushing_loop = loop
            flush_soon(loop, self)

    def flush_unawaited(self, loop: asyncio.AbstractEventLoop) -> None:
        """Perform deferred calls that nothing awaits: as a task if the last call was awaited.

        Otherwise blocking, as reading results does: one that is read next finds no call under way.
        """
        self._flushing_loop = None
        # Of a copy: threads change it. Not those of another loop, which this end would cancel.
        if unawaited := [c for c in [*self.deferred] if c.loop is loop and not c.is_awaited]:
            is_awaited = self.connection is not None and self.connection.driver is not None
            if is_awaited or self.lock.is_held() or self.way.is_sought_here():
                # What it waits for keeps the task. Kept elsewhere, it would outlive a closed loop.
                loop.create_task(self.perform_up_to_async(unawaited[-1]))
            else:
                self.perform_up_to(unawaited[-1])

    def flush(self) -> None:
        """Perform all deferred calls, blocking. Does nothing while a call is awaited here."""
        if self.deferred and not self.lock.is_held_here():
            self.perform_up_to(self.deferred[-1])

    async def flush_async(self) -> None:
        """Perform all deferred calls."""
        if self.deferred:
            await self.perform_up_to_async(self.deferred[-1])

    def __del__(self) -> None:
        if self.deferred:
            url, count = without_secrets(self.way.url), len(self.deferred)
            logger.error("Calls to %s were never performed (%d): their loop ended.", url, count)

    # One call.

    def _perform_one(self, call: Call[Any], *, only_begin: bool = False) -> Connection | None:
        """Perform a call; with `only_begin`, return the connection on which its reply will come."""
        pause: float | None = 0.0
        while pause is not None:
            is_new = (connection := self.connection) is None
            try:
                if pause:
                    time.sleep(pause)
                if connection is None or not connection.is_usable:
                    connection = self._open(call)
                if only_begin:
                    connection.begin(call.request, self.message_timeout_s)
                    return connection
                self._finish(call, connection.ask(call.request, self.message_timeout_s))
                break
            except BaseException as error:  # noqa: BLE001 - kept in the call, or raised again
                pause = self._pause_after(error, call, is_new=is_new)
        return None

    def _finish(self, call: Call[Any], reply: bytes) -> None:
        call.finish(reply)
        if not self._is_confirmed:
            self._is_confirmed = True
            self.way.confirm()

    def _pause_after(self, error: BaseException, call: Call[Any], *, is_new: bool) -> float | None:
        """The seconds to wait before another attempt, or `None` after failing the call for good.

        `is_new` says that the connection was opened for this attempt.
        """
        if isinstance(error, SessionLostError) and call.starts_episode and not is_new:
            self._drop_connection()  # a new episode does not need the old session
            return 0.0
        pause = self.way.pause_after(error, call)
        if pause is not None or isinstance(error, CapacityReachedError):
            self._drop_connection()  # as the server does
        if pause is not None:
            return pause
        if self._rephrase and isinstance(error, ServerError) and self._rephrase(call, error):
            return 0.0  # the session goes on
        if isinstance(error, ProtocolViolationError) and self.connection is not None:
            self.connection.drop()  # further messages of such a server cannot be trusted
        self._record_loss(error)
        # KeyboardInterrupt and CancelledError belong to this caller; others get SessionLostError.
        call.fail(error if isinstance(error, Exception) else self._loss or error)
        if not isinstance(error, Exception):
            call.mark_read()
            raise error
        return None

    # One call in two halves, for `SessionPool`, which waits for many sessions at once.

    def opens_for(self, call: Call[Any]) -> bool:
        """Whether the session is to open a connection for this call, as far as is known."""
        if (connection := self.connection) is None:
            return call.starts_episode or self._loss is None
        if call.starts_episode and connection.is_usable:
            connection.answer_pings()  # notices that the server has closed
        return call.starts_episode and (not connection.is_usable or connection.has_ended)

    def begin(self, call: Call[Any]) -> Connection | None:
        """Send a call's request, after those that were deferred before it.

        Returns `None` when the call is done, for example because it failed. Otherwise nothing else
        can use the session until `go_on` says that it is done, or `abandon` gives it up.
        """
        holder = Holder()
        try:
            self.lock.acquire_blocking(holder)
            while self.deferred and not call.is_done:
                if (deferred := self.deferred.popleft()) is call:
                    break
                self._perform_one(deferred)
            if call.is_done:
                return None
            self._begun = call  # first: an interruption may come when the request is sent
            return self._perform_one(call, only_begin=True)
        finally:
            holder.is_over = call.is_done or self._begun is not call
            self.lock.wake_next()

    def go_on(self, call: Call[Any]) -> bool:
        """Go on with a call that was begun; returns whether it is done."""
        try:
            self.require_not_closed()
            if self.connection is not None and (reply := self.connection.go_on()) is not None:
                self._finish(call, reply)
        except Exception as error:  # noqa: BLE001 - kept in the call
            if self._pause_after(error, call, is_new=True) is not None:
                self._perform_one(call, only_begin=True)
        finally:
            if call.is_done:
                self._begun, self.lock.holder.is_over = None, True
            self.lock.wake_next()
        return call.is_done

    def abandon(self, call: Call[Any]) -> None:
        """Give up a call that was begun: no later call may get its reply."""
        if self._begun is call:
            self._lose_left_call("a reply to it was not waited for.")
            self._begun, self.lock.holder.is_over = None, True
            self.lock.wake_next()

    # The connection.

    def connect(self) -> None:
        """Open the connection now, and a new one if the session was lost."""
        holder = Holder()
        try:
            self.lock.acquire_blocking(holder)
            if self.connection is None or not self.connection.is_usable:
                self._open(None)
        finally:
            holder.is_over = True
            self.lock.wake_next()

    async def connect_async(self) -> None:
        """`connect` without blocking the loop."""
        lock, holder = self.lock, Holder(asyncio.get_running_loop())
        try:
            await lock.acquire(holder)
            if self.connection is None or not self.connection.is_usable:
                await self._open_async(None)
        finally:
            holder.is_over = True
            lock.wake_next()

    def begin_close(self) -> None:
        """Perform deferred calls and ask the server to close, for `close` to wait."""
        self.flush()
        if self.connection is not None and self.connection.is_of_this_process:
            self.connection.begin_close(CLOSE_REQUEST)

    def close(self) -> None:
        """Close the connection, if there is one. The next call opens another."""
        if (connection := self._leave_connection()) is not None:
            connection.close(CLOSE_REQUEST, wait=not self.lock.is_held_here())

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        if (connection := self._leave_connection()) is not None:
            await connection.close_async(CLOSE_REQUEST, wait=not self.lock.is_held_here())

    def _leave_connection(self) -> Connection | None:
        """Detach the connection and return it to be closed, if this process opened it."""
        self.lock.take_over()
        self._cut_off = self.lock.holder
        connection, self.connection = self.connection, None
        self._loss, self._is_closed, self.episode.is_running = None, True, False
        left, self.deferred = self.deferred, deque()  # after an error, or while one is awaited
        for call in [*left]:
            call.fail(closed_during_call(self.way.url))
        left.clear()
        self.way.leave()
        return connection if connection is not None and connection.is_of_this_process else None

    def check(self) -> None:
        """Notice, without waiting, that the server has closed an idle connection."""
        holder = Holder()
        try:
            if not self.lock.acquire_now(holder):
                return  # a call is under way, which notices by itself
            if (connection := self.connection) is not None and connection.is_of_this_process:
                connection.answer_pings()
                if connection.has_ended:
                    connection.drop()
                    self._record_loss(connection.ended())
        finally:
            holder.is_over = True
            self.lock.wake_next()

    def answer_pings(self) -> None:
        """Answer what has arrived on an idle connection."""
        if (connection := self.connection) is not None:
            connection.answer_pings()

    def disown(self) -> None:
        """Leave all calls so far, and who holds the lock, to the parent of this fork."""
        self.lock, self._begun = CallLock(weak_method(self._lose_left_call)), None
        self.deferred.clear()
        self.way.disown()
        if self.connection is not None:
            self.connection.disown()

    def _open(self, call: Call[Any] | None) -> Connection:
        self._prepare_to_open(call)
        return self._opened(self.way.open(call))

    async def _open_async(self, call: Call[Any] | None) -> Connection:
        self._prepare_to_open(call)
        return self._opened(await self.way.open_async(call))

    def _opened(self, connection: Connection) -> Connection:
        self.connection, self._loss, self._is_confirmed = connection, None, False
        self.require_not_closed()
        self.episode.forget()
        return connection

    def _prepare_to_open(self, call: Call[Any] | None) -> None:
        """Raise `SessionLostError` if an episode was lost and `call` does not start a new one."""
        self.require_not_closed()
        if self.connection is not None and self.connection.is_of_this_process:
            self._lose("its connection was dropped.")
        elif self.connection is not None:
            # Two processes that read one socket would each get replies of the other.
            self._lose("it belongs to the process this one was forked from.")
        if self._loss is not None and not (call is None or call.starts_episode):
            raise self._loss
        register_for_keepalive(self)

    def require_not_closed(self) -> None:
        """Raise `SessionLostError` if the client was closed during the call under way."""
        if self.lock.holder is self._cut_off and not self._cut_off.is_over:
            self._drop_connection()
            self.way.leave()
            raise closed_during_call(self.way.url)

    def _record_loss(self, error: BaseException) -> None:
        """Note that the session is lost if `error` has dropped its connection."""
        if self.connection is not None and not self.connection.is_open:
            self._lose(str(error) or f"{type(error).__name__} interrupted a call.")
            if isinstance(error, SessionLostError):
                self._loss = error

    def _lose(self, why: str) -> None:
        self.connection = None
        self._loss = session_lost(without_secrets(self.way.url), why)
        self.way.lose(self.episode, why)
        self.episode.is_running = False

    def _lose_left_call(self, why: str = "an event loop was closed during a call.") -> None:
        if self.connection is not None:
            self._drop_connection()
            self._lose(why)

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.drop()
