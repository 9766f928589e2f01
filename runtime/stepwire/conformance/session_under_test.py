# SPDX-License-Identifier: BSD-3-Clause
"""`Session`: one connection to a server under test.

The methods here demand no more of an answer than they need to go on. Each rule of the contract is
for its own check, so that a server which breaks one rule fails one check.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from stepwire.conformance.conversation import Conversation
from stepwire.conformance.findings import CheckFailed, NotChecked

_LEAVE_S = 1.0
_NORMAL = 1000  # the close code, RFC 6455, section 7.4.1
_MOST_UNREAD = 100
_SECOND_LOOK_S = 1.2  # a state may have a clock of whole seconds
_ALWAYS_COMPARED = {"episode_id", "step_count"}


@dataclass(frozen=True)
class Closed:
    """How a connection ended; `code` is `None` when there was no close frame."""

    code: int | None
    reason: str

    def __str__(self) -> str:
        if self.code is None:
            return "the connection was lost"
        return f"the connection was closed: {self.code} {self.reason}".rstrip()

    @classmethod
    def by(cls, error: ConnectionClosed) -> "Closed":
        frame = error.rcvd
        return cls(None, "") if frame is None else cls(frame.code, frame.reason)


def kind_of(reply: Any) -> Any:
    """The type of a frame."""
    return reply.get("type") if isinstance(reply, dict) else None


def error_code(reply: Any) -> Any:
    """The code of an error frame; None for another frame."""
    data = reply.get("data") if kind_of(reply) == "error" else None
    return data.get("code") if isinstance(data, dict) else None


class Session(Conversation):
    """One connection to a server under test: what is wrong with its frames is a `CheckFailed`.

    `begin`, `play`, `take_step` and `state` are for what a check needs first: where they fail, the
    check comes to no verdict.
    """

    def __init__(
        self,
        connection: ClientConnection,
        timeout_s: float,
        action: Callable[[int], Any],
        restless: set[str],
    ) -> None:
        """`restless` has the fields of a state that change by themselves; it is added to."""
        super().__init__(connection, timeout_s)
        self._action = action
        self._restless = restless

    def send(self, frame: Any) -> None:
        # When the server has closed the connection, its last frames can still be received.
        with suppress(ConnectionClosed):
            super().send(frame)

    def receive(self, after_s: float = 0.0) -> Any:
        """The next frame, parsed; raises `CheckFailed` unless one comes that is JSON text.

        The frame may take `after_s` longer than a reply.
        """
        patience = self._timeout_s + after_s
        try:
            text = self.connection.recv(timeout=patience)
        except TimeoutError:
            raise CheckFailed(f"No reply within {patience:g} s") from None
        except ConnectionClosed as closed:
            raise CheckFailed(f"Expected a frame, but {Closed.by(closed)}") from None
        if not isinstance(text, str):
            raise CheckFailed(f"Expected a text frame, got a binary one: {text[:80]!r}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise CheckFailed(f"Expected JSON ({error}), got {text[:200]}") from None

    def closing(self) -> Closed:
        """Wait until the server closes; raises `CheckFailed` if it sends another frame."""
        try:
            frame = self.connection.recv(timeout=self._timeout_s)
        except TimeoutError:
            raise CheckFailed(f"The connection was not closed in {self._timeout_s:g} s") from None
        except ConnectionClosed as closed:
            return Closed.by(closed)
        raise CheckFailed(f"Expected the connection to be closed, got the frame {frame[:200]!r}")

    def end(self) -> bool:
        """Send `close` and wait; returns whether the server has ended the session.

        It may not have when the connection broke off: then its place is not free yet.
        """
        self.send({"type": "close"})
        try:
            for _ in range(_MOST_UNREAD):
                self.connection.recv(timeout=_LEAVE_S)
        except ConnectionClosed as closed:
            return Closed.by(closed).code == _NORMAL
        except TimeoutError:
            pass
        return False

    def data(self, frame: Any, kind: str) -> dict[str, Any]:
        """Send a frame and return the `data` of its reply, which must be a frame of type `kind`."""
        try:
            reply = self.ask(frame)
        except CheckFailed as failure:
            raise CheckFailed(f"{str(frame)[:200]}: {failure}", cause_known=False) from None
        if kind_of(reply) != kind:
            # Whatever the check tests, the error may come from the environment.
            raise CheckFailed(
                f"The reply to {str(frame)[:200]} was {str(reply)[:300]}",
                cause_known=kind_of(reply) != "error",
            )
        data = reply.get("data")
        if not isinstance(data, dict):
            article = "an" if kind[0] in "aeiou" else "a"
            raise CheckFailed(
                f"Expected an object as data of {article} {kind} frame, got {str(data)[:200]}"
            )
        return data

    def reset(self, **arguments: Any) -> dict[str, Any]:
        return self.data({"type": "reset", "data": arguments}, "observation")

    def begin(self) -> dict[str, Any]:
        """Start an episode."""
        return _needed(lambda: self.reset())

    def take_step(self, number: int = 0) -> dict[str, Any]:
        """Take one step with the action of that number."""
        frame = {"type": "step", "data": self._action(number)}
        return _needed(lambda: self.data(frame, "observation"))

    def play(self, most: int) -> list[dict[str, Any]]:
        """Take up to `most` steps, fewer if the episode ends earlier."""
        observed: list[dict[str, Any]] = []
        while len(observed) < most and not (observed and observed[-1].get("done")):
            observed.append(self.take_step(len(observed)))
        return observed

    def state(self) -> dict[str, Any]:
        return _needed(lambda: self.data({"type": "state"}, "state"))

    def changed_since(self, before: dict[str, Any]) -> dict[str, Any]:
        """What has changed in the state, as `{field: (before, after)}`.

        A field that changes by itself, such as a clock, is left out. Raises `CheckFailed` when the
        session does not go on.
        """
        reply = self.ask({"type": "state"})
        if kind_of(reply) != "state" or not isinstance(reply.get("data"), dict):
            raise CheckFailed(f"Expected the session to go on, got {reply!r:.300}")
        changed = self._differences(before, reply["data"])
        if set(changed) - _ALWAYS_COMPARED:
            now = self.state()
            time.sleep(_SECOND_LOOK_S)
            self._restless |= set(self._differences(now, self.state())) - _ALWAYS_COMPARED
            changed = self._differences(before, reply["data"])
        return changed

    def _differences(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        return {
            name: (before.get(name), after.get(name))
            for name in set(before | after) - self._restless
            if before.get(name) != after.get(name)
        }


def _needed(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except CheckFailed as failure:
        raise NotChecked(str(failure)) from None
