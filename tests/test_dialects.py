# SPDX-License-Identifier: BSD-3-Clause
"""The dialect of messages and the dialect of tools: the calls that published examples make.

Each example runs with our client against our server, a server of messages (that of the framework's
template) and a server of tools (as upstream's echo is).
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import echo_env
from echo_env import CallToolAction, EchoAction, EchoEnv, EchoEnvPool, ListToolsAction

# The framework's own servers take seconds to start.
_FRAMEWORKS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("stock_server", "tool_server")
]
_READY = "Echo environment ready!"
_SAID = ["Hello, World!", "Testing echo", "Final message"]


@pytest.fixture(params=["server", *_FRAMEWORKS])
def played(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """A server's address, and whether it rewards messages."""
    return request.getfixturevalue(request.param).url, request.param != "tool_server"


@pytest.fixture(params=["server", _FRAMEWORKS[1]])
def tools_url(request: pytest.FixtureRequest) -> str:
    """A server that understands calls of tools."""
    return str(request.getfixturevalue(request.param).url)


class _Provider:
    """Starts nothing: the server runs already."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start_container(self, image: str = "", **options: Any) -> str:
        return self.url

    def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None: ...

    def stop_container(self) -> None: ...


def _reward(message: str, rewards: bool) -> float | None:
    return min(len(message) * 0.1, 1.0) if rewards else None


def _expect(result: Any, message: str, rewards: bool) -> None:
    assert result.observation.echoed_message == message
    assert result.observation.message_length == len(message)
    assert result.done is False
    expected = len(message) * 0.1 if rewards else None
    # The template of openenv 0.10 sends at most 1.0.
    assert result.reward in (expected, _reward(message, rewards))
    assert result.observation.reward == result.reward


# Examples of the dialect of messages.


def test_the_templates_quick_start(played: tuple[str, bool]) -> None:
    url, rewards = played
    for form in (lambda env: env, lambda env: env.sync()):  # of 0.3.0, of 0.10.0
        env = form(EchoEnv.from_docker_image("echo-env:latest", provider=_Provider(url)))
        try:
            assert env.reset().observation.echoed_message == _READY
            for message in _SAID:
                _expect(env.step(EchoAction(message=message)), message, rewards)
        finally:
            env.close()


def test_the_templates_context_manager_and_threads(played: tuple[str, bool]) -> None:
    url, _ = played

    def run_episode(client_id: int) -> tuple[int, int]:
        with EchoEnv(base_url=url) as env:
            result = env.reset()
            for step in range(10):
                result = env.step(EchoAction(message=f"Client {client_id}, step {step}"))
            return client_id, result.observation.message_length

    with ThreadPoolExecutor(max_workers=4) as executor:
        results = list(executor.map(run_episode, range(4)))
    assert results == [(client_id, len("Client 0, step 9")) for client_id in range(4)]


def test_the_quick_start_of_upstreams_echo(played: tuple[str, bool]) -> None:
    url, rewards = played

    async def main() -> None:
        client = await EchoEnv.from_docker_image("echo-env:latest", provider=_Provider(url))
        async with client:
            assert (await client.reset()).observation.echoed_message == _READY
            for message in _SAID:
                result = await client.step(EchoAction(message=message))
                _expect(result, message, rewards)

    asyncio.run(main())
    with EchoEnv(base_url=url).sync() as client:
        client.reset()
        _expect(client.step(EchoAction(message="Hello!")), "Hello!", rewards)
    bare = EchoEnv(base_url=url)
    assert (bare.reset().reward, bare.reset().done) == (0.0, False)
    bare.close()


def test_trls_example(played: tuple[str, bool]) -> None:
    url, rewards = played
    client = EchoEnv(base_url=url)  # neither reset nor closed
    for message in _SAID:
        observation = client.step(EchoAction(message=message)).observation
        assert observation.echoed_message == message
        assert (observation.reward is not None) == rewards


def test_a_pool(played: tuple[str, bool]) -> None:
    url, rewards = played
    with EchoEnvPool(url, num_envs=3) as pool:
        assert [result.observation.echoed_message for result in pool.reset()] == [_READY] * 3
        for _ in range(2):
            results = pool.step([EchoAction(message=message) for message in _SAID])
            for result, message in zip(results, _SAID, strict=True):
                _expect(result, message, rewards)
        assert [session.state().step_count for session in pool.sessions] == [2, 2, 2]


def test_a_new_session(played: tuple[str, bool]) -> None:
    url, rewards = played
    with EchoEnv(base_url=url) as env:
        _expect(env.step(EchoAction(message="Hi")), "Hi", rewards)
        child = env.new_session()
        _expect(child.step(EchoAction(message="Hello")), "Hello", rewards)
        assert (env.state().step_count, child.state().step_count) == (1, 1)
    assert child.status == "closed"


# Examples of the dialect of tools.


def test_openenvs_front_page(tools_url: str) -> None:
    action = CallToolAction(tool_name="echo_message", arguments={"message": "Hello, World!"})

    async def main() -> None:
        async with EchoEnv(base_url=tools_url) as client:
            result = await client.reset()
            assert result.observation.echoed_message == _READY
            # The server of openenv-core 0.3.0 sends no metadata.
            assert result.observation.metadata.get("message", _READY) == _READY
            called = await client.step(action)
            assert called.observation.result["data"] == "Hello, World!"
            assert called.reward is None

    asyncio.run(main())
    with EchoEnv(base_url=tools_url).sync() as client:
        client.reset()
        assert client.step(action).observation.result["data"] == "Hello, World!"


def test_the_reset_of_this_server_has_the_metadata_of_upstreams_echo(server: Any) -> None:
    with EchoEnv(base_url=server.url) as client:
        ready = client.reset()
    expected = {"status": "ready", "message": _READY}
    assert ready.metadata == ready.observation.metadata == expected


def test_the_docstring_of_upstreams_client(tools_url: str) -> None:
    with EchoEnv(base_url=tools_url) as env:
        env.reset()
        assert {"echo_message", "echo_with_length"} <= {tool.name for tool in env.list_tools()}
        assert env.call_tool("echo_message", message="Hello!") == "Hello!"
        answer = env.call_tool("echo_with_length", message="Test")
        assert answer == {"message": "Test", "length": 4}
        assert env.has_tool("echo_message")
        assert env.get_tool("echo_message").description
        assert env.step(ListToolsAction()).observation.tools


def test_both_dialects_in_one_episode(tools_url: str) -> None:
    with EchoEnv(base_url=tools_url) as env:
        env.reset()
        for _ in range(2):
            call = CallToolAction(tool_name="echo_message", arguments={"message": "Hi"})
            assert env.step(call).observation.result["data"] == "Hi"
            assert env.step(EchoAction(message="Hi")).observation.echoed_message == "Hi"


def test_the_names_that_upstreams_package_exports() -> None:
    assert {"EchoEnv", "CallToolAction", "ListToolsAction"} <= {*echo_env.__all__}
