# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of an environment, with pytest.

from stepwire.testing import EnvironmentConformance, Server, server_fixture

class TestMyEnvironment(EnvironmentConformance):    # in-process: what every environment must do
    def make_environment(self):
        return MyEnvironment()

server = server_fixture("my_env.server.app")        # a real server, shared by all tests of a run

def test_an_episode(server: Server):
    with MyEnv(base_url=server.url) as env:
        assert env.step(MyAction(move="left")).reward == 1

def test_frames(server: Server):                    # what the server sends, without a client
    with server.connect() as conversation:
        assert conversation.ask({"type": "state"})["data"]["step_count"] == 0

Only `server_fixture` imports pytest: the methods of `EnvironmentConformance` also work with
`unittest.TestCase`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire.conformance.conversation import Conversation
    from stepwire.testing.environment_conformance import EnvironmentConformance
    from stepwire.testing.fixtures import server_fixture
    from stepwire.testing.servers import Server

__all__ = ["Conversation", "EnvironmentConformance", "Server", "server_fixture"]

_MODULES = {
    "Conversation": "stepwire.conformance.conversation",
    "EnvironmentConformance": "stepwire.testing.environment_conformance",
    "Server": "stepwire.testing.servers",
    "server_fixture": "stepwire.testing.fixtures",
}


def __getattr__(name: str) -> Any:
    # Each of these imports libraries that the others do not need, such as pytest.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
