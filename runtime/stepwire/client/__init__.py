# SPDX-License-Identifier: BSD-3-Clause
"""The client of OpenEnv environments: one session or many, from threads and from event loops."""

from stepwire.client.errors import (
    CapacityReachedError,
    CommandNotFoundError,
    ConnectFailedError,
    DockerUnavailableError,
    EnvClientError,
    ImageNotFoundError,
    InvalidActionError,
    PortTakenError,
    ProtocolViolationError,
    ReplyTimeoutError,
    ServerError,
    ServerExitedError,
    ServerNotHealthyError,
    ServerStartError,
    SessionLostError,
    UsageError,
)
from stepwire.client.results import AwaitableState
from stepwire.client.session_client import SessionClient
from stepwire.client.session_pool import SessionPool
from stepwire.protocol.stamps import verify_stamp

__all__ = [
    "AwaitableState",
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
    "SessionClient",
    "SessionLostError",
    "SessionPool",
    "UsageError",
    "verify_stamp",
]
