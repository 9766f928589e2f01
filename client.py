# SPDX-License-Identifier: BSD-3-Clause
"""The client of the echo environment: how its messages look on the wire, and nothing else."""

from typing import Any

from openenv.core.client_types import StepResult

from echo_env.models import EchoAction, EchoObservation
from stepwire.client.results import AwaitableState
from stepwire.client.session_client import SessionClient
from stepwire.client.session_pool import SessionPool


class EchoEnv(SessionClient[EchoAction, EchoObservation, AwaitableState]):
    """One session with an echo server, synchronous or asynchronous.

    with EchoEnv(base_url="http://localhost:8000") as env:
        env.reset()
        print(env.step(EchoAction(message="Hello")).observation.echoed_message)
    """

    server_module = "echo_env.server.app"

    def _step_payload(self, action: EchoAction) -> dict[str, Any]:
        """The `data` of a `step` frame."""
        payload: dict[str, Any] = {"message": action.message}
        if action.metadata:
            payload["metadata"] = action.metadata
        return payload

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[EchoObservation]:
        """The `data` of an `observation` frame; unknown keys are ignored."""
        received, reward, done = payload["observation"], payload["reward"], payload["done"]
        observation = EchoObservation(
            echoed_message=received["echoed_message"],
            message_length=received["message_length"],
            # openenv-core's own servers send no metadata.
            metadata=received.get("metadata") or {},
            reward=reward,
            done=done,
        )
        return StepResult(observation=observation, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> AwaitableState:
        """The `data` of a `state` frame."""
        return AwaitableState(**payload)


class EchoEnvPool(SessionPool[EchoAction, EchoObservation]):
    """`num_envs` sessions with an echo server, stepped together.

    with EchoEnvPool("http://localhost:8000", num_envs=64) as pool:
        pool.reset()
        results = pool.step([EchoAction(message=f"Hello {i}") for i in range(64)])
    """

    def __init__(self, base_url: str, num_envs: int, **client_options: Any) -> None:
        super().__init__(EchoEnv, base_url, num_envs, **client_options)
