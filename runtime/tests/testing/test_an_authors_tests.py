# SPDX-License-Identifier: BSD-3-Clause
"""`stepwire.testing` in the project of an author, whose package is not even installed."""

from collections.abc import Callable
from typing import Any

import pytest

import stepwire.testing
from stepwire.testing import EnvironmentConformance

_COIN = """
import random
from typing import Literal
from uuid import uuid4

from stepwire.client import SessionClient
from stepwire.server import create_app, serve

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Toss(Action):
    guess: Literal["heads", "tails"]


class Coin(Observation):
    side: str = ""


class CoinEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self, seed=None, episode_id=None, **kwargs):
        self._random = random.Random(seed)
        self._state = State(episode_id=episode_id or str(uuid4()))
        return Coin()

    def step(self, action: Toss, timeout_s=None, **kwargs):
        self._state.step_count += 1
        side = self._random.choice(["heads", "tails"])
        return Coin(side=side, reward=float(side == action.guess))

    @property
    def state(self):
        return self._state


class CoinEnv(SessionClient[Toss, Coin, State]):
    pass


app = create_app(CoinEnvironment, Toss, Coin)

if __name__ == "__main__":
    serve("coin:app")
"""

_TESTS = """
from coin import CoinEnv, CoinEnvironment, Toss
from stepwire.testing import Conversation, EnvironmentConformance, Server, server_fixture

server = server_fixture("coin", "--log-level", "info", env={"MAX_CONCURRENT_ENVS": "1"})
misspelt = server_fixture("coins")


class TestCoin(EnvironmentConformance):
    def make_environment(self):
        return CoinEnvironment()


def test_the_client(server: Server):
    with CoinEnv(base_url=server.url) as env:
        assert env.step(Toss(guess="heads")).reward in (0, 1)


def test_the_frames(server: Server):
    with server.connect() as conversation, server.connect() as refused:
        assert isinstance(conversation, Conversation)
        assert conversation.step(guess="edge")["data"]["code"] == "VALIDATION_ERROR"
        assert refused.receive()["data"]["code"] == "CAPACITY_REACHED"
        assert refused.close_code() == 1000
    assert "Uvicorn running on" in server.log


def test_a_server_that_does_not_start(misspelt):
    raise AssertionError("never reached")
"""


@pytest.mark.slow
def test_an_author_tests_environment_client_and_frames(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(coin=_COIN, test_coin=_TESTS)
    # The one place must be free for the next test, even if the server takes more than 2 s for that.
    pytester.makeconftest(
        "import stepwire.client.connection as connection\n\nconnection._CLOSE_TIMEOUT_S = 60.0\n"
    )
    result = pytester.runpytest_subprocess("-q", "-W", "error", "-p", "no:xdist")
    inherited = [name for name in dir(EnvironmentConformance) if name.startswith("test_")]
    result.assert_outcomes(passed=len(inherited) + 2, errors=1)
    result.stdout.fnmatch_lines(["*The server did not start*", "*No module named coins"])


def test_a_server_without_pytest(run: Callable[..., Any]) -> None:
    done = run("-c", "import sys, stepwire.testing as t; t.Server; print('pytest' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Servers'"):
        stepwire.testing.Servers  # noqa: B018
