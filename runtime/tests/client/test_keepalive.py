# SPDX-License-Identifier: BSD-3-Clause
"""Idle clients answer the pings of servers that drop silent ones."""

from typing import Any

import pytest

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client import keepalive


@pytest.fixture(scope="module")
def impatient_server(start_shared_server: Any) -> Any:
    """Pings every 0.2 s and drops a client that does not answer within 0.2 s."""
    options = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.2")
    return start_shared_server(*options, application="notes_env.app:app")


def test_a_session_that_was_not_used_yet_is_kept(server: Any) -> None:
    with NotesEnv(base_url=server.url, connect_timeout_s=2) as env:
        keepalive.answer_all()
        assert env.step(NoteAction(text="hello")).metadata["step"] == 1


def test_an_idle_client_keeps_its_session_where_a_silent_one_loses_it(
    impatient_server: Any, run: Any
) -> None:
    done = run("-W", "error", "-c", _IDLE, impatient_server.url)
    assert (done.returncode, done.stdout) == (0, "silent lost, idle 2\n"), done.stderr


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
        received.settimeout(30)
        while received.recv(1000):
            pass
    try:
        silent.step(hello)
    except SessionLostError:
        print("silent lost, idle", idle.step(hello).metadata["step"])
"""


def test_a_client_that_is_idle_on_a_loop_keeps_its_session(impatient_server: Any, run: Any) -> None:
    done = run("-W", "error", "-c", _IDLE_ON_A_LOOP, impatient_server.url)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


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
