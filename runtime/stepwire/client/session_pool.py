# SPDX-License-Identifier: BSD-3-Clause
"""`SessionPool`: many sessions on one server, stepped together by one thread.

The pool sends all requests before it waits for the first reply, so the server works on all of them
at once. One selector watches all sockets: there is no thread and no event loop per session.
"""

import selectors
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from stepwire.client.addresses import without_secrets
from stepwire.client.calls import Call
from stepwire.client.connection import Connection
from stepwire.client.errors import UsageError
from stepwire.client.results import AwaitableStepResult, PendingStepResult
from stepwire.client.session_client import SessionClient

if TYPE_CHECKING:
    from typing_extensions import Self

# More threads would not connect sooner: Python runs one at a time.
_CONNECTING_AT_ONCE = 16

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")


class SessionPool(Generic[ActT, ObsT]):
    """`num_envs` sessions. Results have the order of the sessions, not that of the replies.

    A session that fails does not affect the others: its result's `error` is the exception, and
    reading any other field of that result raises it. `reset(only=[index])` opens a new session in
    its place.
    """

    client_class: ClassVar[type[SessionClient[Any, Any, Any]]]
    """The class of the pool's sessions; each subclass names its own."""

    def __init__(self, base_url: str, num_envs: int, **client_options: Any) -> None:
        """Make `num_envs` clients of `base_url`, each with `client_options`."""
        if num_envs < 1:
            raise ValueError(f"num_envs must be 1 or more, not {num_envs}")
        if not hasattr(type(self), "client_class"):
            raise UsageError(
                f"{type(self).__name__} has no `client_class`: set it in the class, such as "
                "`client_class = MyEnv`."
            )
        self.sessions: list[SessionClient[ActT, ObsT, Any]] = [
            self.client_class(base_url, **client_options).sync() for _ in range(num_envs)
        ]
        self._base_url = base_url
        self._selector = selectors.DefaultSelector()
        self._watched: list[tuple[Connection, int, int] | None] = [None] * num_envs

    def __len__(self) -> int:
        return len(self.sessions)

    def __repr__(self) -> str:
        count = Counter(session.status for session in self.sessions)
        sessions = ", ".join(f"{number} {status}" for status, number in count.items())
        return f"<{type(self).__name__} {without_secrets(self._base_url)}: sessions {sessions}>"

    def reset(
        self, *, only: Sequence[int] | None = None, **kwargs: Any
    ) -> list[AwaitableStepResult[ObsT]]:
        """Start an episode in every session, or in those of the indices in `only`.

        A list or tuple (`seed=[1, 2, …]`) has one value for each of these sessions. Any other value
        goes to all of them.
        """
        indices = range(len(self)) if only is None else only
        per_session: list[dict[str, Any]] = [{} for _ in indices]
        for name, value in kwargs.items():
            values = value if isinstance(value, list | tuple) else [value] * len(per_session)
            self._require_length(name, values, len(per_session))
            for arguments, one in zip(per_session, values, strict=True):
                arguments[name] = one
        calls = {
            index: self.sessions[index].prepare_reset(arguments)
            for index, arguments in zip(indices, per_session, strict=True)
        }
        return self._in_order(calls)

    def step(
        self, actions: Sequence[ActT], *, only: Sequence[int] | None = None
    ) -> list[AwaitableStepResult[ObsT]]:
        """Take one step in every session: action i in session i, result i from it.

        With `only`, take action i in session `only[i]`.
        """
        return self._in_order(self._step_calls(actions, only))

    def step_as_completed(
        self, actions: Sequence[ActT]
    ) -> Iterator[tuple[int, AwaitableStepResult[ObsT]]]:
        """Take one step in every session; yields (index of the session, result) as replies come in.

        Sends nothing before the first result is requested. A loop that ends early loses the
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
        # Prepare all before sending any: an invalid action then leaves every episode as it was.
        return {
            index: self.sessions[index].prepare_step(action)
            for index, action in zip(indices, actions, strict=True)
        }

    def _in_order(self, calls: dict[int, Call[Any]]) -> list[AwaitableStepResult[ObsT]]:
        for _ in self._perform(calls):
            pass
        return [_result(call) for call in calls.values()]

    def _perform(self, calls: dict[int, Call[Any]]) -> Iterator[int]:
        """Send all calls, then yield each index when its call is done."""
        waiting: dict[int, Connection] = {}  # for their replies
        try:
            for index, connection in self._begin(calls):
                self._watch(index, connection)
                if connection is None:
                    yield index
                else:
                    waiting[index] = connection
            while waiting:
                for index in self._wait(waiting):
                    session = calls[index].performer
                    if session.go_on(calls[index]):
                        del waiting[index]
                        yield index
                    # At once: the descriptor of a closed socket may soon be another's.
                    self._watch(index, session.connection)
        finally:
            for index, call in calls.items():
                if not call.is_done:  # the caller left early: no later call may get its reply
                    self._watch(index, None)
                    call.performer.abandon()

    def _begin(self, calls: dict[int, Call[Any]]) -> Iterator[tuple[int, Connection | None]]:
        """Send all requests. Sessions without a connection connect first, at the same time."""

        def begin(index: int) -> tuple[int, Connection | None]:
            return index, calls[index].performer.begin(calls[index])

        connected = [index for index, call in calls.items() if call.performer.connection]
        others = [index for index in calls if index not in connected]
        if len(others) > 1:
            with ThreadPoolExecutor(min(len(others), _CONNECTING_AT_ONCE)) as threads:
                begun = list(threads.map(begin, others))
            yield from begun
        else:
            connected = list(calls)
        yield from map(begin, connected)

    def _wait(self, waiting: dict[int, Connection]) -> list[int]:
        """The indices on whose sockets something happened, and those whose time has come."""
        first = min(connection.wake_at for connection in waiting.values())
        ready = [key.data for key, _ in self._selector.select(max(0.0, first - time.monotonic()))]
        for index in ready:
            if index not in waiting:  # a ping or a close frame for a session without a call
                self._watch(index, None)
        now = time.monotonic()
        due = [index for index in ready if index in waiting]
        if now >= first:
            due += [
                index
                for index, connection in waiting.items()
                if now >= connection.wake_at and index not in ready
            ]
        return due

    def _watch(self, index: int, connection: Connection | None) -> None:
        """Have the selector watch this connection, and no other, for session `index`."""
        watched = self._watched[index]
        events = 0 if connection is None else connection.events
        if watched is not None and watched[0] is connection and watched[2] == events:
            return
        if watched is not None:
            self._selector.unregister(watched[1])
        self._watched[index] = None
        if connection is not None:
            descriptor = connection.fileno()
            if (closed := self._selector.get_map().get(descriptor)) is not None:
                # The socket that had this descriptor was closed outside this pool.
                self._watch(closed.data, None)
            self._selector.register(descriptor, events, index)
            self._watched[index] = (connection, descriptor, events)

    @staticmethod
    def _require_length(name: str, values: Sequence[Any], length: int) -> None:
        if len(values) != length:
            raise UsageError(
                f"`{name}` must have one value for each of {length} sessions, not {len(values)}."
            )


def _result(call: Call[Any]) -> AwaitableStepResult[Any]:
    if call.error is None:
        return call.outcome()  # type: ignore[no-any-return]
    return PendingStepResult(call)
