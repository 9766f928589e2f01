# SPDX-License-Identifier: BSD-3-Clause
"""The mixin for authors: it passes our environment, and finds what is wrong with broken ones."""

import random
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, State

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.testing import EnvironmentConformance


class TestNotesEnvironment(EnvironmentConformance):
    def make_environment(self) -> Any:
        return NotesEnvironment()


class RandomReward(NotesEnvironment):
    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        observation = super().step(action)
        observation.reward = random.random()
        return observation


class CountGoesOn(NotesEnvironment):
    taken = 0

    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        self.taken += 1
        return super().step(action)

    @property
    def state(self) -> State:
        state: State = super().state
        state.step_count = self.taken
        return state


class OwnEpisodeId(NotesEnvironment):
    def reset(self, *arguments: Any, **options: Any) -> NoteObservation:
        return super().reset()


class ResetFirst(NotesEnvironment):
    def __init__(self) -> None:
        super().__init__()
        self.ready = False

    def reset(self, *arguments: Any, **options: Any) -> NoteObservation:
        self.ready = True
        return super().reset(*arguments, **options)

    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        if not self.ready:
            raise RuntimeError("reset() comes first")
        return super().step(action)


class ClosesOnce(NotesEnvironment):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class NegativeLength(NotesEnvironment):
    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        return NoteObservation.model_construct(**super().step(action).model_dump() | {"length": -1})


class SharedCount(NotesEnvironment):
    taken: ClassVar[int] = 0

    def reset(self, *arguments: Any, **options: Any) -> NoteObservation:
        SharedCount.taken = 0
        return super().reset(*arguments, **options)

    def step(self, action: NoteAction, *arguments: Any, **options: Any) -> NoteObservation:
        SharedCount.taken += 1
        return super().step(action)

    @property
    def state(self) -> State:
        state: State = super().state
        state.step_count = SharedCount.taken
        return state


_BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "test_the_same_seed_gives_the_same_trajectory": (RandomReward, "random.Random(seed)"),
    "test_steps_are_counted": (CountGoesOn, "was 3 after a reset and 6 after 3 steps"),
    "test_an_episode_has_the_id_that_was_asked_for": (OwnEpisodeId, "reset(episode_id="),
    "test_a_step_needs_no_reset": (ResetFirst, "reset() comes first"),
    "test_closing_twice_is_closing_once": (ClosesOnce, "closed already"),
    "test_observations_and_states_are_valid": (NegativeLength, "-1 is less than the minimum of 0"),
    "test_instances_share_nothing": (SharedCount, "in another, the first counts 4"),
}
_TESTS = [name for name in vars(EnvironmentConformance) if name.startswith("test_")]


def _failures(suite: EnvironmentConformance) -> dict[str, str]:
    found = {}
    for name in _TESTS:
        try:
            getattr(suite, name)()
        except AssertionError as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_environment_fails_its_test_and_no_other(name: str) -> None:
    make, reason = _BROKEN[name]

    class Suite(EnvironmentConformance):
        def make_environment(self) -> Any:
            return make()

    failed = _failures(Suite())
    assert set(failed) == {name}, failed
    assert reason in failed[name]
    assert "\nLikely cause: " in failed[name]
    assert "\nFix: " in failed[name]


def test_every_test_has_a_broken_environment() -> None:
    assert list(_BROKEN) == _TESTS


class Bare(Environment):  # type: ignore[type-arg]
    """Without type arguments, as the framework's template has it."""

    def reset(self, seed: Any = None, episode_id: Any = None, **options: Any) -> Any:
        return {"text": "plain"}

    def step(self, action: NoteAction, timeout_s: Any = None, **options: Any) -> Any:  # type: ignore[override]
        return {"text": "plain"}

    @property
    def state(self) -> Any:
        return State()


class Untold(Bare):
    def step(self, action: Any, timeout_s: Any = None, **options: Any) -> Any:
        return {}


def test_actions_are_those_of_the_annotation_where_there_are_no_type_arguments() -> None:
    actions = EnvironmentConformance().make_actions(Bare())
    assert [type(action) for action in actions] == [NoteAction] * 3


def test_an_environment_that_does_not_say_which_actions_it_takes_has_to_be_helped() -> None:
    with pytest.raises(NotImplementedError, match="Untold does not say which actions it takes"):
        EnvironmentConformance().make_actions(Untold())


def test_what_is_no_observation_is_called_so() -> None:
    class Suite(EnvironmentConformance):
        def make_environment(self) -> Any:
            return Untold()

        def make_actions(self, environment: Any) -> list[Action]:
            return [Action()]

    with pytest.raises(AssertionError, match="`reset` or `step` returned a dict"):
        Suite().test_observations_and_states_are_valid()


def test_the_environment_is_for_the_author_to_make() -> None:
    with pytest.raises(NotImplementedError, match="Return a new instance"):
        EnvironmentConformance().make_environment()
