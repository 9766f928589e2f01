# SPDX-License-Identifier: BSD-3-Clause
"""`SessionPool`: many sessions on one server, stepped together by one thread.

All requests go out before the first reply is waited for, so the server works on all of them while
the pool waits once. One selector watches the sockets: no thread and no event loop per session.
"""

import selectors
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from stepwire.client.connection import Connection
from stepwire.client.errors import UsageError
from stepwire.client.results import AwaitableStepResult, Call, PendingStepResult
from stepwire.client.session_client import SessionClient

if TYPE_CHECKING:
    from typing_extensions import Self

# More at once would not connect any sooner, as Python runs one thread at a time.
_CONNECTING_AT_ONCE = 16

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")


class SessionPool(Generic[ActT, ObsT]):
    """`num_envs` sessions; results come in their order, whatever order the replies come in.

    A session that fails does not sink the others: its result's `error` is the exception, which is
    also raised when any other field of that result is read. `reset(only=[index])` revives it.
    """

    client_class: ClassVar[type[SessionClient[Any, Any, Any]]]
    """The class of the pool's sessions; each subclass names its own."""

    def __init__(self, base_url: str, num_envs: int, **client_options: Any) -> None:
        """Make `num_envs` clients of `base_url`; `client_options` are those of the client class."""
        if num_envs < 1:
            raise ValueError(f"num_envs must be 1 or more, not {num_envs}")
        if not hasattr(type(self), "client_class"):
            raise UsageError(f"{type(self).__name__} does not say what its `client_class` is.")
        self.sessions: list[SessionClient[ActT, ObsT, Any]] = [
            self.client_class(base_url, **client_options).sync() for _ in range(num_envs)
        ]
        self._selector = selectors.DefaultSelector()
        self._watched: list[tuple[Connection, int] | None] = [None] * num_envs

    def __len__(self) -> int:
        return len(self.sessions)

    def reset(
        self, *, only: Sequence[int] | None = None, **kwargs: Any
    ) -> list[AwaitableStepResult[ObsT]]:
        """Start an episode in every session, or in those of the indices in `only`.

        A list or tuple as keyword (`seed=[1, 2, …]`) has one value for each of these sessions, any
        other value goes to all of them.
        """
        indices = range(len(self)) if only is None else only
        per_session: list[dict[str, Any]] = [{} for _ in indices]
        for name, value in kwargs.items():
            values = value if isinstance(value, list | tuple) else [value] * len(per_session)
            self._require_length(name, values, len(per_session))
            for arguments, one in zip(per_session, values, strict=True):
                arguments[name] = one
        calls = {
            index: self.sessions[index]._reset_call(arguments)
            for index, arguments in zip(indices, per_session, strict=True)
        }
        return self._in_order(calls)

    def step(
        self, actions: Sequence[ActT], *, only: Sequence[int] | None = None
    ) -> list[AwaitableStepResult[ObsT]]:
        """Take one step in every session: action i in session i, result i from it.

        With `only`, in those of its indices: action i in session `only[i]`.
        """
        return self._in_order(self._step_calls(actions, only))

    def step_as_completed(
        self, actions: Sequence[ActT]
    ) -> Iterator[tuple[int, AwaitableStepResult[ObsT]]]:
        """Take one step in every session; yield (session's index, result) as replies come in.

        Nothing is sent before the first result is asked for. Whoever leaves early loses the
        sessions whose replies are still under way.
        """
        calls = self._step_calls(actions)
        for index in self._perform(calls):
            yield index, _result(calls[index])

    def close(self) -> None:
        """Close all sessions. May be called any number of times."""
        for session in self.sessions:
            session.close()
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._watched = [None] * len(self)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _step_calls(
        self, actions: Sequence[ActT], only: Sequence[int] | None = None
    ) -> dict[int, Call[Any]]:
        indices = range(len(self)) if only is None else only
        self._require_length("actions", actions, len(indices))
        # All of them before any is sent: an invalid action leaves every episode where it was.
        return {
            index: self.sessions[index]._step_call(action)
            for index, action in zip(indices, actions, strict=True)
        }

    def _in_order(self, calls: dict[int, Call[Any]]) -> list[AwaitableStepResult[ObsT]]:
        for _ in self._perform(calls):
            pass
        return [_result(call) for call in calls.values()]

    def _perform(self, calls: dict[int, Call[Any]]) -> Iterator[int]:
        """Send all calls, then yield each index when its call is done."""
        waiting: dict[int, float] = {}  # index → when its reply is overdue
        try:
            for index, connection in self._begin(calls):
                self._watch(index, connection)
                if connection is None:
                    yield index
                else:
                    timeout_s = self.sessions[index]._session.message_timeout_s
                    waiting[index] = time.monotonic() + timeout_s
            while waiting:
                for index, is_overdue in self._wait(waiting):
                    session = self.sessions[index]._session
                    if session.go_on(calls[index], is_overdue=is_overdue):
                        # At once: the number of a closed socket is soon another one's.
                        self._watch(index, session.connection)
                        del waiting[index]
                        yield index
        finally:
            for index, call in calls.items():
                if not call.is_done:  # left half-way: no later call may get its reply
                    self._watch(index, None)
                    self.sessions[index]._session.abandon()

    def _begin(self, calls: dict[int, Call[Any]]) -> Iterator[tuple[int, Connection | None]]:
        """Send all requests, connecting first where need be: many sessions at the same time."""

        def begin(index: int) -> tuple[int, Connection | None]:
            return index, self.sessions[index]._session.begin(calls[index])

        connected = [index for index in calls if self.sessions[index]._session.connection]
        others = [index for index in calls if index not in connected]
        if len(others) > 1:
            with ThreadPoolExecutor(min(len(others), _CONNECTING_AT_ONCE)) as threads:
                begun = list(threads.map(begin, others))
            yield from begun
        else:
            connected = list(calls)
        yield from map(begin, connected)

    def _wait(self, waiting: dict[int, float]) -> list[tuple[int, bool]]:
        """The indices on whose sockets something arrived, and those that waited too long."""
        first_deadline = min(waiting.values())
        arrived = [key.data for key, _ in self._selector.select(first_deadline - time.monotonic())]
        for index in arrived:
            if index not in waiting:  # a ping or an end while nothing is asked of this session
                self._watch(index, None)
        now = time.monotonic()
        due = {index: False for index in arrived if index in waiting}
        if now >= first_deadline:
            due.update({index: True for index, deadline in waiting.items() if now >= deadline})
        return list(due.items())

    def _watch(self, index: int, connection: Connection | None) -> None:
        """Have the selector watch this connection, and no other, for the session."""
        watched = self._watched[index]
        if watched is not None and watched[0] is connection:
            return
        if watched is not None:
            self._selector.unregister(watched[1])
        self._watched[index] = None
        if connection is not None:
            descriptor = connection.fileno()
            if (closed := self._selector.get_map().get(descriptor)) is not None:
                # The number of a socket that was closed without this pool, given out again.
                self._watch(closed.data, None)
            self._selector.register(descriptor, selectors.EVENT_READ, index)
            self._watched[index] = (connection, descriptor)

    @staticmethod
    def _require_length(name: str, values: Sequence[Any], length: int) -> None:
        if len(values) != length:
            raise UsageError(f"{name} has {len(values)} values for {length} sessions")


def _result(call: Call[Any]) -> AwaitableStepResult[Any]:
    if call.error is None:
        return call.outcome()  # type: ignore[no-any-return]
    return PendingStepResult(call)
