# SPDX-License-Identifier: BSD-3-Clause
"""The server of `rendezvous_server.py`, and clients of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.testing.servers import PATIENCE_S


@pytest.fixture(scope="session")
def rendezvous(start_shared_server: Callable[..., Any]) -> Any:
    """A server whose steps wait for what their text asks for: see `rendezvous_server.py`."""
    application = Path(__file__).with_name("rendezvous_server.py")
    # A step that is never released must not delay the end of the tests.
    return start_shared_server("--timeout-graceful-shutdown", "1", application=application)


@pytest.fixture(scope="session")
def stock_server(start_shared_server: Callable[..., Any]) -> Any:
    """The framework's own server, for up to 64 sessions."""
    return start_shared_server(application=Path(__file__).with_name("stock_server.py"))


@pytest.fixture(scope="session")
def our_tool_server(start_shared_server: Callable[..., Any]) -> Any:
    """Our server with the environment of `tool_server`."""
    application = Path(__file__).parent.parent / "tool_server.py"
    return start_shared_server(application=application, env={"SERVED_BY": "ours"})


@pytest.fixture(autouse=True)
def _closing_may_take_long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests leave the one place of a server free: `close` must not stop waiting after 2 s."""
    if "one_session_server" in request.fixturenames:
        monkeypatch.setattr("stepwire.client.connection._CLOSE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture(scope="session")
def token() -> str:
    return "s3cret-and-long-enough"


@pytest.fixture(scope="session")
def server_with_a_token(start_shared_server: Callable[..., Any], token: str) -> Any:
    """Our server, which only clients with the token may use."""
    return start_shared_server(env={"API_TOKEN": token})


@pytest.fixture
def other(rendezvous: Any) -> Iterator[Callable[[str], str]]:
    """Takes one note in a session of its own and returns its text: `other("release x")`."""
    with NotesEnv(rendezvous.url) as client:
        yield lambda message: client.step(NoteAction(text=message)).observation.text
