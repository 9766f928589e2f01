# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium environments from a client class: one session, or many stepped together.

import gymnasium
from stepwire.integrations.gymnasium import register

register("author/MyEnv-v0", MyEnv, max_episode_steps=100)
env = gymnasium.make("author/MyEnv-v0", base_url="http://localhost:8000")
envs = gymnasium.make_vec("author/MyEnv-v0", num_envs=64, base_url="http://localhost:8000")

Without `base_url`, each of these starts the client's `server_module` on this machine and stops it
in `close()`.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from openenv.core.env_server.types import Action, Observation, State

from stepwire.client import SessionClient, SessionPool
from stepwire.client.errors import (
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
    UsageError,
)
from stepwire.client.launch import module_server
from stepwire.integrations.gymnasium_spaces import (
    INHERITED,
    Spaces,
    to_element,
    to_elements,
    to_value,
    validated,
)

__all__ = ["SessionEnv", "SessionVectorEnv", "register"]

Client = type[SessionClient[Any, Any, Any]]
_Array = np.ndarray[Any, Any]
_Infos = list[dict[str, Any]]


def register(env_id: str, client: Client, max_episode_steps: int | None = None) -> None:
    """Register an environment for `gymnasium.make` and `make_vec`.

    Its spaces come from the models that the client class declares. An episode is truncated after
    `max_episode_steps`, unless the call of `make` gives another limit.
    """
    name = f"{client.__module__}:{client.__qualname__}"
    _REGISTERED[name] = client
    gymnasium.register(
        env_id,
        entry_point=f"{__name__}:{SessionEnv.__name__}",
        vector_entry_point=f"{__name__}:{SessionVectorEnv.__name__}",
        max_episode_steps=max_episode_steps,
        kwargs={"client": name},  # a string, so that the specification can be JSON
    )


# Classes that cannot be imported, such as those defined in a notebook.
_REGISTERED: dict[str, Client] = {}


def _client_class(client: Client | str) -> Client:
    """The class itself, or the one of that name: `my_env.client:MyEnv`."""
    if not isinstance(client, str):
        return client
    if client in _REGISTERED:
        return _REGISTERED[client]
    module, _, name = client.partition(":")
    found: Client = attrgetter(name)(import_module(module))
    return found


class _Models:
    """The models of a client as spaces.

    An action with a single field is that field's element, such as a text, and not a dictionary.
    A field without a space is left out where it can be: a field of an action has its default value,
    and one of an observation is in `info`.
    """

    def __init__(self, client: Client) -> None:
        self._action: Any = getattr(client, "action_model", None)
        observation: Any = getattr(client, "observation_model", None)
        if self._action is None or observation is None:
            raise UsageError(
                f"{client.__name__} declares no models. Declare them as its generic arguments: "
                f"`class {client.__name__}(SessionClient[MyAction, MyObservation, MyState])`."
            )
        actions, observations = Spaces(self._action), Spaces(observation)
        for name, refusal in actions.refused.items():
            if name in actions.required:
                raise refusal
            warnings.warn(f"{refusal}. Actions have its default value.", stacklevel=5)
        if actions.rule:
            warnings.warn(
                f"Some samples of the actions are not valid: {actions.rule}", stacklevel=5
            )
        for refusal in observations.refused.values():
            warnings.warn(f"{refusal}. It is in `info`.", stacklevel=5)
        self._in_info = observations.refused.keys()
        fields = actions.space
        self._only_field = next(iter(fields)) if len(fields) == 1 else None
        self.action_space = fields if self._only_field is None else fields[self._only_field]
        self.observation_space = observations.space

    def to_action(self, element: Any) -> Action:
        value = to_value(self.action_space, element)
        fields = value if self._only_field is None else {self._only_field: value}
        action: Action = validated(self._action, fields)
        return action

    def from_observation(self, observation: Observation) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of the observation's own fields, and the `info` beside them."""
        values = observation.model_dump(mode="json", by_alias=True, exclude=INHERITED)
        info = {name: values[name] for name in self._in_info if name in values}
        return values, {"metadata": observation.metadata, **info}


class SessionEnv(gymnasium.Env[Any, Any]):
    """One session as a Gymnasium environment.

    `reset(options=…)` are arguments for the environment's own `reset`. `info["metadata"]` is the
    observation's metadata. After `reset(seed=…)`, each later episode has a seed that follows from
    that one. `client_options` are those of the client.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - declared the way Gymnasium does

    def __init__(
        self, client: Client | str, base_url: str | None = None, **client_options: Any
    ) -> None:
        client = _client_class(client)
        self._models = _Models(client)
        self.action_space = self._models.action_space
        self.observation_space = self._models.observation_space
        if base_url is None:
            self._client = client.from_local(**client_options).sync()
        else:
            self._client = client(base_url, **client_options).sync()
        self.base_url = self._client.base_url

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        arguments = dict(options or {})
        if (episode_seed := _episode_seed(seed, self._np_random)) is not None:
            arguments["seed"] = episode_seed
        result = self._client.reset(**arguments)
        values, info = self._models.from_observation(result.observation)
        return to_element(self.observation_space, values), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = self._client.step(self._models.to_action(action))
        values, info = self._models.from_observation(result.observation)
        observation = to_element(self.observation_space, values)
        return observation, float(result.reward or 0), result.done, False, info

    def state(self) -> State:
        """The environment's state; not part of Gymnasium's interface."""
        state: State = self._client.state()
        return state

    def close(self) -> None:
        self._client.close()


_LOSSES = (SessionLostError, ReplyTimeoutError, ProtocolViolationError)


class _Episodes:
    """The steps and seeds of the current episode of each session."""

    def __init__(self, num_envs: int, max_steps: int | None) -> None:
        self._max_steps = np.inf if max_steps in (None, -1) else max_steps
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs  # of the current episodes
        self._lost: set[int] = set()
        self._steps: _Array = np.zeros(num_envs, dtype=np.int64)
        self.ended: _Array = np.zeros(num_envs, dtype=np.bool_)
        self.begun: _Array = np.zeros(num_envs, dtype=np.bool_)  # at least once

    def begin(self, indices: Sequence[int]) -> None:
        self._steps[indices] = 0
        self.ended[indices] = False
        self.begun[indices] = True

    def count(self, stepped: _Array, terminations: _Array) -> _Array:
        """Count a step of each of these sessions; returns the truncations."""
        self._steps += stepped
        truncations: _Array = stepped & (self._steps >= self._max_steps)
        truncations[[*self._lost]] = True
        self.ended = terminations | truncations
        return truncations

    def seed(self, index: int, seed: int | None) -> int | None:
        """The seed of a session's next episode; a lost one is started over."""
        if seed is not None:
            self._generators[index] = seeding.np_random(seed)[0]
        if seed is not None or index not in self._lost:
            self._seeds[index] = _episode_seed(seed, self._generators[index])
        self._lost.discard(index)
        return self._seeds[index]

    def lose(self, index: int) -> None:
        """Note that the session was lost, and the episode with it."""
        self._lost.add(index)


class SessionVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` sessions, stepped together; it behaves like `SyncVectorEnv`.

    `base_url` may be a list: see `stepwire.client.SessionPool`.

    When a session fails, `step` raises its exception; `reset()` opens a new session. With
    `lost_sessions="truncate"`, an episode whose session is lost is truncated instead: the step
    returns the observation before it, no reward, and the reason in `info["lost"]`. Its reset, which
    opens a session where there is room, has the same seed again, if the episode had one.
    """

    def __init__(
        self,
        client: Client | str,
        num_envs: int = 1,
        base_url: str | Sequence[str] | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        lost_sessions: str = "raise",
        **client_options: Any,
    ) -> None:
        self.closed = True  # until the end of this method: `close` has nothing to close
        if num_envs < 1:
            raise ValueError(f"num_envs is a number above 0, not {num_envs}")
        if lost_sessions not in ("raise", "truncate"):
            raise ValueError(f'lost_sessions is "raise" or "truncate", not {lost_sessions!r}')
        self._truncates_lost = lost_sessions == "truncate"
        client = _client_class(client)
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode(autoreset_mode)}
        self._models = _Models(client)
        self.single_action_space = self._models.action_space
        self.single_observation_space = self._models.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._server = None
        if base_url is None:
            if client.server_module is None:
                raise UsageError(f"Pass a `base_url`: {client.__name__} has no `server_module`.")
            self._server = module_server(client.server_module)
            base_url = self._server.start()
            self._server.wait_for_ready()
        self.base_url = base_url
        pool_class: Any = type("Pool", (SessionPool,), {"client_class": client})
        self._pool: SessionPool[Any, Any] = pool_class(base_url, num_envs, **client_options)
        self._episodes = _Episodes(num_envs, max_episode_steps)
        self._values: list[Any] = [None] * num_envs  # of each session's latest observation
        self.closed = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every session, or in those of `options["reset_mask"]`.

        With one `seed`, session i gets seed + i; a list has a seed for each session.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise AssertionError(f"There are {len(seed)} seeds for {self.num_envs} sessions.")
        if not (mask | self._episodes.begun).all():
            raise gymnasium.error.ResetNeeded("The first `reset` is for all sessions.")
        infos: _Infos = [{} for _ in range(self.num_envs)]
        self._begin_episodes(mask, infos, seed, options)
        return self._batched(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take one step in every session; a session whose episode is over is reset instead.

        This is `AutoresetMode.NEXT_STEP`; Gymnasium describes the other modes.
        """
        mode = self.metadata["autoreset_mode"]
        if not self._episodes.begun.all():
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        resetting = self._episodes.ended.copy()
        if mode is AutoresetMode.DISABLED and resetting.any():
            raise gymnasium.error.ResetNeeded(
                f"The episodes of {np.flatnonzero(resetting).tolist()} are over: `reset` them "
                "first, with `options={'reset_mask': …}`."
            )
        infos: _Infos = [{} for _ in range(self.num_envs)]
        rewards, terminations = self._step_sessions(~resetting, actions, infos)
        self._begin_episodes(resetting, infos)
        truncations = self._episodes.count(~resetting, terminations)
        if mode is AutoresetMode.SAME_STEP:
            ended = self._episodes.ended.copy()
            for index in np.flatnonzero(ended).tolist():
                last = to_element(self.single_observation_space, self._values[index])
                infos[index] = {"final_obs": last, "final_info": infos[index]}
            self._begin_episodes(ended, infos)
        observations, batched_infos = self._batched(infos)
        return observations, rewards, terminations, truncations, batched_infos

    def _mask(self, mask: Any) -> _Array:
        """Which sessions to reset; raises `AssertionError` for what `SyncVectorEnv` refuses."""
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise AssertionError(f"`reset_mask` is an array of booleans, not {mask!r:.100}.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise AssertionError(
                f"`reset_mask` has {self.num_envs} booleans, at least one of them True, "
                f"not {mask!r:.100}."
            )
        return mask

    def states(self) -> list[State]:
        """The state of each session; not part of Gymnasium's interface."""
        return [session.state() for session in self._pool.sessions]

    def close_extras(self, **_: Any) -> None:
        self._pool.close()
        if self._server is not None:
            self._server.stop()

    def _step_sessions(self, mask: _Array, actions: Any, infos: _Infos) -> tuple[_Array, _Array]:
        """Take a step in the sessions of `mask`; returns all rewards and terminations."""
        rewards: _Array = np.zeros(self.num_envs)
        terminations: _Array = np.zeros(self.num_envs, dtype=np.bool_)
        elements = list(iterate(self.action_space, actions))
        if len(elements) != self.num_envs:
            raise ValueError(f"There are {len(elements)} actions for {self.num_envs} sessions.")
        indices = np.flatnonzero(mask).tolist()
        results = self._pool.step(
            [self._models.to_action(elements[index]) for index in indices], only=indices
        )
        for index, result in zip(indices, results, strict=True):
            if self._truncates_lost and isinstance(result.error, _LOSSES):
                self._episodes.lose(index)
                infos[index]["lost"] = str(result.error)
                continue
            rewards[index], terminations[index] = result.reward or 0, result.done
            self._keep(index, result.observation, infos)
        return rewards, terminations

    def _begin_episodes(
        self,
        mask: _Array,
        infos: _Infos,
        seeds: Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Reset the sessions of `mask`."""
        indices = np.flatnonzero(mask).tolist()
        if not indices:
            return
        arguments = {name: [value] * len(indices) for name, value in (options or {}).items()}
        episode_seeds = [
            self._episodes.seed(index, None if seeds is None else seeds[index]) for index in indices
        ]
        if any(seed is not None for seed in episode_seeds):
            arguments["seed"] = episode_seeds
        results = self._pool.reset(only=indices, **arguments)
        for index, result in zip(indices, results, strict=True):
            self._keep(index, result.observation, infos)
        self._episodes.begin(indices)

    def _keep(self, index: int, observation: Observation, infos: _Infos) -> None:
        self._values[index], info = self._models.from_observation(observation)
        infos[index].update(info)

    def _batched(self, infos: _Infos) -> tuple[Any, dict[str, Any]]:
        batched_infos: dict[str, Any] = {}
        for index, info in enumerate(infos):
            batched_infos = self._add_info(batched_infos, info, index)
        return to_elements(self.single_observation_space, self._values), batched_infos


def _episode_seed(seed: int | None, generator: np.random.Generator | None) -> int | None:
    """The given seed, or the next one that follows from an earlier seed."""
    if seed is None and generator is not None:
        return int(generator.integers(2**31))
    return seed
