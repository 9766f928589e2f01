# SPDX-License-Identifier: BSD-3-Clause
"""The client as its public callers use it, with our server and with the framework's.

Callers that start servers are in `test_client.py` and in the runtime's `test_launch.py`.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from openenv.core.client_types import StepResult
from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.generic_client import GenericEnvClient

from echo_env import EchoAction, EchoEnv
from echo_env.server.echo_env_environment import EchoEnvironment


@pytest.fixture
def url(either_server: Any) -> str:
    """The address of our server, then of the framework's."""
    found: str = either_server.url
    return found


def test_template_readme_with_block(url: str) -> None:
    with EchoEnv(base_url=url) as env:
        result = env.reset()
        assert result.observation.echoed_message
        result = env.step(EchoAction(message="Hello!"))
        assert (result.observation.echoed_message, result.observation.message_length) == (
            "Hello!",
            6,
        )


def test_template_readme_thread_pool(url: str) -> None:
    def run_episode(client_id: int) -> tuple[int, int]:
        with EchoEnv(base_url=url) as env:
            result = env.reset()
            for i in range(10):
                result = env.step(EchoAction(message=f"Client {client_id}, step {i}"))
            return client_id, result.observation.message_length

    with ThreadPoolExecutor(max_workers=4) as executor:
        assert list(executor.map(run_episode, range(4))) == [(i, 16) for i in range(4)]


def test_trl_grpo_example(url: str, execute: Callable[..., str]) -> None:
    """No reset, no context, no close: one client for each generation."""
    assert execute(_TRL, url) == "[0.5, 0.5, 0.5, 0.5]\n['hello', 'hello', 'hello', 'hello']\n"


_TRL = """
import sys
from echo_env import EchoEnv
from echo_env.models import EchoAction

def rollout(message):
    env = EchoEnv(base_url=sys.argv[1])
    r = env.step(EchoAction(message=message))
    return r.observation.reward, r.observation.echoed_message

rewards, messages = zip(*map(rollout, ["hello"] * 4))
print(list(rewards))
print(list(messages))
"""


@pytest.mark.slow
def test_trl_grpo_example_leaves_no_slot_taken(
    start_server: Any, execute: Callable[..., str]
) -> None:
    server = start_server(env={"MAX_CONCURRENT_ENVS": "4"})
    for _ in range(3):
        execute(_TRL, server.url)
        holders = [EchoEnv(base_url=server.url, capacity_wait_s=60) for _ in range(4)]
        assert [env.step(EchoAction(message="hello")).reward for env in holders] == [0.5] * 4
        for env in holders:
            env.close()


def test_trl_environment_factory_with_async_tools(url: str) -> None:
    class Tools:
        def __init__(self) -> None:
            self.env = EchoEnv(base_url=url)

        async def echo(self, message: str) -> float | None:
            r = await self.env.step(EchoAction(message=message))
            return r.reward

    async def rollouts() -> list[float | None]:
        environments = [Tools() for _ in range(4)]
        rewards = await asyncio.gather(*(tools.echo("hello") for tools in environments))
        for tools in environments:
            tools.env.close()
        return rewards

    assert asyncio.run(rollouts()) == [0.5] * 4


def test_trl_wordle_and_carla(url: str) -> None:
    env = EchoEnv(base_url=url, connect_timeout_s=30, message_timeout_s=120)
    env.reset(task_name="town", weather={"rain": 0.1})
    assert env.step(EchoAction(message="hello")).reward == 0.5
    env.close()


def test_skyrl_after_the_container_has_started(url: str) -> None:
    env = EchoEnv(base_url=url)
    env.reset()
    result = env.step(EchoAction(message="hello"))
    assert vars(result.observation)["echoed_message"] == "hello"
    assert (result.reward, result.done) == (0.5, False)
    env.close()


def test_art_from_changing_worker_threads(url: str) -> None:
    async def rollout() -> list[float | None]:
        env = EchoEnv(base_url=url)
        action = EchoAction(message="hello")
        await asyncio.to_thread(env.reset)
        rewards = [(await asyncio.to_thread(env.step, action)).reward for _ in range(5)]
        # Each of these in a thread of its own, which ends before the next begins.
        for _ in range(3):
            with ThreadPoolExecutor(1) as thread:
                rewards.append(thread.submit(env.step, action).result().reward)
        assert (await asyncio.to_thread(env.state)).step_count == 8
        await asyncio.to_thread(env.close)
        return rewards

    assert asyncio.run(rollout()) == [0.5] * 8


_OUMI = """
client = EchoEnv(base_url=url)
result = client.reset()
assert result.observation.echoed_message
result = client.step(EchoAction(message="hello"))
assert (result.observation.echoed_message, result.reward, result.done) == ("hello", 0.5, False)
assert client.state().step_count == 1
client.close()
"""


def test_oumi_bare_calls_inside_a_running_loop(url: str) -> None:
    async def cell() -> None:
        exec(_OUMI, {"EchoEnv": EchoEnv, "EchoAction": EchoAction, "url": url})

    asyncio.run(cell())


@pytest.mark.notebook
def test_oumi_bare_calls_in_a_jupyter_kernel(url: str) -> None:
    _run_notebook(
        f"from echo_env import EchoAction, EchoEnv\nurl = {url!r}",
        "import asyncio\nassert asyncio.get_running_loop().is_running()",
        _OUMI,
        "client = EchoEnv(base_url=url)",
        "result = client.step(EchoAction(message='hello'))",  # read in a later cell
        "assert result.reward == 0.5",
        "assert (await client.step(EchoAction(message='hello'))).reward == 0.5",
        "with EchoEnv(base_url=url) as env:\n    assert env.step(EchoAction(message='a')).reward",
        "async with EchoEnv(base_url=url) as env:\n    await env.reset()",
        "assert client.state().step_count == 2\nclient.close()",
    )


@pytest.mark.notebook
def test_unsloth_in_a_jupyter_kernel(url: str) -> None:
    _run_notebook(
        f"from echo_env import EchoAction, EchoEnv\nurl = {url!r}",
        "env = EchoEnv(base_url=url).sync()",
        "env.reset()",
        "assert env.step(EchoAction(message='hello')).reward == 0.5",
        "env.close()",
    )


def _run_notebook(*cells: str) -> None:
    """Execute cells in a kernel of this interpreter; the first one that fails raises."""
    # In a program of its own: the kernel's libraries warn of themselves.
    done = subprocess.run(
        [sys.executable, "-c", _NOTEBOOK, *cells],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


_NOTEBOOK = """
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

class Manager(AsyncKernelManager):
    @property
    def kernel_spec(self):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="this interpreter", language="python")

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in sys.argv[1:]])
NotebookClient(notebook, timeout=240, startup_timeout=240, kernel_manager_class=Manager).execute()
"""


def test_unsloth_sync_without_with(url: str) -> None:
    assert b"healthy" in requests.get(f"{url}/health", timeout=60).content
    env = EchoEnv(base_url=url).sync()
    env.reset()
    assert env.step(EchoAction(message="hello")).reward == 0.5
    env.close()


def test_verifiers_generic_client(url: str) -> None:
    schema = requests.get(f"{url}/schema", timeout=60).json()["action"]
    assert (schema["required"], schema["title"]) == (["message"], "EchoAction")
    assert schema["properties"]["message"]["type"] == "string"  # so raw text can be the action

    async def rollout() -> Any:
        async with GenericEnvClient(base_url=url) as client:
            await client.reset()
            return await client.step({schema["required"][0]: "hello"})

    result = asyncio.run(rollout())
    assert (result.observation["echoed_message"], result.reward) == ("hello", 0.5)


def test_verifiers_base_url_and_connect(url: str) -> None:
    async def rollout() -> float | None:
        client = EchoEnv(base_url=url)
        assert client._base_url == url
        await client.connect()
        await client.reset()
        result = await client.step(EchoAction(message="hello"))
        await client.close()
        return result.reward

    assert asyncio.run(rollout()) == 0.5


def test_miles_and_upstream_tests(url: str) -> None:
    async def rollout() -> StepResult[Any]:
        async with EchoEnv(base_url=url, message_timeout_s=60.0) as env:
            await env.reset()
            return await env.step(EchoAction(message="hello"))

    assert asyncio.run(rollout()).reward == 0.5
    with EchoEnv(base_url=url).sync() as c:
        c.reset()
        c.step(EchoAction(message="hello"))
        assert c.state().step_count == 1


def test_miles_retries_when_the_server_is_at_capacity(one_session_server: Any) -> None:
    refusals: list[str] = []
    done: list[float | None] = []

    async def rollout(all_others_refused: asyncio.Event) -> None:
        while True:
            try:
                async with EchoEnv(base_url=one_session_server.url) as env:
                    await env.reset()
                    if not done:  # the first one stays until all others were refused
                        await all_others_refused.wait()
                    done.append((await env.step(EchoAction(message="hello"))).reward)
                return
            except RuntimeError as error:
                assert "CAPACITY_REACHED" in str(error)  # noqa: PT017
                refusals.append(str(error))
                if len(refusals) >= 3:
                    all_others_refused.set()
                await asyncio.sleep(0.01)

    async def rollouts() -> None:
        all_others_refused = asyncio.Event()
        await asyncio.gather(*(rollout(all_others_refused) for _ in range(4)))

    asyncio.run(rollouts())
    assert done == [0.5] * 4
    assert len(refusals) >= 3


def test_miles_retries_when_the_connection_is_closed(start_server: Any) -> None:
    server = start_server()

    async def rollout() -> list[float | None]:
        rewards = []
        async with EchoEnv(base_url=server.url) as env:
            await env.reset()
            rewards.append((await env.step(EchoAction(message="hello"))).reward)
            server.process.kill()
            server.process.wait()
            try:
                await env.step(EchoAction(message="hello"))
            except ConnectionError:
                start_server(port=server.port)
                await env.reset()
            rewards.append((await env.step(EchoAction(message="hello"))).reward)
        return rewards

    assert asyncio.run(rollout()) == [0.5, 0.5]


def test_upstream_tool_style_echo(server: Any) -> None:
    with EchoEnv(base_url=server.url) as env:
        env.reset()
        assert [tool.name for tool in env.list_tools()] == ["echo_message", "echo_with_length"]
        assert env.call_tool("echo_message", message="Hello!") == "Hello!"
        answer = env.call_tool("echo_with_length", message="Test")
        assert answer == {"message": "Test", "length": 4}
        action = CallToolAction(tool_name="echo_message", arguments={"message": "Hi"})
        assert env.step(action).observation.result["data"] == "Hi"
        assert len(env.step(ListToolsAction()).observation.tools) == 2


def test_nemo_gym_in_process() -> None:
    env = EchoEnvironment()
    env.reset(seed=1, episode_id="e", task_name="any")
    observation = env.step(EchoAction(message="hello"))
    assert (observation.reward, observation.done) == (0.5, False)
