# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium's own checks pass without a warning, and the pool behaves like `SyncVectorEnv`."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import requests
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from openenv.core.env_server.types import Action

from notes_env.client import NotesEnv
from notes_env.models import NoteObservation, NotesState
from stepwire.client import SessionClient, UsageError
from stepwire.integrations.gymnasium import register
from stepwire.integrations.gymnasium_spaces import AnyText, space_of
from stepwire.testing.servers import PATIENCE_S

pytestmark = pytest.mark.trainer


class TextAction(Action):
    """The only field of `NoteAction` that is required."""

    text: str


class TextEnv(SessionClient[TextAction, NoteObservation, NotesState]):
    """A client of the notes server whose actions have a single field."""

    server_module = "notes_env.app"


class NoModels(SessionClient[Any, Any, Any]):
    pass


_TEXT, _NOTES, _GUESSING = "tests/Text-v0", "tests/Notes-v0", "author/Guessing-v0"
register(_TEXT, TextEnv, max_episode_steps=100)
register(_NOTES, NotesEnv)


@pytest.fixture
def env(server: Any) -> Iterator[Any]:
    with gymnasium.make(_TEXT, base_url=server.url) as made:
        yield made


@pytest.fixture
def envs(server: Any) -> Iterator[Any]:
    made = gymnasium.make_vec(_TEXT, num_envs=3, base_url=server.url, max_episode_steps=2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def guessing(start_shared_server: Any) -> tuple[ModuleType, str]:
    """An author's environment, and where it is served."""
    path = Path(__file__).with_name("guessing.py")
    spec = importlib.util.spec_from_file_location("guessing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guessing"] = module
    spec.loader.exec_module(module)
    register(_GUESSING, module.GuessingEnv)
    return module, start_shared_server(application=path).url


# One environment


def test_gymnasium_finds_nothing_wrong(env: Any) -> None:
    check_env(env.unwrapped)


def test_a_text_goes_in_and_a_dictionary_comes_out(env: Any) -> None:
    observation, info = env.reset(seed=7)
    assert observation == {"text": "Ready for notes", "length": 0}
    assert info == {"metadata": {}}
    observation, reward, terminated, truncated, info = env.step("Grüße")
    assert observation == {"text": "Grüße", "length": 5}
    assert (reward, terminated, truncated) == (0.5, False, False)
    assert info == {"metadata": {"original_text": "Grüße", "step": 1}}
    assert observation in env.observation_space


def test_an_episode_is_truncated_after_max_episode_steps(server: Any) -> None:
    with gymnasium.make(_TEXT, base_url=server.url, max_episode_steps=2) as env:
        env.reset()
        assert [env.step("Hi")[3] for _ in range(2)] == [False, True]


def test_the_registered_limit_of_steps_is_the_default() -> None:
    assert gymnasium.spec(_TEXT).max_episode_steps == 100
    assert gymnasium.spec(_NOTES).max_episode_steps is None


def test_options_are_arguments_of_the_environments_reset(env: Any) -> None:
    env.reset(options={"episode_id": "mine"})
    assert env.unwrapped.state().episode_id == "mine"


def _seeds(env: Any, first: int | None) -> list[int | None]:
    found = []
    for seed in (first, None, None):
        env.reset(seed=seed)
        found.append(getattr(env.unwrapped.state(), "seed", None))
    return found


def test_the_first_seed_decides_those_of_the_later_episodes(env: Any) -> None:
    assert _seeds(env, None) == [None] * 3
    once = _seeds(env, 7)
    assert once[0] == 7
    assert len(set(once)) == 3
    assert _seeds(env, 7) == once


def test_client_options_reach_the_client(server: Any) -> None:
    with gymnasium.make(_TEXT, base_url=server.url, message_timeout_s=50) as env:
        env.reset()


def test_without_an_address_it_runs_a_server_of_its_own() -> None:
    with gymnasium.make(_TEXT) as env:
        url = env.unwrapped.base_url
        env.reset()
        assert env.step("Hi")[1] == 0.2
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_a_specification_becomes_json_and_an_environment_again(server: Any, env: Any) -> None:
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["base_url"] == server.url
    again = gymnasium.make(EnvSpec.from_json(text))
    again.reset()
    assert again.step("Hi")[1] == 0.2
    again.close()
    envs = gymnasium.make_vec(EnvSpec.from_json(text), num_envs=2)
    envs.reset()
    envs.close()
    assert json.loads(gymnasium.spec(_NOTES).to_json())["kwargs"] == {
        "client": "notes_env.client:NotesEnv"
    }


def test_an_environment_is_made_from_json_in_another_process(server: Any, run: Any) -> None:
    with gymnasium.make(_NOTES, base_url=server.url) as env:
        text = env.spec.to_json()
    code = f"""
import gymnasium
from gymnasium.envs.registration import EnvSpec
env = gymnasium.make(EnvSpec.from_json({text!r}))
env.reset()
print(env.step({{"text": "Hi", "weight": 0.5}})[1])
env.close()
"""
    done = run("-c", code)
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr


def test_importing_the_integration_registers_nothing(execute: Any) -> None:
    code = """
import gymnasium
before = set(gymnasium.registry)
from notes_env.client import NotesEnv
from stepwire.integrations.gymnasium import register
assert set(gymnasium.registry) == before
register("tests/One-v0", NotesEnv)
print(set(gymnasium.registry) - before)
"""
    assert execute(code) == "{'tests/One-v0'}\n"


# Many, stepped together


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_pool_returns_what_gymnasiums_own_vector_environment_does(
    server: Any, mode: AutoresetMode
) -> None:
    options: Any = {"num_envs": 3, "base_url": server.url, "max_episode_steps": 3}
    ours = gymnasium.make_vec(_TEXT, autoreset_mode=mode, **options)
    in_vector = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    theirs = gymnasium.make_vec(_TEXT, **in_vector, **options)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    for space in ("single_action_space", "single_observation_space", "action_space"):
        assert getattr(ours, space) == getattr(theirs, space)
    assert ours.observation_space == theirs.observation_space
    assert data_equivalence(ours.reset(seed=5), theirs.reset(seed=5), exact=True)
    ours.action_space.seed(5)
    for step in range(8):
        actions = ours.action_space.sample()
        result = ours.step(actions)
        assert result[0] in ours.observation_space
        assert data_equivalence(result, theirs.step(actions), exact=True)
        if mode is AutoresetMode.DISABLED and result[3].any():
            mask = result[3].copy()
            again = [envs.reset(options={"reset_mask": mask}) for envs in (ours, theirs)]
            assert data_equivalence(*again, exact=True)
        assert result[3].all() == (step % (4 if mode is AutoresetMode.NEXT_STEP else 3) == 2)
    ours.close()
    theirs.close()


def test_gymnasiums_vector_wrappers_take_it(envs: Any) -> None:
    wrapped = DictInfoToList(RecordEpisodeStatistics(envs))
    wrapped.reset(seed=1)
    wrapped.step(("a", "bb", "ccc"))
    *_, infos = wrapped.step(("a", "bb", "ccc"))
    assert [info["episode"]["r"] for info in infos] == pytest.approx([0.2, 0.4, 0.6])
    assert infos[2]["metadata"] == {"original_text": "ccc", "step": 2}


def test_sessions_get_seeds_of_their_own(envs: Any) -> None:
    envs.reset(seed=7)
    assert [state.seed for state in envs.unwrapped.states()] == [7, 8, 9]
    envs.reset(seed=[3, 2, 1], options={"episode_id": "same"})
    states = envs.unwrapped.states()
    assert [(state.seed, state.episode_id) for state in states] == [
        (3, "same"),
        (2, "same"),
        (1, "same"),
    ]


def test_only_the_sessions_of_the_mask_are_reset(envs: Any) -> None:
    envs.reset()
    envs.step(("a", "b", "c"))
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert [state.step_count for state in envs.unwrapped.states()] == [1, 0, 1]


def test_without_automatic_resets_a_step_after_the_end_is_refused(server: Any) -> None:
    envs = gymnasium.make_vec(
        _TEXT, num_envs=1, base_url=server.url, max_episode_steps=1, autoreset_mode="Disabled"
    )
    envs.reset()
    envs.step(("a",))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"The episodes of \[0\] are over"):
        envs.step(("a",))
    envs.close()


def test_without_an_address_all_share_a_server_of_their_own() -> None:
    envs = gymnasium.make_vec(_TEXT, num_envs=2)
    url = envs.unwrapped.base_url
    envs.reset()
    assert envs.step(("a", "bb"))[1].tolist() == [0.1, 0.2]
    envs.close()
    envs.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


# Other models


def test_an_action_with_several_fields_is_a_dictionary(server: Any) -> None:
    with gymnasium.make(_NOTES, base_url=server.url) as env:
        check_env(env.unwrapped, skip_close_check=True)
        env.reset()
        assert env.step({"text": "Hi", "weight": np.array(0.5)})[1] == 1


def test_the_models_are_those_of_the_client(guessing: tuple[ModuleType, str]) -> None:
    _, url = guessing
    with gymnasium.make(_GUESSING, base_url=url) as env:
        check_env(env.unwrapped, skip_close_check=True)
        env.reset(seed=3)
        observation, reward, terminated, _, _ = env.step({"number": np.array(5), "mood": 0})
        assert observation["guesses"] == (5,)
        assert (observation["far_by"], observation["mood"], reward, terminated) == (2, 0, 0, False)
        assert observation in env.observation_space
        observation, reward, terminated, _, _ = env.step({"number": np.array(3), "mood": 1})
        assert (observation["mood"], observation["right"], reward, terminated) == (1, 1, 1, True)


def test_one_of_many_ends_by_itself(guessing: tuple[ModuleType, str]) -> None:
    _, url = guessing
    envs = gymnasium.make_vec(_GUESSING, num_envs=2, base_url=url)
    envs.reset(seed=3)
    guesses = {"number": np.array([3, 3]), "mood": np.array([0, 1])}
    observations, rewards, terminations, truncations, _ = envs.step(guesses)
    assert observations in envs.observation_space
    assert (rewards.tolist(), terminations.tolist()) == ([1, 0], [True, False])
    assert not truncations.any()
    assert [len(guesses) for guesses in envs.step(guesses)[0]["guesses"]] == [0, 2]
    envs.close()


def test_a_field_without_a_space_is_named() -> None:
    class Odd(Action):
        anything: dict[str, Any]

    with pytest.raises(TypeError, match=r"no Gymnasium space for Odd\.anything"):
        space_of(Odd)


def test_a_client_without_models_is_refused(server: Any) -> None:
    register("tests/NoModels-v0", NoModels)
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(UsageError, match="NoModels declares no models"):
            make("tests/NoModels-v0", base_url=server.url)


def test_a_client_without_a_server_module_needs_an_address(guessing: Any) -> None:
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(UsageError, match="GuessingEnv"):
            make(_GUESSING)


def test_samples_of_any_text_are_short_and_other_text_belongs_to_it_too() -> None:
    space = AnyText(2, 1000)
    space.seed(1)
    samples = [space.sample() for _ in range(50)]
    assert {len(sample) for sample in samples} <= set(range(2, 43))
    assert all(sample in space and sample.isascii() for sample in samples)
    assert "日本語" in space
    assert "x" not in space
    assert 7 not in space


@pytest.mark.slow
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_an_episode_whose_server_dies_is_truncated_and_starts_over(
    start_server: Any, mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each server has two sessions, even if it is too busy to tell its places within 2 s.
    monkeypatch.setattr("stepwire.client.servers._LOOK_TIMEOUT_S", PATIENCE_S)
    dying, lasting = start_server(), start_server()
    envs: Any = gymnasium.make_vec(
        _TEXT,
        num_envs=4,
        base_url=[dying.url, lasting.url],
        connect_timeout_s=PATIENCE_S,
        autoreset_mode=mode,
        lost_sessions="truncate",
    )
    envs.reset(seed=[1, 2, 3, 4])
    envs.step(["note"] * 4)
    seeds = [state.seed for state in envs.unwrapped.states()]
    dying.process.kill()
    dying.process.wait()
    _, rewards, terminations, truncations, infos = envs.step(["note"] * 4)
    assert truncations.sum() == 2
    assert not terminations.any()
    assert not rewards[truncations].any()
    told = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
    assert (told["_lost"] == truncations).all()
    if mode is AutoresetMode.NEXT_STEP:
        _, _, _, again, _ = envs.step(["note"] * 4)
        assert not again.any()
    states = envs.unwrapped.states()
    assert [state.seed for state in states] == seeds
    assert [state.step_count == 0 for state in states] == truncations.tolist()
    envs.close()


def test_what_happens_to_lost_sessions_is_one_of_two_texts(server: Any) -> None:
    with pytest.raises(ValueError, match="lost_sessions"):
        gymnasium.make_vec(_TEXT, num_envs=2, base_url=server.url, lost_sessions="ignore")
