# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment's client: its models, its tools, and the servers that it starts."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from openenv import AutoEnv
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

from echo_env import CapacityReachedError, EchoAction, EchoEnv, EchoObservation, InvalidActionError


def test_a_step(either_server: Any) -> None:
    with EchoEnv(base_url=either_server.url) as env:
        env.reset()
        result = env.step(EchoAction(message="naïve 👩‍🚀"))
    assert isinstance(result.observation, EchoObservation)
    assert result.observation.echoed_message == "naïve 👩‍🚀"
    assert result.observation.message_length == len("naïve 👩‍🚀")
    assert (result.reward, result.done) == (0.9, False)  # below 1.0, where stock 0.10 clamps
    assert (result.observation.reward, result.observation.done) == (0.9, False)


def test_metadata_is_on_the_result_and_on_the_observation(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        assert env.reset().metadata == {"status": "ready", "message": "Echo environment ready!"}
        result = env.step(EchoAction(message="hello", metadata={"trace": [1, {"a": None}]}))
    expected = {"original_message": "hello", "step": 1}
    assert result.metadata == result.observation.metadata == expected


def test_the_state(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.reset(seed=7, episode_id="mine")
        assert env.state().model_dump() == {"episode_id": "mine", "step_count": 0, "seed": 7}


def test_tools(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        assert [tool.name for tool in env.list_tools()] == ["echo_message", "echo_with_length"]
        assert env.call_tool("echo_message", message="Hello!") == "Hello!"
        answer = env.call_tool("echo_with_length", message="Test")
        assert answer == {"message": "Test", "length": 4}
        called = env.step(CallToolAction(tool_name="echo_message", arguments={"message": "Hi"}))
        assert isinstance(called.observation, CallToolObservation)
        assert called.observation.result["data"] == "Hi"


@pytest.mark.parametrize("action", [None, "hello", {"message": "hello"}, EchoObservation()])
def test_an_invalid_action_is_refused_before_anything_is_sent(server: Any, action: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.reset()
        with pytest.raises(InvalidActionError, match=r"EchoEnv\.step takes an EchoAction, not"):
            env.step(action)
        assert env.state().step_count == 0


# Servers that the client starts.


def _echo(client: EchoEnv) -> str:
    client.reset()
    return client.step(EchoAction(message="hello")).observation.echoed_message


def _is_served(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_local_server() -> None:
    with EchoEnv.from_local() as client:
        assert _echo(client) == "hello"
    assert not _is_served(client.base_url)


class _Provider:
    """A provider of the framework, which records its calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[Any] = []

    def start_container(self, image: str, **options: Any) -> str:
        self.calls.append((image, options))
        return self.url

    def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None:
        self.calls.append((base_url, timeout_s))

    def stop_container(self) -> None:
        self.calls.append("stopped")


@pytest.mark.slow
def test_auto_env_finds_the_client_and_passes_its_provider_on(server: Any) -> None:
    provider = _Provider(server.url)
    client = AutoEnv.from_env("echo", docker_image="image", container_provider=provider)
    assert isinstance(client, EchoEnv)
    with client:
        assert _echo(client) == "hello"
    assert provider.calls == [("image", {"env_vars": {}}), (server.url, 30.0), "stopped"]


@pytest.mark.slow
@pytest.mark.parametrize("form", [{}, {"app": "server.app:app", "context_timeout_s": 200}])
def test_a_clone_is_served_by_uv(checkout: Path, form: dict[str, Any]) -> None:
    options = {"project_path": str(checkout), "env_vars": {"MAX_CONCURRENT_ENVS": "1"}, **form}
    with EchoEnv.from_env("me/echo", use_docker=False, **options) as client:
        assert _echo(client) == "hello"
        with pytest.raises(CapacityReachedError):
            EchoEnv(client.base_url).sync().reset()
    assert not _is_served(client.base_url)


@pytest.mark.slow
def test_a_git_repository_is_served_by_uv(checkout: Path) -> None:
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Echo"]):
        subprocess.run([*git, *arguments], check=True, stdin=subprocess.DEVNULL)
    url = f"git+file://{checkout}"
    with EchoEnv.from_env("me/echo", use_docker=False, project_path=url) as client:
        assert _echo(client) == "hello"
    assert not _is_served(client.base_url)
