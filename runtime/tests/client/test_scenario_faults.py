# SPDX-License-Identifier: BSD-3-Clause
"""The errors of the client for each connection fault that a scenario can ask the server for."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, get_args

import pytest
from waiting import patient, wait_until

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client.errors import ProtocolViolationError, ReplyTimeoutError, SessionLostError
from stepwire.testing.servers import PATIENCE_S

# Fault, what step 2 and step 3 come to; after a lost session `reset()` starts a new one.
_TABLE: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("close_before_reply", {"code": 4000}, SessionLostError, SessionLostError),
    ("close_after_reply", {"code": 4000}, "2", SessionLostError),
    ("abort", {}, SessionLostError, SessionLostError),
    ("silence", {}, ReplyTimeoutError, SessionLostError),
    ("late_reply", {"delay_s": 30}, ReplyTimeoutError, SessionLostError),
    ("late_reply", {"delay_s": 0.05}, "2", "3"),
    ("duplicate_reply", {}, "2", ProtocolViolationError),
    ("broken_json", {}, ProtocolViolationError, SessionLostError),
    ("wrong_type", {}, ProtocolViolationError, SessionLostError),
    ("slow_drip", {"delay_s": 30}, ReplyTimeoutError, SessionLostError),
    ("slow_drip", {"delay_s": 0.05}, "2", "3"),
]
_TIMEOUT_S = 1.0  # where step 2 gets no reply in time


def _outcome(call: Callable[[], Any]) -> Any:
    """The echo, or the class of the error."""
    try:
        return call().observation.text
    except Exception as error:  # noqa: BLE001 - which one is what is asked
        return type(error)


def _scenario(kind: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"fault": {"kind": kind, "at": 2, **more}}


def _patient(
    number: int, scenario: dict[str, Any], *clients: NotesEnv
) -> AbstractContextManager[None]:
    """Prepare for step `number`: replies may take long, but that of step 2 has its limit.

    Of two replies to step 2, step 3 would take the second for its own if it came only then.
    """
    if number == 3 and scenario["fault"]["kind"] == "duplicate_reply":
        for client in clients:
            wait_until(partial(_has_a_message, client))
    return nullcontext() if number == 2 else patient(*clients)


def _has_a_message(client: NotesEnv) -> bool:
    """Whether a message has arrived that no call has taken."""
    client._session.answer_pings()
    connection = client._session.connection
    assert connection is not None
    return len(connection._exchange._stream.messages) > 0


def _blocking(url: str, scenario: dict[str, Any], limit_s: float) -> list[Any]:
    outcomes = []
    with NotesEnv(url, message_timeout_s=limit_s) as env:
        with patient(env):
            env.reset(scenario=scenario)
        for number in (1, 2, 3):
            with _patient(number, scenario, env):
                outcomes.append(_outcome(lambda: env.step(NoteAction(text=str(number)))))  # noqa: B023
        with patient(env):
            return [*outcomes, env.reset().observation.text]


def _awaited(url: str, scenario: dict[str, Any], limit_s: float) -> list[Any]:
    async def drive() -> list[Any]:
        outcomes: list[Any] = []
        async with NotesEnv(url, message_timeout_s=limit_s) as env:
            with patient(env):
                await env.reset(scenario=scenario)
            for number in (1, 2, 3):
                try:
                    with _patient(number, scenario, env):
                        result = await env.step(NoteAction(text=str(number)))
                    outcomes.append(result.observation.text)
                except Exception as error:  # noqa: BLE001 - as above
                    outcomes.append(type(error))
            with patient(env):
                return [*outcomes, (await env.reset()).observation.text]

    return asyncio.run(drive())


def _pooled(url: str, scenario: dict[str, Any], limit_s: float) -> list[Any]:
    outcomes = []
    with NotesEnvPool(url, num_envs=2, message_timeout_s=limit_s) as pool:
        sessions: list[Any] = pool.sessions
        with patient(*sessions):
            pool.reset(scenario=scenario)
        for number in (1, 2, 3):
            with _patient(number, scenario, *sessions):
                results = pool.step([NoteAction(text=str(number))] * 2)
            assert _outcome(lambda: results[1]) == _outcome(lambda: results[0])  # noqa: B023
            outcomes.append(_outcome(lambda: results[0]))  # noqa: B023
        with patient(*sessions):
            return [*outcomes, pool.reset()[0].observation.text]


@pytest.mark.parametrize("use", [_blocking, _awaited, _pooled], ids=lambda use: use.__name__[1:])
@pytest.mark.parametrize(
    ("kind", "more", "second", "third"),
    _TABLE,
    ids=[" ".join([kind, *map(str, more.values())]) for kind, more, *_ in _TABLE],
)
def test_each_fault_raises_its_own_error(
    server: Any,
    fast_server: Any,
    use: Any,
    kind: str,
    more: dict[str, Any],
    second: Any,
    third: Any,
) -> None:
    able = fast_server if kind in ("abort", "slow_drip") else server
    limit_s = _TIMEOUT_S if second is ReplyTimeoutError else PATIENCE_S
    outcomes = use(able.url, _scenario(kind, more), limit_s)
    assert outcomes == ["1", second, third, "Ready for notes"]


def test_the_table_has_every_fault(server: Any) -> None:
    from stepwire.server.scenarios import Fault

    assert {kind for kind, *_ in _TABLE} == set(get_args(Fault.model_fields["kind"].annotation))
