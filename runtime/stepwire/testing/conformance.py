# SPDX-License-Identifier: BSD-3-Clause
"""Checks of an environment in its author's own tests, without a server.

from stepwire.conformance import EnvironmentConformance

class TestMyEnvironment(EnvironmentConformance):
    def make_environment(self):
        return MyEnvironment()
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, get_args, get_type_hints

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

from stepwire.conformance.actions import example_actions
from stepwire.conformance.checks.schemas import require_valid
from stepwire.conformance.server_under_test import CheckFailed

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]

_STEPS = 3


def _require(holds: bool, found: str, *, cause: str, fix: str) -> None:
    if not holds:
        raise CheckFailed(f"{found}\nLikely cause: {cause}\nFix: {fix}")


class EnvironmentConformance:
    """What holds for every environment; its methods are tests, for pytest or unittest."""

    def make_environment(self) -> AnyEnvironment:
        """A new environment, as for a new session."""
        raise NotImplementedError("Return a new instance of your environment")

    def make_actions(self, environment: AnyEnvironment) -> Sequence[Action]:
        """Actions to take in turn; made up from the schema of its action unless overridden."""
        action_class = _action_class(type(environment))
        examples = example_actions(action_class.model_json_schema())
        return [action_class.model_validate(example) for example in examples]

    def test_the_same_seed_gives_the_same_trajectory(self) -> None:
        trajectories = []
        for _ in range(2):
            with self._environment() as environment:
                observed = [environment.reset(seed=7), *self._play(environment)]
            trajectories.append([_without_metadata(observation) for observation in observed])
        first, second = trajectories
        _require(
            first == second,
            f"With seed 7 once {first}, and then {second}",
            cause="something random is not drawn from a generator that `reset` seeds",
            fix="make one `random.Random(seed)` in `reset` and draw everything from it",
        )

    def test_steps_are_counted(self) -> None:
        with self._environment() as environment:
            for _ in range(2):
                environment.reset()
                before = environment.state.step_count
                taken = len(self._play(environment))
                counts = (before, environment.state.step_count)
                _require(
                    counts == (0, taken),
                    f"`state.step_count` was {counts[0]} after a reset and {counts[1]} after "
                    f"{taken} steps",
                    cause="`step_count` is not set back by `reset`, or not counted once per step",
                    fix="set it to 0 in `reset` and add 1 in `step`, nowhere else",
                )

    def test_an_episode_has_the_id_that_was_asked_for(self) -> None:
        with self._environment() as environment:
            environment.reset(episode_id="conformance")
            found = environment.state.episode_id
            _require(
                found == "conformance",
                f"`state.episode_id` is {found!r} after `reset(episode_id='conformance')`",
                cause="`reset` does not take its `episode_id`",
                fix="set `state.episode_id` to the one given, or else to a new one",
            )

    def test_a_step_needs_no_reset(self) -> None:
        with self._environment() as environment:
            try:
                environment.step(self.make_actions(environment)[0])
            except Exception as error:
                raise CheckFailed(
                    f"A step before any reset raised {error!r}\n"
                    "Likely cause: the environment sets up its episode in `reset` alone\n"
                    "Fix: start an episode in the constructor as well"
                ) from error

    def test_closing_twice_is_closing_once(self) -> None:
        environment = self.make_environment()
        environment.reset()
        environment.close()
        try:
            environment.close()
        except Exception as error:
            raise CheckFailed(
                f"The second `close()` raised {error!r}\n"
                "Likely cause: it gives back what the first one gave back\n"
                "Fix: forget what was closed, and close only what is there"
            ) from error

    def test_observations_and_states_are_valid(self) -> None:
        with self._environment() as environment:
            for observation in (environment.reset(), *self._play(environment)):
                _require(
                    isinstance(observation, Observation),
                    f"`reset` or `step` returned a {type(observation).__name__}",
                    cause="it returns plain data",
                    fix="return the environment's observation, a model of the framework",
                )
                _require_valid_model(observation, "observation")
            _require(
                isinstance(environment.state, State),
                f"`state` is a {type(environment.state).__name__}",
                cause="it is plain data, or a method",
                fix="make it a property that returns a `State`",
            )
            _require_valid_model(environment.state, "state")

    def test_instances_share_nothing(self) -> None:
        with self._environment() as one, self._environment() as other:
            for environment in (one, other):
                environment.reset()
            taken = len(self._play(one))
            other.step(self.make_actions(other)[0])
            count = one.state.step_count
            _require(
                count == taken,
                f"After {taken} steps in one instance and one in another, the first counts {count}",
                cause="what an episode remembers is kept in the class or the module",
                fix="keep it in `self`",
            )

    @contextmanager
    def _environment(self) -> Iterator[AnyEnvironment]:
        environment = self.make_environment()
        try:
            yield environment
        finally:
            environment.close()

    def _play(self, environment: AnyEnvironment) -> list[Observation]:
        """The observations of a few steps, fewer when the episode ends before."""
        actions = self.make_actions(environment)
        observed: list[Observation] = []
        while len(observed) < _STEPS and not (observed and getattr(observed[-1], "done", False)):
            observed.append(environment.step(actions[len(observed) % len(actions)]))
        return observed


def _action_class(environment_class: type[AnyEnvironment]) -> type[Action]:
    """The action that `Environment[…]` or the annotations of `step` name."""
    for base in environment_class.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            named = get_args(generic)[:1]
            if named and isinstance(named[0], type) and issubclass(named[0], Action):
                return named[0]
    annotated = get_type_hints(environment_class.step).get("action")
    if isinstance(annotated, type) and issubclass(annotated, Action):
        return annotated
    raise NotImplementedError(
        f"{environment_class.__name__} does not say which actions it takes: override make_actions()"
    )


def _without_metadata(observation: Observation) -> dict[str, Any]:
    """What has to repeat itself: metadata may tell the time."""
    return observation.model_dump(mode="json", warnings=False, exclude={"metadata"})


def _require_valid_model(model: Observation | State, what: str) -> None:
    try:
        require_valid(
            model.model_dump(mode="json", warnings=False), type(model).model_json_schema(), what
        )
    except CheckFailed as failure:
        raise CheckFailed(
            f"{failure}\nLikely cause: fields are set after validation, or around it\n"
            "Fix: pass them to the model's constructor"
        ) from None
