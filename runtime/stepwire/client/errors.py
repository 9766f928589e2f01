# SPDX-License-Identifier: BSD-3-Clause
"""What the client raises. Each error is also what callers of the stock client catch today.

EnvClientError
├── ConnectFailedError      ConnectionError   no session could be opened
├── SessionLostError        ConnectionError   the connection went away, and the episode with it
├── ReplyTimeoutError       TimeoutError      no reply in time; the connection is dropped
├── ServerError             RuntimeError      the server answered with an error
│   └── CapacityReachedError                  … because all its sessions are taken
├── ProtocolViolationError  RuntimeError      the reply is not what the protocol promises
├── InvalidActionError      ValueError        the action cannot be sent; nothing was
├── ServerStartError        RuntimeError      the server this client was to run did not start
│   ├── CommandNotFoundError                  … because `docker`, or `uv`, is not installed
│   ├── DockerUnavailableError                … because the Docker daemon does not answer
│   ├── ImageNotFoundError                    … because its image is nowhere to be found
│   ├── PortTakenError                        … because something else listens on its port
│   ├── ServerExitedError                     … because it ended before it was healthy
│   └── ServerNotHealthyError   TimeoutError  … because it was not healthy in time
└── UsageError              RuntimeError      the call cannot work in this place
"""

import asyncio
import sys
from typing import Any

__all__ = [
    "CapacityReachedError",
    "CommandNotFoundError",
    "ConnectFailedError",
    "DockerUnavailableError",
    "EnvClientError",
    "ImageNotFoundError",
    "InvalidActionError",
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


class EnvClientError(Exception):
    """Base of everything the client raises on purpose."""


class ConnectFailedError(EnvClientError, ConnectionError):
    """No session could be opened: nobody listens, or the handshake was refused or too slow."""


class SessionLostError(EnvClientError, ConnectionError):
    """The connection went away during an episode, which ended with it; `reset()` starts a new one.

    `close_code` and `reason` are those of the WebSocket close frame, `None` without one.
    """

    def __init__(self, message: str, close_code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = reason


if sys.version_info >= (3, 11):  # where it is also `asyncio.TimeoutError`

    class _AnyTimeoutError(TimeoutError):
        pass

else:  # pragma: no cover - Python 3.10, where asyncio has a class of its own

    class _AnyTimeoutError(TimeoutError, asyncio.TimeoutError):
        pass


class ReplyTimeoutError(EnvClientError, _AnyTimeoutError):
    """No reply within `message_timeout_s`. A late one can no longer be taken for another call's."""


class ServerError(EnvClientError, RuntimeError):
    """The server's answer is an error; the session goes on.

    `code` is one of the wire contract (`VALIDATION_ERROR`, `EXECUTION_ERROR`, …), `message` the
    server's text, `errors` its list of validation errors (may be empty), `data` all of it.
    """

    def __init__(self, data: dict[str, Any], server: str) -> None:
        self.message = str(data.get("message", "no message"))
        self.code = str(data.get("code", "UNKNOWN"))
        errors = data.get("errors")
        self.errors: list[dict[str, Any]] = (
            [error for error in errors if isinstance(error, dict)]
            if isinstance(errors, list)
            else []
        )
        self.data = data
        self.server = server
        reasons = "; ".join(
            f"{'.'.join(map(str, error.get('loc', ())))}: {error.get('msg', '')}"
            for error in self.errors
        )
        details = f" [{reasons}]" if reasons else ""
        super().__init__(f"Server error: {self.message} (code: {self.code}){details} from {server}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.server)  # a process pool sends errors to its parent


class CapacityReachedError(ServerError):
    """All sessions of the server are taken: `active_sessions` of `max_sessions`. Try later."""

    def __init__(self, data: dict[str, Any], server: str) -> None:
        super().__init__(data, server)
        self.active_sessions: int | None = data.get("active_sessions")
        self.max_sessions: int | None = data.get("max_sessions")


class ProtocolViolationError(EnvClientError, RuntimeError):
    """The server sent something the OpenEnv protocol does not allow; the connection is dropped."""


class InvalidActionError(EnvClientError, ValueError):
    """The action cannot be sent. Nothing was sent, and the episode is where it was."""


class ServerStartError(EnvClientError, RuntimeError):
    """The server did not start, and nothing of it was left running.

    The message ends with the last lines of its log, if it got as far as that.
    """


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
    """The server was not healthy within `wait_timeout`; it was stopped."""


class UsageError(EnvClientError, RuntimeError):
    """A call that cannot work where it was made; the message says what to do instead."""
