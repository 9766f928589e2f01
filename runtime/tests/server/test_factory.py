# SPDX-License-Identifier: BSD-3-Clause
"""Functions that make environments: when they are called, and what is known before."""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from openenv.core.env_server.exceptions import EnvironmentFactoryError, SessionCapacityError
from openenv.core.env_server.interfaces import Environment
from starlette.testclient import TestClient

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import HTTPEnvServer, create_app
from stepwire.server.factory import EnvironmentFactory

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


class _OneAtATime(NotesEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = False


class _Backend:
    """A function that makes environments once its backend is up."""

    def __init__(self, environment_cls: type[NotesEnvironment] = NotesEnvironment) -> None:
        self.environment_cls = environment_cls
        self.is_up = False
        self.calls = 0

    def __call__(self):  # type: ignore[no-untyped-def]
        self.calls += 1
        if not self.is_up:
            raise ConnectionError("the password is hunter2")
        return self.environment_cls()


def test_a_backend_that_is_not_up_yet_fails_sessions_and_not_the_start() -> None:
    make = _Backend()
    app = create_app(make, NoteAction, NoteObservation, max_concurrent_envs=4)
    assert make.calls == 0
    with TestClient(app) as client:
        for path in (
            "/health",
            "/ready",
            "/schema",
            "/web/",
            "/docs",
            "/openapi.json",
            "/sessions",
        ):
            assert client.get(path).status_code == 200, path
        assert make.calls == 0
        for _ in range(2):
            with client.websocket_connect("/ws") as session:
                refused = session.receive_json()["data"]
            assert (refused["code"], refused["factory_name"]) == ("FACTORY_ERROR", "_Backend")
            assert "hunter2" not in str(refused)
        failed = client.post("/reset", json={})
        assert (failed.status_code, failed.json()["code"]) == (500, "FACTORY_ERROR")
        make.is_up = True
        with client.websocket_connect("/ws") as one, client.websocket_connect("/ws") as other:
            for session in (one, other):
                session.send_json({"type": "step", "data": {"text": "Hi"}})
                assert session.receive_json()["data"]["reward"] == 0.2
        # Cookies, tools and metadata are those of the class that is known now.
        assert client.post("/reset", json={}).cookies
        listed = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert len(client.post("/mcp", json=listed).json()["result"]["tools"]) == 2
        assert client.get("/metadata").json()["name"] == "NotesEnvironment"
        assert "characters" in client.get("/schema").json()["state"]["properties"]
        state = client.get("/openapi.json").json()["components"]["schemas"]["NotesState"]
        assert "characters" in state["properties"]


def _annotated(size: int = 0) -> NotesEnvironment:
    return NotesEnvironment()


def _annotated_with_text(size: int = 0) -> "NotesEnvironment":
    return NotesEnvironment()


def _annotated_with_a_base() -> Environment[Any, Any, Any]:
    return NotesEnvironment()


def _annotated_with_a_name_that_does_not_exist() -> "Missing":
    return NotesEnvironment()


class _Maker:
    def make(self) -> NotesEnvironment:
        return NotesEnvironment()

    def __call__(self) -> NotesEnvironment:
        return NotesEnvironment()


@pytest.mark.parametrize(
    ("make", "environment_cls", "name"),
    [
        (NotesEnvironment, NotesEnvironment, "NotesEnvironment"),
        (partial(NotesEnvironment), NotesEnvironment, "NotesEnvironment"),
        (partial(partial(_annotated, 1), 2), NotesEnvironment, "_annotated"),
        (_annotated_with_text, NotesEnvironment, "_annotated_with_text"),
        (_Maker().make, NotesEnvironment, "make"),
        (_Maker(), NotesEnvironment, "_Maker"),
        (_annotated_with_a_base, None, "_annotated_with_a_base"),
        (_annotated_with_a_name_that_does_not_exist, None, None),
        (lambda: NotesEnvironment(), None, "<lambda>"),
        (_Backend(), None, "_Backend"),
    ],
)
def test_the_class_is_known_where_it_is_declared(
    make: Callable[..., Any], environment_cls: type[Any] | None, name: str | None
) -> None:
    factory = EnvironmentFactory(make)
    assert factory.environment_cls is environment_cls
    assert factory.name == name or name is None
    assert factory.module == (environment_cls.__module__ if environment_cls else __name__)
    known: list[type[Any]] = []
    factory.when_known(known.append)
    assert known == ([] if environment_cls is None else [environment_cls])
    factory.note(NotesEnvironment())
    assert known == [NotesEnvironment]


def test_secrets_among_the_arguments_of_a_partial_function_stay_on_the_server() -> None:
    def make(password: str) -> NotesEnvironment:
        raise ConnectionError(password)

    app = create_app(partial(make, password="hunter2"), NoteAction, NoteObservation)
    with TestClient(app) as client, client.websocket_connect("/ws") as session:
        refused = session.receive_text()
    assert '"factory_name":"make"' in refused
    assert "hunter2" not in refused


def test_one_session_is_open_where_the_class_turns_out_to_allow_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make = _Backend(_OneAtATime)
    make.is_up = True
    server = HTTPEnvServer(make, NoteAction, NoteObservation, max_concurrent_envs=8)
    assert server.max_concurrent_envs == 8

    async def open_together() -> list[Any]:
        opening = (server.sessions.open() for _ in range(4))
        return await asyncio.gather(*opening, return_exceptions=True)

    with caplog.at_level(logging.ERROR, "stepwire.server"):
        first, *others = asyncio.run(open_together())
    assert type(first.environment) is _OneAtATime
    assert {type(other) for other in others} == {SessionCapacityError}
    assert (make.calls, server.max_concurrent_envs) == (1, 1)
    assert "Environment '_OneAtATime' is not marked as SUPPORTS_CONCURRENT_SESSIONS" in caplog.text


def test_sessions_that_wait_for_the_first_one_share_its_fate() -> None:
    make = _Backend()
    server = HTTPEnvServer(make, NoteAction, NoteObservation, max_concurrent_envs=8)

    async def open_together() -> list[Any]:
        opening = (server.sessions.open() for _ in range(4))
        return await asyncio.gather(*opening, return_exceptions=True)

    assert {type(failed) for failed in asyncio.run(open_together())} == {EnvironmentFactoryError}
    assert make.calls == 1
    make.is_up = True
    assert all(session.environment for session in asyncio.run(open_together()))
    assert make.calls == 5


def test_sessions_open_together_again_once_the_class_is_known() -> None:
    together = threading.Barrier(3, timeout=60)

    class Slow(NotesEnvironment):
        BLOCKING = True

        def __init__(self) -> None:
            super().__init__()
            if made:
                together.wait()
            made.append(self)

    made: list[Slow] = []
    server = HTTPEnvServer(lambda: Slow(), NoteAction, NoteObservation)

    async def open_together() -> list[Any]:
        return await asyncio.gather(*(server.sessions.open() for _ in range(4)))

    assert len(asyncio.run(open_together())) == len(made) == 4


def test_a_client_that_gives_up_while_the_first_session_opens_fails_no_other() -> None:
    make = _Backend()
    make.is_up = True
    server = HTTPEnvServer(make, NoteAction, NoteObservation)

    async def open_and_cancel() -> Any:
        first, second = (asyncio.create_task(server.sessions.open()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(open_and_cancel()).environment


def test_tools_that_cannot_be_served_fail_sessions_where_the_class_was_not_known() -> None:
    def reset() -> str:
        return "not a tool"

    class Odd(NotesEnvironment):
        TOOLS = (reset,)

    with pytest.raises(ValueError, match="'reset'"):
        create_app(Odd, NoteAction, NoteObservation)
    app = create_app(lambda: Odd(), NoteAction, NoteObservation)
    with TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/ws") as session:
                assert session.receive_json()["data"]["code"] == "FACTORY_ERROR"
