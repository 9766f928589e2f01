# SPDX-License-Identifier: BSD-3-Clause
"""The environment keeps the rules of OpenEnv, and a client plays an episode with its server."""

from echo_env import EchoAction, EchoEnv
from echo_env.server.echo_env_environment import EchoEnvironment
from stepwire.testing import EnvironmentConformance


class TestEchoEnvironment(EnvironmentConformance):
    def make_environment(self) -> EchoEnvironment:
        return EchoEnvironment()


def test_an_episode() -> None:
    with EchoEnv.from_local() as env:
        env.reset(seed=7)
        result = env.step(EchoAction(message="Hello"))
        assert result.observation.echoed_message == "Hello"
        assert (result.reward, result.done) == (0.5, False)
