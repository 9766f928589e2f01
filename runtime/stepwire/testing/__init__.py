# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of an environment: conformance without a server, and servers that run.

class TestMine(EnvironmentConformance): …                        an environment, in-process
pytest_plugins = ["stepwire.testing.fixtures"]                   fixtures: `server`, `connect`, …
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire.testing.conformance import EnvironmentConformance
    from stepwire.testing.servers import Conversation, Server

__all__ = ["Conversation", "EnvironmentConformance", "Server"]


def __getattr__(name: str) -> Any:
    # On demand: each of these imports libraries that the others do not need.
    if name == "EnvironmentConformance":
        from stepwire.testing import conformance

        return conformance.EnvironmentConformance
    if name in __all__:
        from stepwire.testing import servers

        return getattr(servers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
