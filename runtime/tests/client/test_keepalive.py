# SPDX-License-Identifier: BSD-3-Clause
"""Idle clients answer the pings of servers that drop silent ones."""

from functools import cache
from typing import Any

import pytest

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client import keepalive
from stepwire.testing.servers import PATIENCE_S


@pytest.fixture(scope="module")
def impatient_server(start_shared_server: Any) -> Any:
    """Pings every 0.2 s and drops a client that does not answer within `timeout_s`."""

    @cache
    def start(timeout_s: float) -> Any:
        options = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", str(timeout_s))
        return start_shared_server(*options, application="notes_env.app:app")

    return start


def _require_output(text: str, code: str, impatient_server: Any, run: Any) -> None:
    """Run a program with a server that drops silent clients; fails unless it prints `text`."""
    # A busy machine may miss a short limit, but not the long one.
    for timeout_s in (0.2, 2, 10):
        done = run("-W", "error", "-c", code, impatient_server(timeout_s).url)
        if "SessionLostError" not in done.stderr:
            break
    assert (done.returncode, done.stdout) == (0, text), done.stderr


def test_a_session_that_was_not_used_yet_is_kept(server: Any) -> None:
    with NotesEnv(base_url=server.url, connect_timeout_s=PATIENCE_S) as env:
        keepalive.answer_all()
        assert env.step(NoteAction(text="hello")).metadata["step"] == 1


def test_an_idle_client_keeps_its_session_where_a_silent_one_loses_it(
    impatient_server: Any, run: Any
) -> None:
    _require_output("silent lost, idle 2\n", _IDLE, impatient_server, run)


# The silent neighbour came later and is dropped: by then the idle client, too, would have been.
_IDLE = """
import sys
from stepwire.client import keepalive
keepalive._INTERVAL_S = 0.02
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import SessionLostError

hello = NoteAction(text="hello")
with NotesEnv(base_url=sys.argv[1]) as idle, NotesEnv(base_url=sys.argv[1]) as silent:
    idle.step(hello)
    keepalive._sessions.discard(silent._session)
    silent.step(hello)
    with silent._session.connection.in_use:
        received = silent._session.connection._sock
        received.settimeout(60)
        while received.recv(1000):
            pass
    try:
        silent.step(hello)
    except SessionLostError:
        print("silent lost, idle", idle.step(hello).metadata["step"])
"""


def test_a_client_that_is_idle_on_a_loop_keeps_its_session(impatient_server: Any, run: Any) -> None:
    _require_output("2\n", _IDLE_ON_A_LOOP, impatient_server, run)


# The loop itself answers: the thread that does it elsewhere never gets to.
_IDLE_ON_A_LOOP = """
import asyncio, sys
from stepwire.client import keepalive
keepalive._INTERVAL_S = 1000
from notes_env.client import NotesEnv
from notes_env.models import NoteAction

async def main():
    async with NotesEnv(base_url=sys.argv[1]) as idle, NotesEnv(base_url=sys.argv[1]) as silent:
        await idle.step(NoteAction(text="hello"))
        keepalive._sessions.discard(silent._session)
        await silent.step(NoteAction(text="hello"))
        received = silent._session.connection._sock
        while await asyncio.get_running_loop().sock_recv(received, 1000):
            pass
        print((await idle.step(NoteAction(text="hello"))).metadata["step"])

asyncio.run(main())
"""
