# SPDX-License-Identifier: BSD-3-Clause
"""The package as a type checker sees it from outside; `tests/check.py` checks it, nobody runs it.

Every comment that ignores an error stands for one the checker must find: where a base class has
become `Any` it finds none, and reports the comment as unused.
"""

from typing import Any

from openenv.core.env_server.types import State
from typing_extensions import assert_type

from echo_env import EchoAction, EchoEnv, EchoObservation
from echo_env.server.echo_env_environment import EchoEnvironment


def use_models() -> None:
    action = EchoAction(message="Hi")
    assert_type(action.message, str)
    assert_type(action.metadata, dict[str, Any])
    EchoAction(message=3)  # type: ignore[arg-type]
    EchoAction()  # type: ignore[call-arg]
    action.text = "Hi"  # type: ignore[attr-defined]

    observation = EchoObservation(echoed_message="Hi", message_length=2)
    assert_type(observation.message_length, int)
    assert_type(observation.done, bool)
    observation.reward = "high"  # type: ignore[assignment]


def use_environment() -> None:
    environment = EchoEnvironment()
    assert_type(environment.reset(seed=1), EchoObservation)
    assert_type(environment.step(EchoAction(message="Hi")), EchoObservation)
    assert_type(environment.state, State)
    environment.close(1)  # type: ignore[call-arg]
    environment.step("Hi")  # type: ignore[arg-type]


def use_client() -> None:
    with EchoEnv(base_url="http://localhost:8000") as env:
        assert_type(env, EchoEnv)
        assert_type(env.reset(seed=1).observation, EchoObservation)
        result = env.step(EchoAction(message="Hi"))
        assert_type(result.observation.message_length, int)
        assert_type(env.state().step_count, int)
        env.step("Hi")  # type: ignore[call-overload]
        env.restart()  # type: ignore[attr-defined]


async def await_client() -> None:
    async with EchoEnv(base_url="http://localhost:8000") as env:
        assert_type(env, EchoEnv)
        result = await env.step(EchoAction(message="Hi"))
        assert_type(result.observation, EchoObservation)
