# SPDX-License-Identifier: BSD-3-Clause
"""Misbehaviour on request: `reset(seed=7, scenario={"delay_s": 1.0, "fail_rate": 0.1})`.

For engineers who want to see how their client or trainer copes. Only `app.py` imports this module:
without it, and those lines there, the server is whole. Nothing is left to chance: what happens at a
step is a pure function of the episode's seed, the scenario and the number of the step.
"""

import asyncio
import hashlib
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal

from openenv.core.env_server.types import Action, Observation
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.types import Send
from websockets.frames import Frame, Opcode

from stepwire.server.errors import ConnectionFault, MessageError
from stepwire.server.sessions import Session
from stepwire.server.settings import Settings
from stepwire.server.wire import encode_observation_frame

_LONGEST_S = 60.0
_MOST_PADDING = 4 * 1024 * 1024
_MOST_REWARDS = 10_000
_DRIP_PIECES = 20
_STATE_KEY = "scenario"  # beside what the environment's own state has


class Fault(BaseModel):
    """What happens to the WebSocket at one step. Over HTTP, that step is answered with 422."""

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
    at: int = Field(1, ge=1, description="At which step of the episode, the first being 1")
    code: int = Field(1011, ge=1000, le=4999, description="Close code of the two that close")
    delay_s: float = Field(
        1.0, ge=0, le=_LONGEST_S, description="Seconds that `late_reply` and `slow_drip` take"
    )


class Scenario(BaseModel):
    """How an episode misbehaves; whatever is left out is as it always is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_s: float = Field(0.0, ge=0, le=_LONGEST_S, description="Seconds that each step takes")
    jitter_s: float = Field(
        0.0, ge=0, le=_LONGEST_S, description="Seconds by which each step takes longer, at most"
    )
    done_at: int | None = Field(None, ge=1, description="Step from which on `done` is true")
    reward: (
        FiniteFloat
        | Annotated[list[FiniteFloat], Field(min_length=1, max_length=_MOST_REWARDS)]
        | None
    ) = Field(None, description="Reward of each step; of a list, the last one stays")
    observation_bytes: int = Field(
        0, ge=0, le=_MOST_PADDING, description="Bytes of padding in the observation's metadata"
    )
    stamp: bool = Field(False, description="Whether the metadata tells whose reply it is")
    fail_at: int | None = Field(None, ge=1, description="Step at which the environment fails")
    fail_rate: float = Field(0.0, ge=0, le=1, description="Share of steps at which it fails")
    fault: Fault | None = Field(None, description="What happens to the connection, and when")


def draw(seed: int, what: str, step: int) -> float:
    """A number from 0 to below 1, the same on every machine and in every language.

    It is the first 53 bits of the SHA-256 digest of `<seed>/<what>/<step>`, divided by 2**53.
    """
    digest = hashlib.sha256(f"{seed}/{what}/{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def make_stamp(seed: int | None, episode_id: str | None, step: int, action: Action | None) -> str:
    """The first 32 hexadecimal digits of the SHA-256 digest of `[seed, episode_id, step, action]`.

    As compact JSON in UTF-8 with sorted keys; `action` is without its `metadata`, and null for the
    observation of a reset. A client computes the same (`stepwire.client.verify_stamp`).
    """
    fields = None if action is None else action.model_dump(mode="json", exclude={"metadata"})
    text = json.dumps(
        [seed, episode_id, step, fields], ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class _Course:
    """A scenario under way."""

    scenario: Scenario
    seed: int | None
    steps: int = 0  # asked for, those that failed included

    def chance(self, what: str) -> float:
        return draw(self.seed or 0, what, self.steps)

    def dressed(self, observation: Observation, session: Session, action: Action | None) -> Any:
        """The observation as the scenario wants it."""
        scenario = self.scenario
        if self.steps:
            if scenario.done_at is not None:
                observation.done = self.steps >= scenario.done_at
            if isinstance(scenario.reward, list):
                observation.reward = scenario.reward[min(self.steps, len(scenario.reward)) - 1]
            elif scenario.reward is not None:
                observation.reward = scenario.reward
        more = {}
        if scenario.observation_bytes:
            more["padding"] = "x" * scenario.observation_bytes
        if scenario.stamp:
            state = session.state()
            more["stamp"] = make_stamp(self.seed, state.episode_id, state.step_count, action)
        if more:
            observation.metadata = {**observation.metadata, **more}
        return observation


@dataclass(eq=False, slots=True)
class ScenarioSession(Session):
    """A session whose episodes misbehave when their `reset` asks for it."""

    _course: _Course | None = field(default=None, init=False)

    async def reset(self, arguments: dict[str, Any]) -> Observation:
        """Start an episode, with the scenario in `arguments`, if any.

        Raises `MessageError` for a scenario that is invalid or that this server refuses.
        """
        requested = arguments.get("scenario")
        if requested is None:
            self._course = None
            return await Session.reset(self, arguments)
        course = _Course(_accepted(requested), arguments.get("seed"))
        arguments = {name: value for name, value in arguments.items() if name != "scenario"}
        observation = await Session.reset(self, arguments)
        self._course = course
        return course.dressed(observation, self, None)  # type: ignore[no-any-return]

    def step(
        self, action: Action, arguments: dict[str, Any] | None = None
    ) -> Coroutine[Any, Any, Observation]:
        """Take one step, as the scenario says; raises `_Fault` where the connection is to fail."""
        if self._course is None:
            return Session.step(self, action, arguments)
        return self._misbehave(self._course, action, arguments)

    async def dump_state(self) -> dict[str, Any]:
        """The environment's, and how far the scenario is."""
        state = await Session.dump_state(self)
        if self._course is not None:
            scenario = self._course.scenario.model_dump(exclude_defaults=True)
            state = {**state, _STATE_KEY: [scenario, self._course.seed, self._course.steps]}
        return state

    async def load_state(self, state: dict[str, Any]) -> None:
        """Go on with the environment's episode and the scenario's."""
        state = dict(state)
        course = state.pop(_STATE_KEY, None)
        await Session.load_state(self, state)
        if course is not None:
            scenario, seed, steps = course
            self._course = _Course(_accepted(scenario), seed, steps)

    async def _misbehave(
        self, course: _Course, action: Action, arguments: dict[str, Any] | None
    ) -> Observation:
        scenario = course.scenario
        course.steps += 1
        delay = scenario.delay_s + scenario.jitter_s * course.chance("jitter_s")
        if delay:
            await asyncio.sleep(delay)
        if course.steps == scenario.fail_at or course.chance("fail_rate") < scenario.fail_rate:
            raise ValueError(f"The scenario has the environment fail at step {course.steps}")
        observation = course.dressed(await Session.step(self, action, arguments), self, action)
        if scenario.fault is not None and course.steps == scenario.fault.at:
            raise _FaultyReply(scenario.fault, observation)
        return observation  # type: ignore[no-any-return]


class _FaultyReply(ConnectionFault):
    """The reply to a step, and what is done to it."""

    def __init__(self, fault: Fault, observation: Observation) -> None:
        super().__init__(
            ("scenario", "fault", "kind"),
            f"A connection fault at step {fault.at} needs the WebSocket of the `server` command",
            fault.kind,
        )
        self._fault = fault
        self._observation = observation

    async def perform(self, send: Send, transport: asyncio.Transport | None) -> None:
        fault, reply = self._fault, encode_observation_frame(self._observation)
        text = {"type": "websocket.send", "text": reply}
        close = {"type": "websocket.close", "code": fault.code, "reason": "as the scenario says"}
        match fault.kind:
            case "close_before_reply":
                await send(close)
            case "close_after_reply":
                await send(text)
                await send(close)
            case "silence":
                pass
            case "late_reply":
                await asyncio.sleep(fault.delay_s)
                await send(text)
            case "duplicate_reply":
                await send(text)
                await send(text)
            case "broken_json":
                await send({**text, "text": reply[:-1]})
            case "wrong_type":
                await send({**text, "text": '{"type":"surprise","data":{}}'})
            case "abort" | "slow_drip" if transport is None:
                raise self
            case "abort":
                transport.abort()
            case "slow_drip":
                await _drip(transport, reply.encode(), fault.delay_s)


async def _drip(transport: asyncio.Transport, payload: bytes, seconds: float) -> None:
    """Write the frame of a text in pieces, below the protocol, which writes only whole ones."""
    frame = Frame(Opcode.TEXT, payload).serialize(mask=False)
    size = -(-len(frame) // _DRIP_PIECES)
    for start in range(0, len(frame), size):
        if start:
            await asyncio.sleep(seconds / _DRIP_PIECES)
        transport.write(frame[start : start + size])


@lru_cache
def _are_on() -> bool:
    return Settings().scenarios == "on"  # type: ignore[call-arg]


def _accepted(requested: Any) -> Scenario:
    if not _are_on():
        reason = "This server takes no scenarios (SCENARIOS=off)"
        raise MessageError.invalid("scenarios_off", ("scenario",), reason, requested)
    try:
        return Scenario.model_validate(requested)
    except ValidationError as error:
        raise MessageError.from_validation(error, ("scenario",)) from None
