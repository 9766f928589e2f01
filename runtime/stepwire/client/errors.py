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
└── UsageError              RuntimeError      the call cannot work where it was made
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
    "InvalidOptionError",
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
    """Base of all errors that the client raises by itself."""


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
        self.reason = reason


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
    server's text, `errors` its list of validation errors (may be empty), `data` the whole answer.
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
        return type(self), (self.data, self.server)  # process pools pickle errors


class CapacityReachedError(ServerError):
    """All sessions of the server are taken: `active_sessions` of `max_sessions`. Try later."""

    def __init__(self, data: dict[str, Any], server: str) -> None:
        super().__init__(data, server)
        self.active_sessions: int | None = data.get("active_sessions")
        self.max_sessions: int | None = data.get("max_sessions")


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


class UsageError(EnvClientError, RuntimeError):
    """The call cannot work where it was made. The message says what to do instead."""
