# SPDX-License-Identifier: BSD-3-Clause
"""`SessionPool`: many sessions on one server or on several, stepped together.

The pool sends all requests before it waits for the first reply, so the servers work on all of them
at once. One selector watches all sockets: there is no thread and no event loop per session. Calls
for which connections must be opened, and which may wait for a place, are performed on an event loop
in a thread. On a running event loop, `await pool.step(…)` leaves all calls to that loop.
"""

import asyncio
import os
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
    Sized,
)
from contextlib import aclosing, suppress
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

from stepwire.client.calls import Call
from stepwire.client.connection import Connection
from stepwire.client.errors import InvalidOptionError, LostEpisodesError, UsageError
from stepwire.client.loops import iterated_in_thread, running_loop
from stepwire.client.options import number
from stepwire.client.results import (
    AwaitableList,
    AwaitableStepResult,
    PendingStepResult,
    PendingValue,
)
from stepwire.client.servers import LostEpisode, Place, Servers
from stepwire.client.session import Session
from stepwire.client.session_client import SessionClient
from stepwire.client.watch import Watch

if TYPE_CHECKING:
    from typing_extensions import Self

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")


class SessionPool(Generic[ActT, ObsT]):
    """`num_envs` sessions. Results have the order of the sessions, not that of the replies.

    A session that fails does not affect the others: its result's `error` is the exception, and
    reading any other field of that result raises it. `reset(only=pool.lost)` opens new sessions in
    the place of those that are lost, on servers that have room; `lost_episodes` lists what was lost
    with them.

    On a running event loop, `reset` and `step` may be awaited, or their results simply read; in a
    `with` block they block there, too. `async for` takes results as they come in.
    """

    client_class: ClassVar[type[SessionClient[Any, Any, Any]]]
    """The class of the pool's sessions; each subclass names its own."""

    def __init__(
        self,
        base_url: str | Sequence[str],
        num_envs: int,
        *,
        capacity_wait_s: float = 30.0,
        max_lost_episodes: int | None = None,
        **client_options: Any,
    ) -> None:
        """Make `num_envs` clients, each with `client_options`, of one server or of several.

        `base_url` is the address of a server, or of a balancer before several, or a list of
        addresses: then each session is opened on the server with most free places. While all are
        full, sessions wait for up to `capacity_wait_s` seconds each, and then fail with
        `CapacityReachedError`. Once more than `max_lost_episodes` episodes are lost, `reset` raises
        `LostEpisodesError`; `None` is no limit. Raises `InvalidOptionError`.
        """
        if not isinstance(num_envs, int | Integral) or num_envs < 1:
            raise InvalidOptionError(f"`num_envs` must be 1 or more, not {num_envs!r}.")
        if not hasattr(type(self), "client_class"):
            raise UsageError(
                f"{type(self).__name__} has no `client_class`: set it in the class, such as "
                "`client_class = MyEnv`."
            )
        options = {"capacity_wait_s": capacity_wait_s, "max_lost_episodes": max_lost_episodes}
        wait_s = number(options, "capacity_wait_s", may_be_0=True, may_be_endless=True)
        if max_lost_episodes is not None:
            number(options, "max_lost_episodes", "episodes", may_be_0=True)
        is_one = isinstance(base_url, str) or not isinstance(base_url, Iterable)
        addresses: list[Any] = [base_url] if is_one else [*base_url]
        self._servers = Servers(addresses, wait_s, num_envs)
        self.sessions: list[SessionClient[ActT, ObsT, Any]] = [
            self.client_class(addresses[0], **client_options).sync() for _ in range(num_envs)
        ]
        self.lost_episodes: list[LostEpisode] = []
        """All episodes that were lost so far, in the order in which that was noticed."""
        self._performers: list[Session] = [
            session.take(Place(self._servers, index, self.lost_episodes))
            for index, session in enumerate(self.sessions)
        ]
        self._max_lost_episodes = max_lost_episodes
        self._is_blocking = False  # whether calls block even on a running loop
        self._idle_watches: list[Watch] = []  # for further rounds

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} can be neither pickled nor copied: its sessions belong to one pool. Make "
            "another one of its address and options."
        )

    def __len__(self) -> int:
        return len(self.sessions)

    def __repr__(self) -> str:
        count = Counter(session.status for session in self.sessions)
        sessions = ", ".join(f"{number} {status}" for status, number in count.items())
        return f"<{type(self).__name__} {self._servers!r}: sessions {sessions}>"

    @property
    def lost(self) -> list[int]:
        """The indices of the sessions that are lost, as far as is known without waiting.

        Notices also what happened between two calls.
        """
        for performer in self._performers:
            performer.check()
        return [index for index, each in enumerate(self._performers) if each.status == "lost"]

    def reset(
        self, *, only: Sequence[int] | None = None, **kwargs: Any
    ) -> AwaitableList[AwaitableStepResult[ObsT]]:
        """Start an episode in every session, or in those of the indices in `only`.

        A list or tuple (`seed=[1, 2, …]`) has one value for each of these sessions. Any other value
        goes to all of them. Sessions that are lost are opened again.
        """
        limit = self._max_lost_episodes
        if limit is not None and len(self.lost_episodes) > limit:
            raise LostEpisodesError(limit, self.lost_episodes)
        indices = self._indices(only)
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
    ) -> AwaitableList[AwaitableStepResult[ObsT]]:
        """Take one step in every session: action i in session i, result i from it.

        With `only`, take action i in session `only[i]`.
        """
        return self._in_order(self._step_calls(actions, only))

    def step_as_completed(self, actions: Sequence[ActT]) -> "_AsCompleted[ObsT]":
        """Take one step in every session; yields (index of the session, result) as replies come in.

        Sends nothing before the first result is requested. A loop that ends early loses the
        sessions whose replies are still under way. Takes `for` and `async for`.
        """
        return _AsCompleted(self._perform, self._step_calls(actions))

    def close(self) -> None:
        """Close all sessions. May be called any number of times."""
        for performer in self._performers:
            performer.begin_close()
        for session in self.sessions:
            session.close()
        self._idle_watches = []

    def __enter__(self) -> "Self":
        self._is_blocking = True
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.gather(*(session.__aexit__(*error) for session in self.sessions))
        self.close()

    def _step_calls(
        self, actions: Sequence[ActT], only: Sequence[int] | None = None
    ) -> dict[int, Call[Any]]:
        indices = self._indices(only)
        self._require_length("actions", actions, len(indices))
        # Prepare all before sending any: an invalid action then leaves every episode as it was.
        return {
            index: self.sessions[index].prepare_step(action)
            for index, action in zip(indices, actions, strict=True)
        }

    def _in_order(self, calls: dict[int, Call[Any]]) -> AwaitableList[AwaitableStepResult[ObsT]]:
        round_ = Call(_Round(self._perform, calls), b"", lambda _: AwaitableList(_results(calls)))
        if self._is_blocking or (loop := running_loop()) is None:
            return round_.read()
        for call in calls.values():
            _session(call).defer(call, loop)
        pending: Any = PendingValue(round_)
        return pending  # type: ignore[no-any-return]

    def _perform(self, calls: dict[int, Call[Any]]) -> Generator[int, None, None]:
        """Send all calls, then yield each index when its call is done."""
        for call in calls.values():
            _session(call).lock.require_not_held_here()
        if any(_session(call).opens_for(call) for call in calls.values()):
            for call in calls.values():
                _session(call).way.require_not_sought_here()
            yield from iterated_in_thread(lambda: _settled(calls))
        else:
            yield from self._perform_on_open_connections(calls)

    def _perform_on_open_connections(
        self, calls: dict[int, Call[Any]]
    ) -> Generator[int, None, None]:
        waiting: dict[int, Connection] = {}  # for their replies
        idle_watches = self._idle_watches
        # Of its own: within a loop over `step_as_completed`, or in other threads, there are others.
        try:
            watch = idle_watches.pop()
        except IndexError:
            watch = Watch()
        if watch.process != os.getpid():
            watch = Watch()
        try:
            # Sorted: two threads that begin in the same order cannot wait for each other.
            for index, call in sorted(calls.items()):
                connection = _session(call).begin(call)
                watch.set(index, connection)
                if connection is None:
                    yield index
                else:
                    waiting[index] = connection
            while waiting:
                # Another list means that the pool was closed: that fails all calls.
                is_closed = idle_watches is not self._idle_watches
                for index in [*waiting] if is_closed else watch.wait(waiting):
                    session = _session(calls[index])
                    is_done = session.go_on(calls[index])
                    # At once: the descriptor of a closed socket may soon be another's.
                    watch.set(index, session.connection)
                    if is_done:
                        del waiting[index]
                        yield index
        finally:
            if watch.process != os.getpid():
                watch = Watch()
            for index, call in calls.items():
                if not call.is_done:  # the caller left early
                    watch.set(index, None)
                    _session(call).abandon(call)
            idle_watches.append(watch)

    def _indices(self, only: Sequence[int] | None) -> Sequence[int]:
        if only is None:
            return range(len(self))
        with suppress(TypeError, IndexError):
            indices = [range(len(self))[index] for index in only]
            if len({*indices}) == len(indices):
                return indices
        raise UsageError(f"`only` must have indices of {len(self)} sessions, not {only!r}.")

    @staticmethod
    def _require_length(name: str, values: Any, length: int) -> None:
        given = len(values) if isinstance(values, Sized) else type(values).__name__
        if given != length:
            raise UsageError(
                f"`{name}` must have one value for each of {length} sessions, not {given}."
            )


class _AsCompleted(Generic[ObsT]):
    """Yields the results of calls as they come in, to `for` or to `async for`."""

    def __init__(
        self,
        perform: Callable[[dict[int, Call[Any]]], Generator[int, None, None]],
        calls: dict[int, Call[Any]],
    ) -> None:
        self._calls = calls
        self._done = perform(calls)

    def __iter__(self) -> "Self":
        return self

    def __next__(self) -> tuple[int, AwaitableStepResult[ObsT]]:
        index = next(self._done)
        return index, _result(self._calls[index])

    def close(self) -> None:
        """End the loop early."""
        self._done.close()

    async def __aiter__(self) -> AsyncIterator[tuple[int, AwaitableStepResult[ObsT]]]:
        async with aclosing(_settled(self._calls)) as indices:
            async for index in indices:
                yield index, _result(self._calls[index])


class _Round:
    """Performs the calls of many sessions as if they were one."""

    def __init__(
        self, perform: Callable[[dict[int, Call[Any]]], Iterator[int]], calls: dict[int, Call[Any]]
    ) -> None:
        self._perform = perform
        self._calls = calls

    def perform_up_to(self, call: Call[Any]) -> None:
        for _ in self._perform(self._calls):
            pass
        call.finish(b"")

    async def perform_up_to_async(self, call: Call[Any]) -> None:
        await asyncio.gather(*map(_settle, self._calls.values()))
        call.finish(b"")


async def _settle(call: Call[Any]) -> None:
    """Perform a call; its error is kept in it."""
    if not call.is_done:
        await _session(call).perform_up_to_async(call)


async def _settled(calls: dict[int, Call[Any]]) -> AsyncGenerator[int, None]:
    """Perform calls together, and yield each index when its call is done."""
    done: asyncio.Queue[int] = asyncio.Queue()
    tasks = []
    for index, call in calls.items():
        task = asyncio.ensure_future(_settle(call))
        task.add_done_callback(lambda _, index=index: done.put_nowait(index))  # type: ignore[misc]
        tasks.append(task)
    try:
        for _ in tasks:
            yield await done.get()
    finally:
        for task in tasks:
            task.cancel()


def _session(call: Call[Any]) -> Session:
    session = call.performer
    assert isinstance(session, Session)
    return session


def _results(calls: dict[int, Call[Any]]) -> list[AwaitableStepResult[Any]]:
    return [_result(call) for call in calls.values()]


def _result(call: Call[Any]) -> AwaitableStepResult[Any]:
    if call.error is None:
        return call.outcome()  # type: ignore[no-any-return]
    return PendingStepResult(call)
