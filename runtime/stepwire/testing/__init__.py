# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of an environment: conformance without a server, and servers that run.

class TestMine(EnvironmentConformance): …                        an environment, in-process
server = server_fixture("my_env.server.app")                     a server, for tests of clients
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire.testing.conformance import EnvironmentConformance
    from stepwire.testing.fixtures import server_fixture
    from stepwire.testing.servers import Conversation, Server

__all__ = ["Conversation", "EnvironmentConformance", "Server", "server_fixture"]


_MODULES = {
    "Conversation": "servers",
    "EnvironmentConformance": "conformance",
    "Server": "servers",
    "server_fixture": "fixtures",
}


def __getattr__(name: str) -> Any:
    # On demand: each of these imports libraries that the others do not need.
    if name in _MODULES:
        return getattr(import_module(f"stepwire.testing.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
