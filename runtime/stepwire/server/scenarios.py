# SPDX-License-Identifier: BSD-3-Clause
"""Misbehaviour on request: `reset(seed=7, scenario={"delay_s": 1.0, "fail_rate": 0.1})`.

For engineers who test how their client or trainer copes. Nothing is random: what happens at a step
depends only on the episode's seed, the scenario and the number of the step.
"""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from openenv.core.env_server.types import Action, Observation
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
)

from stepwire.protocol.stamps import make_stamp
from stepwire.server.calling import AnyEnvironment, Caller
from stepwire.server.encoding import state_field
from stepwire.server.errors import MessageError
from stepwire.server.json_values import Padding
from stepwire.server.session import Session
from stepwire.server.turn import Turn

_LONGEST_S = 60.0
_MOST_PADDING = 4 * 1024 * 1024
_MOST_REWARDS = 10_000
_MOST_KEYS = 50  # of a scenario; a valid one has fewer
_COPIES = 12  # of the padding, while an observation is encoded, with room for rounding up
_STAMPED = ("episode_id", "step_count")
_STATE_KEY = "scenario"  # beside the keys of the environment's own state


def _sendable_code(code: int) -> int:
    # RFC 6455, section 7.4: the others are reserved, and no frame may carry them.
    if code in (1004, 1005, 1006) or 1014 < code < 3000:
        raise ValueError("a close frame carries 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    return code


class Fault(BaseModel):
    """What happens to the WebSocket at one step. Over HTTP the step is answered with 422."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal[
        "close_before_reply",
        "close_after_reply",
        "abort",
        "silence",
        "late_reply",
        "duplicate_reply",
        "broken_json",
        "wrong_type",
        "slow_drip",
    ] = Field(description="What happens")
    at: int = Field(1, ge=1, description="Step of the episode at which it happens, from 1")
    code: Annotated[int, AfterValidator(_sendable_code)] = Field(
        1011,
        ge=1000,
        le=4999,
        description="Close code of `close_before_reply` and `close_after_reply`",
    )
    delay_s: float = Field(
        1.0, ge=0, le=_LONGEST_S, description="Seconds that `late_reply` and `slow_drip` take"
    )


class Scenario(BaseModel):
    """How an episode misbehaves; a field that is left out changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_s: float = Field(0.0, ge=0, le=_LONGEST_S, description="Seconds that each step waits")
    jitter_s: float = Field(
        0.0,
        ge=0,
        le=_LONGEST_S,
        description="Longest further wait of a step, in seconds; each waits a share of it",
    )
    done_at: int | None = Field(None, ge=1, description="First step at which `done` is true")
    reward: (
        FiniteFloat
        | Annotated[list[FiniteFloat], Field(min_length=1, max_length=_MOST_REWARDS)]
        | None
    ) = Field(None, description="Reward of each step; the last of a list stays")
    observation_bytes: int = Field(
        0, ge=0, le=_MOST_PADDING, description="Bytes of padding in the observation's metadata"
    )
    stamp: bool = Field(False, description="Whether the metadata says which request is answered")
    fail_at: int | None = Field(None, ge=1, description="Step at which the environment fails")
    fail_rate: float = Field(
        0.0, ge=0, le=1, description="Share of the steps at which the environment fails"
    )
    fault: Fault | None = Field(None, description="What happens to the connection, and when")


def _few_keys(requested: Any) -> Any:
    """The scenario with at most `_MOST_KEYS` keys: each unknown key would be an error."""
    if not isinstance(requested, dict):
        return requested
    return {key: _few_keys(requested[key]) for key in islice(requested, _MOST_KEYS)}


def draw(seed: int, what: str, step: int) -> float:
    """A number in [0, 1), the same on every machine and in every language.

    It is the first 53 bits of the SHA-256 digest of `<seed>/<what>/<step>`, divided by 2**53.
    """
    digest = hashlib.sha256(f"{seed}/{what}/{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


@dataclass
class ScenarioRun:
    """A scenario in progress."""

    scenario: Scenario
    seed: int | None
    steps: int = 0  # requested so far, including those that failed

    def draw(self, what: str) -> float:
        """A number in [0, 1) for the current step."""
        return draw(self.seed or 0, what, self.steps)

    async def apply_to(
        self, observation: Observation, session: Session, action: Action | None
    ) -> Observation:
        """Change the observation as the scenario asks; `action` is `None` for that of a reset."""
        scenario = self.scenario
        if self.steps:
            if scenario.done_at is not None:
                observation.done = self.steps >= scenario.done_at
            if isinstance(scenario.reward, list):
                observation.reward = scenario.reward[min(self.steps, len(scenario.reward)) - 1]
            elif scenario.reward is not None:
                observation.reward = scenario.reward
        more: dict[str, Any] = {}
        if scenario.stamp:
            state = await session.state()
            episode_id, step_count = (state_field(state, name) for name in _STAMPED)
            more["stamp"] = make_stamp(self.seed, episode_id, step_count, action)
        if scenario.observation_bytes:
            more["padding"] = Padding(scenario.observation_bytes)
        if more:
            observation.metadata = {**observation.metadata, **more}
        return observation


class ConnectionFault(MessageError):
    """Raised in place of an observation: the fault that the connection has to perform.

    A caller without a WebSocket answers it like any other error of the message.
    """

    def __init__(self, fault: Fault, observation: Observation) -> None:
        refusal = MessageError.invalid(
            "connection_fault",
            ("scenario", "fault", "kind"),
            f"A connection fault at step {fault.at} needs the WebSocket of the `server` command",
            fault.kind,
        )
        super().__init__(refusal.code, str(refusal), refusal.errors)
        self.fault = fault
        self.observation = observation


class ScenarioSession(Session):
    """A session whose episodes misbehave when their `reset` asks for it."""

    __slots__ = ("_allowed", "_run")

    def __init__(
        self,
        environment: AnyEnvironment,
        caller: Caller,
        action_cls: Any,
        turn: Turn | None = None,
        *,
        allowed: bool,
    ) -> None:
        super().__init__(environment, caller, action_cls, turn)
        self._allowed = allowed
        self._run: ScenarioRun | None = None

    @property
    def reply_size(self) -> int:
        return 0 if self._run is None else _COPIES * self._run.scenario.observation_bytes

    async def reset(self, arguments: dict[str, Any]) -> Observation:
        """Start an episode, with the scenario in `arguments`, if any.

        Raises `MessageError` for a scenario that is invalid or that this server refuses.
        """
        requested = arguments.get("scenario")
        if requested is None:
            self._run = None
            return await super().reset(arguments)
        run = ScenarioRun(self._validate(requested), arguments.get("seed"))
        arguments = {name: value for name, value in arguments.items() if name != "scenario"}
        observation = await super().reset(arguments)
        self._run = run
        return await run.apply_to(observation, self, None)

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Awaitable[Observation]:
        """Take one step, as the scenario says; raises `ConnectionFault` where it asks for one."""
        if self._run is None:
            return Session.step(self, action, arguments)
        return self._misbehave(self._run, action, arguments)

    async def dump_state(self) -> dict[str, Any]:
        """The environment's state, with the progress of the scenario."""
        state = await super().dump_state()
        if self._run is not None:
            scenario = self._run.scenario.model_dump(exclude_defaults=True)
            state = {**state, _STATE_KEY: [scenario, self._run.seed, self._run.steps]}
        return state

    async def load_state(self, state: dict[str, Any]) -> None:
        """Continue the environment's episode and its scenario."""
        state = dict(state)
        progress = state.pop(_STATE_KEY, None)
        await super().load_state(state)
        if progress is not None:
            scenario, seed, steps = progress
            self._run = ScenarioRun(self._validate(scenario), seed, steps)

    async def _misbehave(
        self, run: ScenarioRun, action: Action, arguments: dict[str, Any] | None
    ) -> Observation:
        scenario = run.scenario
        run.steps += 1
        delay = scenario.delay_s + scenario.jitter_s * run.draw("jitter_s")
        if delay:
            await asyncio.sleep(delay)
        if run.steps == scenario.fail_at or run.draw("fail_rate") < scenario.fail_rate:
            raise ValueError(f"The scenario has the environment fail at step {run.steps}")
        observation = await run.apply_to(await super().step(action, arguments), self, action)
        if scenario.fault is not None and run.steps == scenario.fault.at:
            raise ConnectionFault(scenario.fault, observation)
        return observation

    def _validate(self, requested: Any) -> Scenario:
        if not self._allowed:
            reason = "Scenarios are off on this server (SCENARIOS=off)"
            raise MessageError.invalid("scenarios_off", ("scenario",), reason, requested)
        try:
            return Scenario.model_validate(_few_keys(requested))
        except ValidationError as error:
            raise MessageError.from_validation(error, ("scenario",)) from None
