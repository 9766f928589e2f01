# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment: what happens in an episode."""

# Echo only: `python3 server/echo_env_environment.py` checks it, also where it is not installed.
if not __package__:
    import _checkout  # type: ignore[import-not-found] # noqa: F401

from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State

from echo_env.models import EchoAction, EchoObservation
from echo_env.tasks import EchoTasks  # echo only


def echo_message(message: str) -> str:
    """Echo a message."""
    return message


def echo_with_length(message: str) -> dict[str, Any]:
    """Echo a message together with its length in Unicode code points."""
    return {"message": message, "length": len(message)}


class EchoEnvironment(
    EchoTasks,  # echo only
    Environment[EchoAction, EchoObservation, State],
):
    """Echoes each message and rewards its length: 0.1 for every Unicode code point, unbounded."""

    # One environment per session and nothing shared between them.
    SUPPORTS_CONCURRENT_SESSIONS = True
    # No method waits or computes for long, so the server may call them on its event loop. An
    # environment with a slow method leaves this out and is called in threads.
    BLOCKING = False
    # Offered over MCP beside the episode; names, annotations and docstrings become the schemas.
    TOOLS = (echo_message, echo_with_length)

    def __init__(self) -> None:
        super().__init__()
        self.reset()  # so that a step before a reset is allowed

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str | None = None,  # echo only
        index: int | None = None,  # echo only
        **kwargs: Any,
    ) -> EchoObservation:
        """Start an episode; its id is a random UUID unless given. Other keywords are ignored."""
        task = self.chosen_task(seed, split, index)  # echo only
        episode_id = str(uuid4()) if episode_id is None else episode_id
        self._episode: dict[str, Any] = {"episode_id": episode_id, "step_count": 0}
        self._episode |= task  # echo only
        if seed is not None:
            self._episode["seed"] = seed
        text = "Echo environment ready!"
        metadata: dict[str, Any] = {"status": "ready", "message": text}
        metadata |= task  # echo only
        return EchoObservation(echoed_message=text, reward=0.0, metadata=metadata)

    def step(
        self, action: EchoAction, timeout_s: float | None = None, **kwargs: Any
    ) -> EchoObservation:
        """Echo `action.message`; an episode never ends by itself."""
        self._episode["step_count"] += 1
        message, length = action.message, len(action.message)
        return EchoObservation(
            echoed_message=message,
            message_length=length,
            reward=length * 0.1,
            metadata={"original_message": message, "step": self._episode["step_count"]},
        )

    @property
    def state(self) -> State:
        """`episode_id`, `step_count`, and what else the episode was given, such as `seed`."""
        return State(**self._episode)

    # Over HTTP an episode goes on in another instance: its state travels in the client's cookie.
    def dump_state(self) -> dict[str, Any]:
        return dict(self._episode)

    def load_state(self, state: dict[str, Any]) -> None:
        self._episode = dict(state)


# Echo only.
def self_check() -> None:
    """Drive one episode and print what held; `SystemExit` on the first thing that did not."""

    def verify(what: str, actual: Any, expected: Any) -> None:
        if actual != expected:
            raise SystemExit(f"FAILED {what}: {actual!r}, expected {expected!r}")
        print(f"ok  {what}: {actual!r}")

    environment = EchoEnvironment()
    ready = environment.reset(seed=7, episode_id="check")
    verify("reset", ready.echoed_message, "Echo environment ready!")
    for step, (message, reward) in enumerate([("Hi", 0.2), ("Hello, World!", 1.3), ("", 0.0)], 1):
        result = environment.step(EchoAction(message=message))
        verify(f"step {step}", (result.echoed_message, result.reward), (message, reward))
        verify("  metadata", result.metadata, {"original_message": message, "step": step})
    verify("state", environment.dump_state(), {"episode_id": "check", "step_count": 3, "seed": 7})


# Echo only.
if __name__ == "__main__":
    self_check()
