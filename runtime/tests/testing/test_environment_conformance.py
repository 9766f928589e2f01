# SPDX-License-Identifier: BSD-3-Clause
"""`EnvironmentConformance` passes a sound environment and finds the fault of each broken one."""

import asyncio
import random
import sys
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, State

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.testing import EnvironmentConformance

sys.path.append(str(Path(__file__).parent.parent / "conformance"))
import shapes


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
    "test_an_episode_has_the_requested_id": (OwnEpisodeId, "reset(episode_id="),
    "test_a_step_needs_no_reset": (ResetFirst, "reset() comes first"),
    "test_closing_twice_is_harmless": (ClosesOnce, "closed already"),
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


def test_without_type_arguments_the_annotation_names_the_action_class() -> None:
    actions = EnvironmentConformance().make_actions(Bare())
    assert [type(action) for action in actions] == [NoteAction] * 3


def test_an_environment_without_a_declared_action_class_needs_make_actions() -> None:
    with pytest.raises(NotImplementedError, match="Untold does not declare its action class"):
        EnvironmentConformance().make_actions(Untold())


def test_a_result_that_is_not_an_observation_is_shown() -> None:
    class Suite(EnvironmentConformance):
        def make_environment(self) -> Any:
            return Untold()

        def make_actions(self, environment: Any) -> list[Action]:
            return [Action()]

    with pytest.raises(
        AssertionError, match=r"`reset` or `step` returned \{.*\}, not an Observation"
    ):
        Suite().test_observations_and_states_are_valid()


def test_an_author_has_to_override_make_environment() -> None:
    with pytest.raises(NotImplementedError, match="Return a new instance"):
        EnvironmentConformance().make_environment()


def test_it_also_works_with_unittest() -> None:
    class Case(EnvironmentConformance, unittest.TestCase):
        def make_environment(self) -> Any:
            return NotesEnvironment()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert (result.wasSuccessful(), result.testsRun) == (True, len(_TESTS))


class AsyncNotes(Environment[NoteAction, NoteObservation, State]):
    """Asynchronous only: the methods that the base class asks for raise."""

    def __init__(self) -> None:
        super().__init__()
        self._inner = NotesEnvironment()
        self._lock = asyncio.Lock()

    def reset(self, *arguments: Any, **options: Any) -> NoteObservation:
        raise NotImplementedError("use reset_async")

    def step(self, *arguments: Any, **options: Any) -> NoteObservation:
        raise NotImplementedError("use step_async")

    async def reset_async(self, **options: Any) -> NoteObservation:  # type: ignore[override]
        async with self._lock:
            await asyncio.sleep(0)
            return self._inner.reset(**options)

    async def step_async(self, action: NoteAction, **_: Any) -> NoteObservation:  # type: ignore[override]
        async with self._lock:
            await asyncio.sleep(0)
            return self._inner.step(action)

    @property
    def state(self) -> State:
        return self._inner.state


def _suite(make: Any, actions: Any = None) -> EnvironmentConformance:
    class Suite(EnvironmentConformance):
        def make_environment(self) -> Any:
            return make()

    class WithActions(Suite):
        def make_actions(self, environment: Any) -> Any:
            return actions()

    return Suite() if actions is None else WithActions()


def test_an_asynchronous_environment_is_awaited() -> None:
    assert _failures(_suite(AsyncNotes)) == {}


def test_an_environment_with_a_list_of_fixed_length_and_a_reset_without_arguments() -> None:
    reset_first = {"test_a_step_needs_no_reset"}
    ignores_ids = {"test_an_episode_has_the_requested_id"}
    assert set(_failures(_suite(shapes.Walker))) == reset_first | ignores_ids
    assert set(_failures(_suite(shapes.Snake))) == reset_first | ignores_ids


def _raise() -> Any:
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (_raise, "WithActions.make_actions() raised KeyError('mine'): no action was taken"),
        (list, "WithActions.make_actions() returns a list of actions, not none"),
        (lambda: [{"text": "x"}], "WithActions.make_actions() returns a list of actions, not {'te"),
    ],
)
def test_what_is_wrong_with_make_actions_is_said_of_it(actions: Any, message: str) -> None:
    failed = _failures(_suite(NotesEnvironment, actions))
    assert set(failed) == set(_TESTS) - {
        "test_an_episode_has_the_requested_id",
        "test_closing_twice_is_harmless",
    }
    assert all(text.startswith(message) and "Likely" not in text for text in failed.values())


def test_actions_that_only_the_author_knows_are_asked_for() -> None:
    failed = _failures(_suite(shapes.Picky))
    for text in failed.values():
        assert "Override make_actions() to return actions that it accepts.\n" in text
        assert "There is no command 'Hello'" in text
    words = [shapes.Code(code="open"), shapes.Code(code="close")]
    assert set(_failures(_suite(shapes.Picky, lambda: words))) == {"test_a_step_needs_no_reset"}
