# SPDX-License-Identifier: BSD-3-Clause
"""The client of OpenEnv environments: one session or many, from threads and from event loops."""

from stepwire._framework import imported_later
from stepwire._interrupts import ended_by_signals

with ended_by_signals():
    with imported_later("requests"):  # a quarter of the time; only `UVProvider` uses it
        import openenv.core.env_client  # noqa: F401
    from stepwire.client import errors
    from stepwire.client.errors import *  # noqa: F403
    from stepwire.client.results import AwaitableState
    from stepwire.client.servers import LostEpisode
    from stepwire.client.session_client import SessionClient
    from stepwire.client.session_pool import SessionPool
    from stepwire.client.tools import ToolDialect
    from stepwire.protocol.stamps import verify_stamp

__all__ = [
    "AwaitableState",
    "LostEpisode",
    "SessionClient",
    "SessionPool",
    "ToolDialect",
    "verify_stamp",
]
__all__ += errors.__all__
