# SPDX-License-Identifier: BSD-3-Clause
"""The reference environment for OpenEnv: it echoes, on every surface of the protocol."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("stepwire") is None:
    # No `stepwire` is installed: use the copy that came along, in a clone and in the wheel alike.
    sys.path.append(str(Path(__file__).resolve().parent / "runtime"))

# isort: split
from echo_env.client import EchoEnv, EchoEnvPool
from echo_env.models import EchoAction, EchoObservation
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
