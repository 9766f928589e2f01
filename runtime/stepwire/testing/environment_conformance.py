# SPDX-License-Identifier: BSD-3-Clause
"""`EnvironmentConformance`: what every environment must do, as tests without a server."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, get_args, get_type_hints

from openenv.core.env_server.types import Action, Observation, State
from pydantic import ValidationError

from stepwire.conformance.actions import accepted_actions, example_actions
from stepwire.conformance.checks.schemas import require_valid
from stepwire.conformance.findings import CheckFailed
from stepwire.protocol.examples import NoExample
from stepwire.testing.called_environment import AnyEnvironment, CalledEnvironment

_STEPS = 3
_OVERRIDE = "Override make_actions() to return actions that it accepts."


def _require(holds: bool, found: str, *, cause: str, fix: str) -> None:
    if not holds:
        raise CheckFailed(f"{found}\nLikely cause: {cause}\nFix: {fix}")


class EnvironmentConformance:
    """Tests of an environment, for pytest or unittest.

    class TestMyEnvironment(EnvironmentConformance):
        def make_environment(self):
            return MyEnvironment()
    """

    def make_environment(self) -> AnyEnvironment:
        """Return a new environment, as for a new session."""
        raise NotImplementedError("Return a new instance of your environment")

    def make_actions(self, environment: AnyEnvironment) -> Sequence[Action]:
        """Return the actions to take in turn; the default makes them from the schema.

        Of those, the tests take the ones that the environment accepts.
        """
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
            f"Two episodes with seed 7 differ: {first} and {second}",
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
                    cause="`reset` does not set `step_count` to 0, or a step does not add 1",
                    fix="set it to 0 in `reset`, add 1 in `step`, and change it nowhere else",
                )

    def test_an_episode_has_the_requested_id(self) -> None:
        with self._environment() as environment:
            environment.reset(episode_id="conformance")
            found = environment.state.episode_id
            _require(
                found == "conformance",
                f"`state.episode_id` is {found!r} after `reset(episode_id='conformance')`",
                cause="`reset` ignores its `episode_id`",
                fix="set `state.episode_id` in `reset`: to the given id, or to a new one",
            )

    def test_a_step_needs_no_reset(self) -> None:
        action = self._actions[0]  # which is accepted after a reset, unless `make_actions` is yours
        with self._environment() as environment:
            try:
                environment.step(action)
            except Exception as error:
                with self._environment() as another:
                    another.reset()
                    another.step(action)  # raises where the reset makes no difference
                raise CheckFailed(
                    f"A step before any reset raised {error!r}\n"
                    "Likely cause: the environment starts an episode only in `reset`\n"
                    "Fix: start an episode in the constructor too"
                ) from error

    def test_closing_twice_is_harmless(self) -> None:
        environment = self._environment()
        environment.reset()
        environment.close()
        try:
            environment.close()
        except Exception as error:
            raise CheckFailed(
                f"The second `close()` raised {error!r}\n"
                "Likely cause: it releases what the first one released\n"
                "Fix: remember that it is closed, and do nothing the second time"
            ) from error

    def test_observations_and_states_are_valid(self) -> None:
        with self._environment() as environment:
            for observation in (environment.reset(), *self._play(environment)):
                _require(
                    isinstance(observation, Observation),
                    f"`reset` or `step` returned {observation!r:.100}, not an Observation",
                    cause="the method returns plain data",
                    fix="return the environment's subclass of the framework's `Observation`",
                )
                _require_valid_model(observation, "observation")
            _require(
                isinstance(environment.state, State),
                f"`state` is {environment.state!r:.100}, not a State",
                cause="`state` is plain data, or a method without `@property`",
                fix="make it a property that returns a `State`",
            )
            _require_valid_model(environment.state, "state")

    def test_instances_share_nothing(self) -> None:
        with self._environment() as one, self._environment() as other:
            for environment in (one, other):
                environment.reset()
            taken = len(self._play(one))
            other.step(self._actions[0])
            count = one.state.step_count
            _require(
                count == taken,
                f"After {taken} steps in one instance and one in another, the first counts {count}",
                cause="an episode's data is kept in the class or the module",
                fix="keep it in `self`",
            )

    def _environment(self) -> CalledEnvironment:
        return CalledEnvironment(self.make_environment())

    def _play(self, environment: CalledEnvironment) -> list[Observation]:
        """Take a few steps, fewer if the episode ends earlier; returns their observations."""
        actions = self._actions
        observed: list[Observation] = []
        while len(observed) < _STEPS and not (observed and getattr(observed[-1], "done", False)):
            observed.append(environment.step(actions[len(observed) % len(actions)]))
        return observed

    @cached_property
    def _actions(self) -> Sequence[Action]:
        """The actions to take; raises `CheckFailed` when there are none."""
        name = f"{type(self).__name__}.make_actions()"
        with self._environment() as environment:
            if type(self).make_actions is EnvironmentConformance.make_actions:
                return self._accepted_actions(_action_class(type(environment.inner)))
            try:
                actions = list(self.make_actions(environment.inner))
            except Exception as error:
                raise CheckFailed(f"{name} raised {error!r}: no action was taken") from error
        odd = [action for action in actions if not isinstance(action, Action)]
        if odd or not actions:
            got = f"{odd[0]!r:.100}" if odd else "none"
            raise CheckFailed(f"{name} returns a list of actions, not {got}")
        return actions

    def _accepted_actions(self, action_class: type[Action]) -> list[Action]:
        try:
            accepted, refused = accepted_actions(
                action_class.model_json_schema(), lambda action: self._refusal(action_class, action)
            )
        except NoExample as error:
            raise CheckFailed(f"{error}. {_OVERRIDE}") from None
        if not accepted:
            shown = "\n".join(refused[:3])
            raise CheckFailed(
                f"The environment refused all {len(refused)} actions that were made from the "
                f"schema of {action_class.__name__}. Either it wants others, or its steps fail. "
                f"{_OVERRIDE}\n{shown}"
            )
        return [action_class.model_validate(action) for action in accepted]

    def _refusal(self, action_class: type[Action], action: dict[str, Any]) -> str:
        """Why the environment does not take an action after a reset; empty when it takes it."""
        try:
            model = action_class.model_validate(action)
        except ValidationError as error:
            return str(error)
        with self._environment() as environment:
            environment.reset()
            try:
                environment.step(model)
            except Exception as error:  # noqa: BLE001 - it is shown
                return repr(error)
        return ""


def _action_class(environment_class: type[AnyEnvironment]) -> type[Action]:
    """The action class, from `Environment[…]` or from the annotations of `step`."""
    for base in environment_class.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            named = get_args(generic)[:1]
            if named and isinstance(named[0], type) and issubclass(named[0], Action):
                return named[0]
    for method in (environment_class.step, environment_class.step_async):
        annotated = get_type_hints(method).get("action")
        if isinstance(annotated, type) and issubclass(annotated, Action):
            return annotated
    raise NotImplementedError(
        f"{environment_class.__name__} does not declare its action class: override make_actions()"
    )


def _without_metadata(observation: Observation) -> dict[str, Any]:
    """The part that has to be equal: metadata may contain times."""
    return observation.model_dump(mode="json", warnings=False, exclude={"metadata"})


def _require_valid_model(model: Observation | State, what: str) -> None:
    try:
        require_valid(
            model.model_dump(mode="json", warnings=False), type(model).model_json_schema(), what
        )
    except CheckFailed as failure:
        raise CheckFailed(
            f"{failure}\nLikely cause: fields are set without validation\n"
            "Fix: pass them to the model's constructor"
        ) from None
