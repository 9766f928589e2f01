# SPDX-License-Identifier: BSD-3-Clause
"""Gymnasium: importing this module registers `openenv/Echo-v0`, alone and vectorised.

import gymnasium
import stepwire.integrations.gymnasium

env = gymnasium.make("openenv/Echo-v0", base_url="http://localhost:8000")
envs = gymnasium.make_vec("openenv/Echo-v0", num_envs=64, base_url="http://localhost:8000")

Without `base_url`, each of them starts a server on this machine and stops it in `close()`. All
about echo is the last statement: there an author names other models.
"""

import string
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from openenv.core.env_server.types import Action, Observation, State

from stepwire.client.errors import UsageError
from stepwire.client.launch import module_server
from stepwire.client.session_client import SessionClient
from stepwire.client.session_pool import SessionPool

_INHERITED = {*Action.model_fields, *Observation.model_fields}  # `metadata`, `done`, `reward`
_INTEGERS = np.iinfo(np.int64)
_LONGEST_TEXT = 1_000_000  # characters, where the model has no limit
_LONGEST_SAMPLE = 40
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "

Client = type[SessionClient[Any, Any, Any]]
_Array = np.ndarray[Any, Any]


class AnyText(spaces.Text):
    """Text of any characters. Samples are short and of printable ASCII."""

    def __init__(self, min_length: int, max_length: int) -> None:
        super().__init__(max_length, min_length=min_length, charset=_PRINTABLE)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is None and probability is None:
            longest = min(self.max_length, self.min_length + _LONGEST_SAMPLE)
            mask = (self.np_random.integers(self.min_length, longest + 1), None)
        return super().sample(mask, probability)


class Choice(spaces.Discrete):  # type: ignore[type-arg] # generic in the latest releases only
    """One of `choices`, by its place among them."""

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__(len(choices))
        self.choices = tuple(choices)


def space_of(model: type[Action | Observation]) -> spaces.Dict:
    """The space of the fields that a model has beside those it inherits from OpenEnv.

    Text, numbers, booleans, `Literal`s, lists and models of these have one; `TypeError` names a
    field that has none.
    """
    schema = model.model_json_schema()
    own = {name: field for name, field in schema["properties"].items() if name not in _INHERITED}
    return spaces.Dict(
        {name: _space(field, schema, f"{model.__name__}.{name}") for name, field in own.items()}
    )


def _space(schema: dict[str, Any], root: dict[str, Any], name: str) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return Choice(schema["enum"])
    match schema.get("type"):
        case "string":
            return AnyText(schema.get("minLength", 0), schema.get("maxLength", _LONGEST_TEXT))
        case "integer":
            low, high = schema.get("minimum", _INTEGERS.min), schema.get("maximum", _INTEGERS.max)
            return spaces.Box(low, high, shape=(), dtype=np.int64)
        case "number":
            low, high = schema.get("minimum", -np.inf), schema.get("maximum", np.inf)
            return spaces.Box(low, high, shape=(), dtype=np.float64)
        case "boolean":
            return Choice((False, True))
        case "array" if "items" in schema:
            return spaces.Sequence(_space(schema["items"], root, f"{name}[]"))
        case "object" if "properties" in schema:
            fields = schema["properties"].items()
            return spaces.Dict({key: _space(of, root, f"{name}.{key}") for key, of in fields})
    raise TypeError(f"There is no Gymnasium space for {name}: {schema}")


def _element(space: spaces.Space[Any], value: Any) -> Any:
    """The element of a space for a value of a model's field."""
    match space:
        case spaces.Dict():
            return {key: _element(of, value[key]) for key, of in space.items()}
        case spaces.Sequence():
            return tuple(_element(space.feature_space, item) for item in value)
        case spaces.Box():
            return np.array(value, space.dtype)
        case Choice():
            return np.int64(space.choices.index(value))
    return value


def _elements(space: spaces.Space[Any], values: Sequence[Any]) -> Any:
    """The same for many values, as an element of the batched space."""
    match space:
        case spaces.Dict():
            return {
                key: _elements(of, [value[key] for value in values]) for key, of in space.items()
            }
        case spaces.Box():
            return np.array(values, space.dtype)
        case Choice():
            return np.array([space.choices.index(value) for value in values], space.dtype)
    return tuple(_element(space, value) for value in values)


def _value(space: spaces.Space[Any], element: Any) -> Any:
    """The reverse of `_element`."""
    match space:
        case spaces.Dict():
            return {key: _value(of, element[key]) for key, of in space.items()}
        case spaces.Sequence():
            return [_value(space.feature_space, item) for item in element]
        case spaces.Box():
            return element.item()
        case Choice():
            return space.choices[int(element)]
    return element


class _Models:
    """The models of an environment as spaces.

    An action's only field stands for the action: a message, not a dictionary with a message.
    """

    def __init__(self, action: type[Action], observation: type[Observation]) -> None:
        fields = space_of(action)
        self._action = action
        self._only_field = next(iter(fields)) if len(fields) == 1 else None
        self.action_space = fields if self._only_field is None else fields[self._only_field]
        self.observation_space = space_of(observation)

    def to_action(self, element: Any) -> Action:
        value = _value(self.action_space, element)
        return self._action(**(value if self._only_field is None else {self._only_field: value}))

    def from_observation(self, observation: Observation) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields' values, and the `info` beside them."""
        return observation.model_dump(exclude=_INHERITED), {"metadata": observation.metadata}


class SessionEnv(gymnasium.Env[Any, Any]):
    """One session: `reset(options=…)` are further arguments of the environment's own `reset`.

    `info["metadata"]` is the observation's metadata. Gymnasium seeds once: after that, each episode
    gets a seed that follows from the first. `client_options` are those of the client.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        client: Client,
        action: type[Action],
        observation: type[Observation],
        base_url: str | None = None,
        **client_options: Any,
    ) -> None:
        self._models = _Models(action, observation)
        self.action_space = self._models.action_space
        self.observation_space = self._models.observation_space
        start = client.from_local if base_url is None else client
        arguments = client_options if base_url is None else {"base_url": base_url, **client_options}
        self._client = start(**arguments).sync()
        self.base_url: str = self._client.base_url

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        arguments = dict(options or {})
        if (episode_seed := _seed(seed, self._np_random)) is not None:
            arguments["seed"] = episode_seed
        result = self._client.reset(**arguments)
        values, info = self._models.from_observation(result.observation)
        return _element(self.observation_space, values), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = self._client.step(self._models.to_action(action))
        values, info = self._models.from_observation(result.observation)
        observation = _element(self.observation_space, values)
        return observation, float(result.reward or 0), result.done, False, info

    def state(self) -> State:
        """The environment's state, which is no part of Gymnasium's interface."""
        state: State = self._client.state()
        return state

    def close(self) -> None:
        self._client.close()


class SessionVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` sessions of one server, stepped together; otherwise as `SyncVectorEnv`.

    A session that failed raises what happened to it; `reset()` revives it.
    """

    def __init__(
        self,
        client: Client,
        action: type[Action],
        observation: type[Observation],
        num_envs: int = 1,
        base_url: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **client_options: Any,
    ) -> None:
        self.closed = True  # in case of a failure below: there is nothing to close
        self.num_envs = num_envs
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self._mode}
        self._models = _Models(action, observation)
        self.single_action_space = self._models.action_space
        self.single_observation_space = self._models.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._max_steps = np.inf if max_episode_steps in (None, -1) else max_episode_steps
        self._server = None
        if base_url is None:
            if client.server_module is None:
                raise UsageError(f"Pass a `base_url`: {client.__name__} names no `server_module`.")
            self._server = module_server(client.server_module)
            base_url = self._server.start()
            self._server.wait_for_ready()
        self.base_url = base_url
        pool_class: Any = type("Pool", (SessionPool,), {"client_class": client})
        self._pool: SessionPool[Any, Any] = pool_class(base_url, num_envs, **client_options)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._values: list[Any] = [None] * num_envs  # of the observation's fields
        self._steps: _Array = np.zeros(num_envs, dtype=np.int64)
        self._ended: _Array = np.zeros(num_envs, dtype=np.bool_)
        self.closed = False

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every session, or in those of `options["reset_mask"]`.

        From one `seed`, session i gets seed + i; a list has one for each session.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=np.bool_))
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._begin_episodes(mask, infos, seed, options)
        return self._batched(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take one step in every session; one whose episode is over begins a new one instead.

        That is `AutoresetMode.NEXT_STEP`; the other modes are as Gymnasium describes them.
        """
        resetting = self._ended.copy()
        if self._mode is AutoresetMode.DISABLED and resetting.any():
            raise gymnasium.error.ResetNeeded(
                f"The episodes of {np.flatnonzero(resetting).tolist()} are over: `reset` them "
                "first, with `options={'reset_mask': …}`."
            )
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        rewards = np.zeros(self.num_envs)
        terminations: _Array = np.zeros(self.num_envs, dtype=np.bool_)
        elements = list(iterate(self.action_space, actions))
        stepping = np.flatnonzero(~resetting).tolist()
        results = self._pool.step(
            [self._models.to_action(elements[index]) for index in stepping], only=stepping
        )
        for index, result in zip(stepping, results, strict=True):
            rewards[index], terminations[index] = result.reward or 0, result.done
            self._take(index, result.observation, infos)
        self._begin_episodes(resetting, infos)
        self._steps += ~resetting
        truncations = ~resetting & (self._steps >= self._max_steps)
        self._ended = terminations | truncations
        if self._mode is AutoresetMode.SAME_STEP:
            for index in np.flatnonzero(self._ended).tolist():
                last = _element(self.single_observation_space, self._values[index])
                infos[index] = {"final_obs": last, "final_info": infos[index]}
            self._begin_episodes(self._ended, infos)
        observations, batched_infos = self._batched(infos)
        return observations, rewards, terminations, truncations, batched_infos

    def states(self) -> list[State]:
        """The state of each session, which is no part of Gymnasium's interface."""
        return [session.state() for session in self._pool.sessions]

    def close_extras(self, **_: Any) -> None:
        self._pool.close()
        if self._server is not None:
            self._server.stop()

    def _begin_episodes(
        self,
        mask: Any,
        infos: list[dict[str, Any]],
        seeds: Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Reset the sessions of the mask."""
        indices = np.flatnonzero(mask).tolist()
        if not indices:
            return
        arguments = {name: [value] * len(indices) for name, value in (options or {}).items()}
        episode_seeds = [self._episode_seed(index, seeds) for index in indices]
        if any(seed is not None for seed in episode_seeds):
            arguments["seed"] = episode_seeds
        results = self._pool.reset(only=indices, **arguments)
        for index, result in zip(indices, results, strict=True):
            self._take(index, result.observation, infos)
        self._steps[indices] = 0
        self._ended[indices] = False

    def _episode_seed(self, index: int, seeds: Sequence[int | None] | None) -> int | None:
        seed = None if seeds is None else seeds[index]
        if seed is not None:
            self._generators[index] = seeding.np_random(seed)[0]
        return _seed(seed, self._generators[index])

    def _take(self, index: int, observation: Observation, infos: list[dict[str, Any]]) -> None:
        self._values[index], info = self._models.from_observation(observation)
        infos[index].update(info)

    def _batched(self, infos: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
        batched_infos: dict[str, Any] = {}
        for index, info in enumerate(infos):
            batched_infos = self._add_info(batched_infos, info, index)
        return _elements(self.single_observation_space, self._values), batched_infos


def _seed(seed: int | None, generator: np.random.Generator | None) -> int | None:
    """An episode's seed: the given one, or the next of those that follow from an earlier one."""
    if seed is None and generator is not None:
        return int(generator.integers(2**31))
    return seed


def register(
    env_id: str,
    client: Client,
    action: type[Action],
    observation: type[Observation],
    max_episode_steps: int | None = None,
) -> None:
    """Have `gymnasium.make` and `make_vec` know an environment by the models of its client."""
    gymnasium.register(
        env_id,
        entry_point=f"{__name__}:{SessionEnv.__name__}",
        vector_entry_point=f"{__name__}:{SessionVectorEnv.__name__}",
        max_episode_steps=max_episode_steps,
        kwargs={"client": client, "action": action, "observation": observation},
    )
