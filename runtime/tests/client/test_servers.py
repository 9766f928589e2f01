# SPDX-License-Identifier: BSD-3-Clause
"""The account of places, without any server: what is given is given back, whatever happens."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.client.errors import (
    CapacityReachedError,
    ConnectFailedError,
    ReplyTimeoutError,
    ServerError,
    SessionLostError,
)
from stepwire.client.messages import Episode
from stepwire.client.options import Options
from stepwire.client.servers import Place, Server, Servers

_URL = "http://127.0.0.1:1"
_OPTIONS = Options({}, 1.0, 1.0, 1, 0.0, (None, None))
_FAILURES: list[BaseException] = [
    CapacityReachedError({"active_sessions": 1, "max_sessions": 1}, _URL),
    ConnectFailedError("refused"),
    ServerError({"code": "SESSION_ERROR"}, _URL),
    ServerError({"code": "EXECUTION_ERROR"}, _URL),
    SessionLostError("cut"),
    ReplyTimeoutError("late"),
    asyncio.CancelledError(),
]
_events = st.one_of(
    st.sampled_from(["find", "confirm", "leave", "lose"]), st.sampled_from(_FAILURES)
)


async def _happen(place: Place, event: Any) -> None:
    if event == "find":
        await place.find(None, _OPTIONS)
    elif event == "lose":
        place.lose(Episode(), "it was killed")
    elif isinstance(event, str):
        getattr(place, event)()
    elif place.is_refused_by(event):
        await place.find(None, _OPTIONS)


@given(st.lists(st.tuples(st.integers(0, 3), _events), max_size=40))
def test_the_account_of_places_is_right_after_any_events(events: list[tuple[int, Any]]) -> None:
    async def main() -> None:
        servers = Servers([_URL], 1.0, 4)
        places = [Place(servers, index, []) for index in range(4)]
        for place in places:
            place.on_move = lambda _: None
        (server,) = servers._all
        for index, event in events:
            await _happen(places[index], event)
            assert server.given == sum(place._server is server for place in places)
            assert server.pending == sum(place._is_pending for place in places)
        for place in places:
            place.leave()
        assert (server.given, server.pending) == (0, 0)

    asyncio.run(main())


def test_after_a_refusal_each_success_lets_two_more_in() -> None:
    async def main() -> list[int]:
        servers = Servers([_URL], 1.0, 64)
        (server,) = servers._all
        first = await servers.choose(_OPTIONS, 0.0)
        first.refuse(_FAILURES[0])  # type: ignore[arg-type]
        free = []
        given = [await servers.choose(_OPTIONS, 1e18)]  # looks at once
        for _ in range(4):
            for each in given:
                each.confirm(was_careful=True)
            free.append(int(server.free))
            given = [await servers.choose(_OPTIONS, 0.0) for _ in range(int(server.free))]
        return free

    assert asyncio.run(main()) == [2, 4, 8, 16]


@pytest.mark.parametrize("refusal", _FAILURES[:2])
def test_a_server_that_refuses_is_tried_less_and_less_often(
    refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("stepwire.client.servers.monotonic", lambda: now)
    server = Server(_URL)
    server.refuse(refusal)
    for power in range(10):
        pause = server.look_at - now
        assert 0.5 <= pause / min(0.05 * 2**power, 2.0) <= 1.5  # with jitter
        now = server.look_at
        asyncio.run(server.look(_OPTIONS, 64, asks=False))
        assert server.free == 1
        server.give()
        server.refuse(refusal)
