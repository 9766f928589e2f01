# SPDX-License-Identifier: BSD-3-Clause
"""`create_app`: what it takes; what is written for it also runs under the stock `create_app`."""

import inspect
import textwrap
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import requests
from openenv.core.env_server.exceptions import ConcurrencyConfigurationError
from openenv.core.env_server.types import State
from starlette.testclient import TestClient

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire import server
from stepwire.server import create_app, create_fastapi_app


class _OneAtATime(NotesEnvironment):
    SUPPORTS_CONCURRENT_SESSIONS = False


@pytest.fixture
def application(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a Python file with an `app`."""

    def write(source: str) -> Path:
        path = tmp_path / "written_app.py"
        path.write_text("import stepwire\n" + textwrap.dedent(source))
        return path

    return write


def test_the_call_in_the_templates_readme_works_unchanged(
    application: Callable[[str], Path], start_server: Any, connect: Any
) -> None:
    source = """
        from notes_env.models import NoteAction, NoteObservation
        from stepwire.server import create_app
        from notes_env.environment import NotesEnvironment

        app = create_app(
            NotesEnvironment,
            NoteAction,
            NoteObservation,
            max_concurrent_envs=4,
        )
    """
    server = start_server(application=application(source))
    taken = [connect(server.ws_url) for _ in range(4)]
    assert [session.step(text="Hi")["data"]["reward"] for session in taken] == [0.2] * 4
    assert connect(server.ws_url).receive()["data"]["max_sessions"] == 4


@pytest.mark.slow
def test_models_and_environment_also_run_under_the_stock_create_app(
    application: Callable[[str], Path], start_server: Any, connect: Any
) -> None:
    source = """
        from openenv.core.env_server.http_server import create_app

        from notes_env.models import NoteAction, NoteObservation
        from notes_env.environment import NotesEnvironment

        app = create_app(NotesEnvironment, NoteAction, NoteObservation, env_name="notes_env")
    """
    server = start_server(application=application(source))
    session = connect(server.ws_url)
    session.ask({"type": "reset", "data": {"seed": 7, "episode_id": "mine"}})
    stepped = session.step(text="Hi")["data"]
    assert (stepped["observation"]["text"], stepped["reward"]) == ("Hi", 0.2)
    state = session.ask({"type": "state"})["data"]
    assert state == {"episode_id": "mine", "step_count": 1, "seed": 7, "characters": 2}
    posted = requests.post(f"{server.url}/step", json={"action": {"text": "Hi"}}, timeout=60)
    assert posted.json()["observation"]["length"] == 2


def test_a_shutdown_ends_the_sessions_and_closes_their_environments(
    application: Callable[[str], Path], start_server: Any, connect: Any
) -> None:
    source = """
        from notes_env.models import NoteAction, NoteObservation
        from stepwire.server import create_app
        from notes_env.environment import NotesEnvironment

        class Closing(NotesEnvironment):
            def close(self):
                print("closed", self.state.episode_id, flush=True)

        app = create_app(Closing, NoteAction, NoteObservation)
    """
    server = start_server(application=application(source))
    session = connect(server.ws_url)
    session.ask({"type": "reset", "data": {"episode_id": "connected"}})
    request = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}
    created = requests.post(f"{server.url}/mcp", json=request, timeout=60).json()
    attached = connect(f"{server.ws_url}?session_id={created['result']['session_id']}")
    attached.ask({"type": "reset", "data": {"episode_id": "detached"}})
    attached.send({"type": "close"})
    attached.close_code()
    server.process.terminate()
    assert session.close_code() == 1012
    server.process.wait()
    for episode in ("connected", "detached"):
        assert server.log.count(f"closed {episode}\n") == 1
    assert "Traceback" not in server.log


def test_a_mounted_application_gets_its_limits_and_its_signals_too(
    application: Callable[[str], Path], start_server: Any, connect: Any
) -> None:
    source = """
        from fastapi import FastAPI
        from notes_env.models import NoteAction, NoteObservation
        from stepwire.server import create_app
        from notes_env.environment import NotesEnvironment

        class Closing(NotesEnvironment):
            def close(self):
                print("closed", flush=True)

        app = FastAPI()
        app.mount("/env", create_app(Closing, NoteAction, NoteObservation))
        app.get("/health")(lambda: {"status": "healthy"})
    """
    server = start_server(application=application(source), env={"MAX_MESSAGE_BYTES": "2000"})
    address = server.ws_url.replace("/ws", "/env/ws")
    connect(address).send({"type": "close"})  # the first connection starts the application
    session = connect(address)
    session.send({"type": "step", "data": {"text": "x" * 3000}})
    assert session.close_code() == 1009
    session = connect(address)
    session.step(text="Hi")
    server.process.terminate()
    assert session.close_code() == 1012
    server.process.wait()
    assert server.log.count("closed\n") == 3
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "environment",
    [NotesEnvironment(), "NotesEnvironment", None],
    ids=["an instance", "a name", "nothing"],
)
def test_an_env_that_cannot_be_called_is_refused(environment: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be called. Pass the environment class"):
        create_app(environment, NoteAction, NoteObservation)


def _annotated() -> _OneAtATime:
    raise ConnectionError("the backend is not up yet")


@pytest.mark.parametrize(
    "environment",
    [_OneAtATime, partial(_OneAtATime), _annotated],
    ids=["class", "partial class", "annotated function"],
)
def test_more_sessions_than_the_environment_supports_are_refused(environment: Any) -> None:
    with pytest.raises(ConcurrencyConfigurationError, match="_OneAtATime"):
        create_app(environment, NoteAction, NoteObservation, max_concurrent_envs=2)
    create_app(environment, NoteAction, NoteObservation, max_concurrent_envs=1)


@pytest.mark.parametrize(
    ("name", "title"), [("notes", "notes HTTP API"), (None, "NotesEnvironment HTTP API")]
)
def test_the_title_is_the_environments_name(name: str | None, title: str) -> None:
    assert create_app(NotesEnvironment, NoteAction, NoteObservation, env_name=name).title == title


def test_a_bad_variable_ends_the_process_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEPWIRE_MAX_CONCURRENT_ENVS", "0")
    with pytest.raises(SystemExit) as stopped:
        create_app(NotesEnvironment, NoteAction, NoteObservation, max_concurrent_envs=1)
    assert stopped.value.code == 2
    assert "server: error: STEPWIRE_MAX_CONCURRENT_ENVS: " in capsys.readouterr().err


def test_the_page_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def statuses(make: Any = create_app) -> set[int]:
        client = TestClient(make(NotesEnvironment, NoteAction, NoteObservation))
        return {client.get(path).status_code for path in ("/", "/web")}

    assert statuses() == {200}
    assert statuses(create_fastapi_app) == {404}
    monkeypatch.setenv("ENABLE_WEB_INTERFACE", "false")
    assert statuses() == {404}


_PARAMETERS = (
    "env, action_cls, observation_cls, env_name=None, max_concurrent_envs=None, "
    "concurrency_config=None, gradio_builder=None, custom_tab_name='Custom', "
    "custom_tab_primary=False, show_default_tab=True, title_override=None, state_cls=State, "
    "*, mode=None, reset_observation_cls=None"
)


def test_the_arguments_are_those_of_openenv_0_10() -> None:
    plain = [
        each.replace(
            annotation=each.empty,
            default=each.empty if each.default is each.empty else _Shown(each),
        )
        for each in inspect.signature(create_app).parameters.values()
    ]
    assert str(inspect.Signature(plain)) == f"({_PARAMETERS})"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["create_app", "create_fastapi_app", "HTTPEnvServer", "HTTPEnvServer.register_routes"],
)
def test_the_arguments_are_those_of_the_installed_framework(name: str) -> None:
    from openenv.core.env_server import http_server  # takes seconds

    ours, stock = (
        inspect.signature(attrgetter(name)(module)).parameters for module in (server, http_server)
    )
    # `openenv-core` 0.3.0 has the first of them.
    for own, theirs in zip(ours.values(), stock.values(), strict=False):
        assert (own.name, own.kind, own.default) == (theirs.name, theirs.kind, theirs.default)
    assert len(ours) >= len(stock)


class _Shown:
    def __init__(self, parameter: inspect.Parameter) -> None:
        self._default = parameter.default

    def __repr__(self) -> str:
        return "State" if self._default is State else repr(self._default)
