# SPDX-License-Identifier: BSD-3-Clause
"""The errors of the client. Each derives from what callers of the stock client catch, too.

EnvClientError
├── ConnectFailedError      ConnectionError   no session could be opened
├── SessionLostError        ConnectionError   the connection ended, and the episode with it
├── ReplyTimeoutError       TimeoutError      no reply in time; the connection is dropped
├── ServerError             RuntimeError      the server answered with an error
│   └── CapacityReachedError                  … because all its sessions are taken
├── ProtocolViolationError  RuntimeError      the reply does not follow the protocol
├── InvalidActionError      ValueError        the action cannot be sent; nothing was sent
├── InvalidOptionError      ValueError        the client cannot be made with this option
├── ServerStartError        RuntimeError      the server that the client starts did not start
│   ├── CommandNotFoundError                  … because `docker` or `uv` is not installed
│   ├── DockerUnavailableError                … because the Docker daemon does not answer
│   ├── ImageNotFoundError                    … because its image cannot be found
│   ├── PortTakenError                        … because something else listens on its port
│   ├── ServerExitedError                     … because it ended before it was healthy
│   └── ServerNotHealthyError   TimeoutError  … because it was not healthy in time
├── LostEpisodesError       RuntimeError      more episodes of a pool were lost than it may lose
└── UsageError              RuntimeError      the call cannot work where it was made
"""

import asyncio
import re
import sys
from collections import Counter
from typing import Any

__all__ = [
    "CapacityReachedError",
    "CommandNotFoundError",
    "ConnectFailedError",
    "DockerUnavailableError",
    "EnvClientError",
    "ImageNotFoundError",
    "InvalidActionError",
    "InvalidOptionError",
    "LostEpisodesError",
    "PortTakenError",
    "ProtocolViolationError",
    "ReplyTimeoutError",
    "ServerError",
    "ServerExitedError",
    "ServerNotHealthyError",
    "ServerStartError",
    "SessionLostError",
    "UsageError",
]


# Characters that move a terminal's cursor, set its colours, break a log line or reverse text.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LONGEST_TEXT = 3000  # characters
_LONGEST_LOG = 20_000


def printable(text: str, longest: int = _LONGEST_TEXT, *, lines: bool = False) -> str:
    """A server's text with control characters escaped, truncated to `longest` characters.

    With `lines`, line breaks and tabs stay as they are.
    """
    shown = _UNPRINTABLE.sub(
        lambda found: found[0] if lines and found[0] in "\n\t" else ascii(found[0])[1:-1],
        text[: longest + 1],
    )
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def start_of(message: bytes) -> str:
    """The beginning of a message that a server sent, for texts."""
    return printable(message[:200].decode(errors="replace"), 300)


class EnvClientError(Exception):
    """Base of all errors that the client raises by itself.

    Their messages have no control characters and are of limited length, whatever a server sends.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ConnectFailedError(EnvClientError, ConnectionError):
    """No session could be opened: no server listens, or the handshake was refused or too slow."""


class SessionLostError(EnvClientError, ConnectionError):
    """The connection ended, and the episode with it. `reset()` starts a new one.

    `close_code` and `reason` are those of the WebSocket's close frame; without one they are `None`
    and "".
    """

    def __init__(self, message: str, close_code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = printable(reason)


if sys.version_info >= (3, 11):  # where it is also `asyncio.TimeoutError`

    class _AnyTimeoutError(TimeoutError):
        pass

else:  # pragma: no cover - Python 3.10, where asyncio has a class of its own

    class _AnyTimeoutError(TimeoutError, asyncio.TimeoutError):
        pass


class ReplyTimeoutError(EnvClientError, _AnyTimeoutError):
    """No reply came within `message_timeout_s`. A late one is not taken for another call's."""


class ServerError(EnvClientError, RuntimeError):
    """The server answered with an error. The session goes on.

    `code` is one of the wire contract (`VALIDATION_ERROR`, `EXECUTION_ERROR`, …), `message` is the
    server's text, `errors` its list of validation errors (may be empty), `data` the whole answer as
    it was received.
    """

    def __init__(self, data: dict[str, Any], server: str) -> None:
        self.message = printable(str(data.get("message", "no message")), 2000, lines=True)
        self.code = printable(str(data.get("code", "UNKNOWN")), 100)
        errors = data.get("errors")
        self.errors: list[dict[str, Any]] = (
            [error for error in errors if isinstance(error, dict)]
            if isinstance(errors, list)
            else []
        )
        self.data = data
        self.server = server
        reasons = "; ".join(
            f"{_path(error.get('loc'))}: {error.get('msg', '')}" for error in self.errors[:20]
        )
        details = f" [{printable(reasons, 500)}]" if reasons else ""
        super().__init__(f"Server error: {self.message} (code: {self.code}){details} from {server}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.server)  # process pools pickle errors


class CapacityReachedError(ServerError):
    """All sessions of the server are taken: `active_sessions` of `max_sessions`. Try later."""

    def __init__(self, data: dict[str, Any], server: str) -> None:
        super().__init__(data, server)
        self.active_sessions = _count(data.get("active_sessions"))
        self.max_sessions = _count(data.get("max_sessions"))


def _path(loc: Any) -> str:
    return ".".join(map(str, loc)) if isinstance(loc, list) else str(loc or "")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


class ProtocolViolationError(EnvClientError, RuntimeError):
    """The server sent what the OpenEnv protocol does not allow. The connection is dropped."""


class InvalidActionError(EnvClientError, ValueError):
    """The action, or an argument of `reset()`, cannot be sent. Nothing was sent."""


class InvalidOptionError(EnvClientError, ValueError):
    """An option of the client has a value that cannot work. The message names it."""


class ServerStartError(EnvClientError, RuntimeError):
    """The server did not start, and nothing of it is left running.

    The message ends with the last lines of the server's log, if there are any.
    """

    def __init__(self, message: str = "") -> None:
        Exception.__init__(self, printable(message, _LONGEST_LOG, lines=True))


class CommandNotFoundError(ServerStartError):
    """The command that starts the server is not installed."""


class DockerUnavailableError(ServerStartError):
    """Docker is installed, but its daemon does not answer."""


class ImageNotFoundError(ServerStartError):
    """The image is neither on this machine nor could it be pulled."""


class PortTakenError(ServerStartError):
    """Something else listens on the port."""


class ServerExitedError(ServerStartError):
    """The server ended before it was healthy."""


class ServerNotHealthyError(ServerStartError, _AnyTimeoutError):
    """The server was not healthy within `wait_timeout`, and was stopped."""


class LostEpisodesError(EnvClientError, RuntimeError):
    """A pool has lost more episodes than its `max_lost_episodes`, the `limit`.

    `episodes` has them all, as `LostEpisode`. Nothing was sent.
    """

    def __init__(self, limit: int, episodes: list[Any]) -> None:
        self.limit = limit
        self.episodes = list(episodes)
        servers = Counter(episode.server for episode in episodes)
        shown = ", ".join(f"{number} on {server}" for server, number in servers.most_common(5))
        super().__init__(
            f"{len(episodes)} episodes were lost with their sessions ({shown}); the limit is "
            f"`max_lost_episodes={limit}`. The last one: {episodes[-1].reason}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit, self.episodes)


class UsageError(EnvClientError, RuntimeError):
    """The call cannot work where it was made. The message says what to do instead."""
