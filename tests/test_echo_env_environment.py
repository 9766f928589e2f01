# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment, called directly, and its self-check as a script."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from echo_env.models import EchoAction
from echo_env.server.echo_env_environment import (
    EchoEnvironment,
    echo_message,
    echo_with_length,
    self_check,
)


def test_reset_starts_an_episode() -> None:
    environment = EchoEnvironment()
    environment.step(EchoAction(message="before"))
    ready = environment.reset()
    assert ready.model_dump() == {
        "done": False,
        "reward": 0.0,
        "metadata": {"status": "ready", "message": "Echo environment ready!"},
        "echoed_message": "Echo environment ready!",
        "message_length": 0,
    }
    assert environment.state.step_count == 0


def test_step_echoes_rewards_and_counts() -> None:
    environment = EchoEnvironment()
    environment.reset()
    environment.step(EchoAction(message="first"))
    assert environment.step(EchoAction(message="Hi")).model_dump() == {
        "done": False,
        "reward": 0.2,
        "metadata": {"original_message": "Hi", "step": 2},
        "echoed_message": "Hi",
        "message_length": 2,
    }
    assert environment.state.step_count == 2


@pytest.mark.parametrize(
    ("message", "length"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("Hello, World!", 13, id="ascii"),
        pytest.param("naïve", 5, id="composed"),
        pytest.param("nai\u0308ve", 6, id="combining"),
        pytest.param("😀", 1, id="emoji"),
        pytest.param("👩‍🚀", 3, id="emoji sequence"),
        pytest.param("\x00\n\u2028", 3, id="control characters"),
        pytest.param("x" * 100_000, 100_000, id="long"),
    ],
)
def test_length_and_reward_count_code_points(message: str, length: int) -> None:
    observation = EchoEnvironment().step(EchoAction(message=message))
    assert observation.echoed_message == message
    assert observation.message_length == length
    assert observation.reward == length * 0.1  # not rounded, not clamped


def test_a_step_before_any_reset_belongs_to_an_episode() -> None:
    environment = EchoEnvironment()
    episode = environment.state.episode_id
    assert environment.step(EchoAction(message="Hi")).metadata["step"] == 1
    assert environment.state.model_dump() == {"episode_id": episode, "step_count": 1}
    assert UUID(episode).version == 4


def test_an_episode_gets_a_new_random_id_unless_given_one() -> None:
    environment = EchoEnvironment()
    identifiers = [environment.state.episode_id]
    for _ in range(2):
        environment.reset()
        identifiers.append(environment.state.episode_id)
    assert len(set(identifiers)) == 3
    assert {UUID(identifier).version for identifier in identifiers} == {4}
    environment.reset(episode_id="mine")
    assert environment.state.episode_id == "mine"
    environment.reset(episode_id="")
    assert environment.state.episode_id == ""


def test_the_state_has_a_seed_only_when_the_episode_was_given_one() -> None:
    environment = EchoEnvironment()
    for seed, expected in [(7, {"seed": 7}), (0, {"seed": 0}), (None, {})]:
        environment.reset(seed=seed, episode_id="e")
        assert environment.state.model_dump() == {"episode_id": "e", "step_count": 0, **expected}


def test_reset_and_step_take_the_keywords_of_the_framework_and_any_other() -> None:
    environment = EchoEnvironment()
    environment.reset(seed=1, episode_id="e", difficulty="hard")
    environment.step(EchoAction(message="Hi"), timeout_s=3.0, request_id="r")
    assert environment.state.model_dump() == {"episode_id": "e", "step_count": 1, "seed": 1}


def test_the_async_methods_do_the_same() -> None:
    async def episode(environment: EchoEnvironment) -> list[Any]:
        ready = await environment.reset_async(seed=3, episode_id="e")
        return [ready, await environment.step_async(EchoAction(message="Hi"), timeout_s=1.0)]

    environment, other = EchoEnvironment(), EchoEnvironment()
    observations = asyncio.run(episode(environment))
    assert observations == [
        other.reset(seed=3, episode_id="e"),
        other.step(EchoAction(message="Hi")),
    ]
    assert environment.state == other.state


def test_instances_share_nothing() -> None:
    one, other = EchoEnvironment(), EchoEnvironment()
    before = other.state
    one.reset(seed=1, episode_id="one")
    one.step(EchoAction(message="Hi")).metadata["step"] = 99
    assert other.state == before
    assert other.step(EchoAction(message="Hi")).metadata["step"] == 1
    assert EchoEnvironment.SUPPORTS_CONCURRENT_SESSIONS is True


def test_a_state_once_read_does_not_change() -> None:
    environment = EchoEnvironment()
    before = environment.state
    environment.step(EchoAction(message="Hi"))
    assert before.step_count == 0


def test_the_tools_echo() -> None:
    assert (echo_message, echo_with_length) == EchoEnvironment.TOOLS
    assert echo_message("Hi") == "Hi"
    assert echo_with_length("😀!") == {"message": "😀!", "length": 2}


def test_the_self_check_prints_what_it_verified(capsys: pytest.CaptureFixture[str]) -> None:
    self_check()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok  ") for line in lines)
    for verified in ("reset", "step 1", "state", "0.2", "1.3", "0.0"):
        assert any(verified in line for line in lines), verified


_AS_A_SCRIPT = [
    pytest.param("server/echo_env_environment.py", ".", id="from the root"),
    pytest.param("echo_env_environment.py", "server", id="from server/"),
]


@pytest.mark.parametrize(("script", "folder"), _AS_A_SCRIPT)
def test_the_script_runs_where_the_package_is_installed(
    script: str, folder: str, root: Path, run: Callable[..., Any]
) -> None:
    done = run(script, cwd=root / folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Echo environment ready!" in done.stdout


@pytest.mark.parametrize(("script", "folder"), _AS_A_SCRIPT)
def test_the_script_runs_in_a_clone_that_is_not_installed(
    script: str,
    folder: str,
    checkout: Path,
    python_without_echo_env: Path,
    run: Callable[..., Any],
) -> None:
    done = run(script, cwd=checkout / folder, python=python_without_echo_env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Echo environment ready!" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        pytest.param("reward=length * 0.1", "reward=length * 0.2", "FAILED step 1", id="reward"),
        pytest.param('["step_count"] += 1', '["step_count"] += 2', "FAILED   metadata", id="s"),
        pytest.param("environment ready!", "environment set!", "FAILED reset", id="ready text"),
        pytest.param('["seed"] = seed', '["seed"] = None', "FAILED state", id="seed"),
    ],
)
def test_the_script_fails_when_the_environment_is_broken(
    right: str,
    wrong: str,
    complaint: str,
    checkout: Path,
    python_without_echo_env: Path,
    run: Callable[..., Any],
) -> None:
    source = checkout / "server" / "echo_env_environment.py"
    broken = source.with_name("broken_environment.py")
    code = source.read_text()
    assert right in code
    broken.write_text(code.replace(right, wrong, 1))
    done = run(broken.name, cwd=broken.parent, python=python_without_echo_env)
    broken.unlink()
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
