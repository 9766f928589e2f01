# SPDX-License-Identifier: BSD-3-Clause
"""The reference environment for OpenEnv: it echoes, on every surface of the protocol."""

# First: it decides how everything below imports the framework.
from echo_env import _framework  # noqa: F401
from echo_env.client import EchoEnv, EchoEnvPool
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
from echo_env.models import EchoAction, EchoObservation
from stepwire.protocol.stamps import verify_stamp

__all__ = [
    "CapacityReachedError",
    "CommandNotFoundError",
    "ConnectFailedError",
    "DockerUnavailableError",
    "EchoAction",
    "EchoEnv",
    "EchoEnvPool",
    "EchoObservation",
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
    "verify_stamp",
]
