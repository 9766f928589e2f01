# SPDX-License-Identifier: BSD-3-Clause
"""`Session`: the calls of one client, one after the other, over a connection that may be lost.

It opens the connection for the first call. When the connection is lost, so is the episode: the call
in question says so, and so does every further one, until one that starts an episode opens another.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

from stepwire.client.call_lock import Turn
from stepwire.client.connection import Connection
from stepwire.client.errors import (
    CapacityReachedError,
    ProtocolViolationError,
    SessionLostError,
    UsageError,
)
from stepwire.client.keepalive import tend
from stepwire.client.liveness import Liveness
from stepwire.client.loop_end import before_the_end
from stepwire.client.messages import FAREWELL
from stepwire.client.results import Call

ResultT = TypeVar("ResultT")

logger = logging.getLogger("stepwire.client")

# A call whose result nobody has awaited or read by then is performed by the loop.
_UNREAD_AFTER_S = 0.02
_unread_tasks: set[asyncio.Task[None]] = set()


class Session:
    """Performs calls in the order in which they were made, blocking or on an event loop."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        *,
        connect_timeout_s: float,
        message_timeout_s: float,
        max_message_size: int | None,
        capacity_wait_s: float,
        ping: tuple[float | None, float | None],
    ) -> None:
        """`url` is the WebSocket's. The others are what `SessionClient` documents."""
        self.url = url
        self.message_timeout_s = message_timeout_s
        self.connection: Connection | None = None
        self._headers = headers
        self._connect_timeout_s = connect_timeout_s
        self._max_message_size = max_message_size
        self._capacity_wait_s = capacity_wait_s
        self._ping = ping
        self._lost: SessionLostError | None = None
        self._turn = Turn()  # to perform calls
        self._noted: deque[Call[Any]] = deque()  # not performed yet
        self._noted_on: asyncio.AbstractEventLoop | None = None  # which soon performs them

    # Performing calls.

    def perform(self, call: Call[ResultT]) -> ResultT:
        """The result of a call that was not noted: the ordinary, blocking way."""
        self.perform_up_to(call)
        return call.outcome()

    def perform_up_to(self, call: Call[Any]) -> None:
        """Perform, blocking, what was noted before `call`, and `call`."""
        if self._turn.loop is not None and self._turn.is_taken_here():
            raise UsageError(
                "This result is read while a call of the same client is being awaited on this "
                "event loop; blocking here would block that one forever. Await the result instead."
            )
        with self._turn:
            while not call.is_done:
                self._perform_one(self._noted.popleft() if self._noted else call)

    async def perform_up_to_async(self, call: Call[Any]) -> None:
        """Perform, without blocking the loop, what was noted before `call`, and `call`."""
        turn = self._turn
        if not turn.take_at_once(asyncio.get_running_loop()):
            await turn.take()
        try:
            while not call.is_done:
                await self._perform_one_async(self._noted.popleft() if self._noted else call)
        finally:
            turn.end()

    def note(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Remember a call made on a running loop, which performs it if nobody asks for it."""
        self._noted.append(call)
        if self._noted_on is not loop:  # once for all calls of a while
            self._noted_on = loop
            loop.call_later(_UNREAD_AFTER_S, self._perform_unread, loop)
            before_the_end(loop, self)

    def _perform_unread(self, loop: asyncio.AbstractEventLoop) -> None:
        self._noted_on = None
        if self._noted:
            task = loop.create_task(self.perform_noted_async())
            _unread_tasks.add(task)
            task.add_done_callback(_unread_tasks.discard)

    def perform_noted(self) -> None:
        """Perform, blocking, whatever was noted, unless a call is being awaited here."""
        if self._noted and not self._turn.is_taken_here():
            self.perform_up_to(self._noted[-1])

    async def perform_noted_async(self) -> None:
        """Perform whatever was noted."""
        if self._noted:
            await self.perform_up_to_async(self._noted[-1])

    def __del__(self) -> None:
        if self._noted:
            logger.error(
                "%d calls to %s were never performed: they were made on an event loop that ended "
                "before anybody awaited or read their results, or closed the client.",
                len(self._noted),
                self.url,
            )

    # One call, blocking and awaited.

    def _perform_one(self, call: Call[Any]) -> None:
        pause: float | None = 0.0
        while pause is not None:
            connection = self.connection
            is_new = connection is None
            try:
                if pause:
                    time.sleep(pause)
                if connection is None or not connection.is_usable:
                    connection = self._open(reopen=call.starts_episode)
                call.finish(connection.exchange(call.request, self.message_timeout_s))
                return
            except BaseException as error:  # noqa: BLE001 - kept for who asks, or raised again
                pause = self._pause_after(error, call, is_new=is_new)

    async def _perform_one_async(self, call: Call[Any]) -> None:
        pause: float | None = 0.0
        while pause is not None:
            connection = self.connection
            is_new = connection is None
            try:
                if pause:
                    await asyncio.sleep(pause)
                if connection is None or not connection.is_usable:
                    connection = await self._open_async(reopen=call.starts_episode)
                call.finish(await connection.exchange_async(call.request, self.message_timeout_s))
                return
            except BaseException as error:  # noqa: BLE001 - kept for who asks, or raised again
                pause = self._pause_after(error, call, is_new=is_new)

    def _pause_after(self, error: BaseException, call: Call[Any], *, is_new: bool) -> float | None:
        """After how many seconds to try once more; `None` when the call has failed for good.

        The failure is kept for whoever asks for the result.
        """
        if isinstance(error, SessionLostError) and call.starts_episode and not is_new:
            self._drop_connection()  # a new episode does not need the old session
            return 0.0
        if isinstance(error, CapacityReachedError):
            self._drop_connection()  # as the server does
            call.pauses = call.pauses or _pauses(self._capacity_wait_s)
            if (pause := next(call.pauses, None)) is not None:
                return pause
        if isinstance(error, ProtocolViolationError) and self.connection is not None:
            self.connection.drop()  # what else it sends means nothing
        self._note_loss(error)
        # Interrupted or cancelled is the caller of now: others learn what that led to.
        call.fail(error if isinstance(error, Exception) else self._lost or error)
        if not isinstance(error, Exception):
            call.was_asked_for()
            raise error
        return None

    # One call in two halves, for `SessionPool`, which waits for many sessions at once.

    def begin(self, call: Call[Any]) -> Connection | None:
        """Send a call's request; `None` when it failed, and the call with it."""
        pause: float | None = 0.0
        while pause is not None:
            connection = self.connection
            is_new = connection is None
            try:
                if connection is None or not connection.is_usable:
                    connection = self._open(reopen=call.starts_episode)
                connection.send(call.request, self.message_timeout_s)
            except Exception as error:  # noqa: BLE001 - kept for whoever asks for the result
                pause = self._pause_after(error, call, is_new=is_new)
            else:
                return connection
        return None

    def go_on(self, call: Call[Any], *, is_overdue: bool) -> bool:
        """Take in what has arrived; say whether the call is done, one way or the other."""
        connection = self.connection
        assert connection is not None
        try:
            reply = connection.receive()
            if reply is not None:
                call.finish(reply)
            elif is_overdue:
                connection.give_up(self.message_timeout_s)
        except Exception as error:  # noqa: BLE001 - kept for whoever asks for the result
            if self._pause_after(error, call, is_new=True) is not None:
                self._perform_one(call)  # waits for room, and the other sessions with it
        return call.is_done

    def abandon(self) -> None:
        """Give up a call between its halves: no later one may get its reply."""
        if self.connection is not None and self.connection.in_use.locked():
            self._drop_connection()
            self._lose("a reply to it was not waited for.")

    # The connection.

    def connect(self) -> None:
        """Open the session now, a new one if it was lost."""
        with self._turn:
            if self.connection is None or not self.connection.is_usable:
                self._open(reopen=True)

    async def connect_async(self) -> None:
        """`connect` without blocking the loop."""
        await self._turn.take()
        try:
            if self.connection is None or not self.connection.is_usable:
                await self._open_async(reopen=True)
        finally:
            self._turn.end()

    def close(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        connection, self.connection = self.connection, None
        self._lost = None
        if connection is not None and connection.is_of_this_process:
            connection.close(FAREWELL, wait=not self._turn.is_taken_here())

    def answer_pings(self) -> None:
        """Answer what has arrived while nothing is asked."""
        connection = self.connection
        if connection is not None:
            connection.answer_pings()

    def disown(self) -> None:
        """This process is a fork of the one that made the calls so far: they stay its own."""
        self._turn = Turn()  # a thread that is not here may have had it
        self._noted.clear()
        if self.connection is not None:
            self.connection.disown()

    def _open(self, *, reopen: bool) -> Connection:
        self._require_no_episode(reopen=reopen)
        tend(self)
        self.connection = self._new_connection()
        self._lost = None
        return self.connection

    async def _open_async(self, *, reopen: bool) -> Connection:
        self._require_no_episode(reopen=reopen)
        tend(self)
        self.connection = await asyncio.to_thread(self._new_connection)
        self._lost = None
        return self.connection

    def _new_connection(self) -> Connection:
        return Connection(
            self.url,
            self._headers,
            self._connect_timeout_s,
            self._max_message_size,
            Liveness(*self._ping),
        )

    def _require_no_episode(self, *, reopen: bool) -> None:
        """Raise `SessionLostError` if an episode was lost and `reopen` does not allow a new one."""
        if self.connection is not None and self.connection.is_of_this_process:
            self._lose("its connection was dropped.")
        elif self.connection is not None:
            # Two processes reading one socket would each get the other's replies.
            self._lose("it belongs to the process this one was forked from.")
        if self._lost is not None and not reopen:
            raise self._lost

    def _note_loss(self, error: BaseException) -> None:
        if self.connection is None or self.connection.is_open:
            return
        self._lose(str(error) or type(error).__name__)
        if isinstance(error, SessionLostError):
            self._lost = error

    def _lose(self, why: str) -> None:
        """The episode is gone with the connection: until `reset()`, every call says so."""
        self.connection = None
        self._lost = SessionLostError(
            f"The session with {self.url} is lost: {why} The episode ended with it; call "
            "`reset()` to open a new one."
        )

    def _drop_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.drop()


def _pauses(wait_s: float) -> Iterator[float]:
    """For `wait_s` seconds, pauses between attempts to get a session, doubling up to 2 s."""
    give_up_at = time.monotonic() + wait_s
    pause = 0.05
    while (left := give_up_at - time.monotonic()) > 0:
        # Jitter: those who were refused together should not come back together.
        yield min(pause * random.uniform(0.5, 1.5), left)
        pause = min(pause * 2, 2.0)
