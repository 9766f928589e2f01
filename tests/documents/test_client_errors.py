# SPDX-License-Identifier: BSD-3-Clause
"""Each row of the table of errors in `docs/client.md` is brought about, on a notes server."""

import builtins
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import patient

import fault_proxy
from document import ROOT, Document
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire import client as public
from stepwire.client import errors
from stepwire.testing import server_fixture
from stepwire.testing.servers import PATIENCE_S

page = Document("docs/client.md")
_ROWS = {happens: cells for happens, *cells in page.table("Errors")}
# The faults of `fault_proxy` that a row stands for.
_FAULTS_OF_ROW = {
    "No reply, or a late one": "silence late slow_drip",
    "The connection is cut or closed": "cut cut_in_mid_frame abort close_with_reason",
    "A frame that is too large or broken": "oversized no_websocket_frame",
    "A reply that is not text, not JSON or of the wrong type": "not_utf8 broken_json "
    "error_without_data no_object missing_field wrong_type",
    "A second reply to one call": "twice",
}
_FAULTS = [(row, fault) for row, faults in _FAULTS_OF_ROW.items() for fault in faults.split()]
_OTHER_ROWS = {
    "The server cannot be reached",
    "The server is at capacity",
    "The server answers with an error",
    "The action cannot be sent",
}
_LONG_S = 30.0  # “at once” is far below it, on any machine
_NOTES = {"PYTHONPATH": os.fspath(ROOT / "runtime" / "tests")}

server = server_fixture("notes_env.app", env=_NOTES)


def _row(happens: str) -> tuple[type[Exception], str, str]:
    """The error that the row names, when it is noticed, and what further calls do."""
    error, noticed, further = _ROWS[happens]
    raised: type[Exception] = getattr(errors, error.strip("`"))
    return raised, noticed, further


@contextmanager
def _broken_line(server: Any, fault: Any, message_timeout_s: float) -> Iterator[NotesEnv]:
    """A client behind a proxy that breaks the reply to "fault"."""
    proxy = fault_proxy.FaultProxy(server.port, fault)
    threading.Thread(target=proxy.serve_forever, args=(0.01,)).start()
    limit_mb = fault_proxy.LIMIT_MB
    try:
        with NotesEnv(
            proxy.url, message_timeout_s=message_timeout_s, max_message_size_mb=limit_mb
        ) as env:
            with patient(env):
                env.reset()
            yield env
    finally:
        proxy.shutdown()
        proxy.server_close()


def _step(env: NotesEnv, text: str = "Hi") -> int:
    step: int = env.step(NoteAction(text=text)).observation.metadata["step"]
    return step


def test_every_row_is_brought_about() -> None:
    assert set(_ROWS) == _OTHER_ROWS | set(_FAULTS_OF_ROW)


def test_the_table_names_what_every_fault_raises() -> None:
    raised = {fault.__name__: error for fault, error, _ in fault_proxy.FAULTS}
    assert {fault: _row(row)[0] for row, fault in _FAULTS if fault != "twice"} == raised


def test_errors_are_also_the_built_in_ones_that_the_text_names() -> None:
    names = re.findall(r"`(\w+Error)`", page.section("Errors").split("and so on", 1)[0])
    assert names.pop(0) == "EnvClientError"
    for ours, built_in in zip(names[::2], names[1::2], strict=True):
        error = getattr(public, ours)
        assert issubclass(error, errors.EnvClientError)
        assert issubclass(error, getattr(builtins, built_in))


@pytest.mark.parametrize(("row", "fault"), _FAULTS)
def test_a_fault_is_noticed_when_the_table_says(row: str, fault: str, server: Any) -> None:
    error, noticed, further = _row(row)
    assert further == "are refused"
    timeout_s = fault_proxy.TIMEOUT_S if noticed == "after `message_timeout_s`" else _LONG_S
    with _broken_line(server, getattr(fault_proxy, fault), timeout_s) as env:
        if noticed == "by the next call":
            assert _step(env, "fault") == 1
        started = time.monotonic()
        with pytest.raises(error):
            _step(env, "Hi" if noticed == "by the next call" else "fault")
        elapsed = time.monotonic() - started
        assert elapsed < _LONG_S / 2 if timeout_s == _LONG_S else elapsed >= timeout_s
        with pytest.raises(errors.SessionLostError):
            _step(env)
        with patient(env):
            env.reset()
            assert _step(env) == 1


def test_no_connection_is_noticed_when_the_table_says(
    start_server: Callable[..., Any], free_port: int
) -> None:
    error, noticed, further = _row("The server cannot be reached")
    assert (noticed, further) == ("within `connect_timeout_s`", "connect again")
    with socket.create_server(("127.0.0.1", free_port)):  # silent
        env = NotesEnv(f"http://127.0.0.1:{free_port}", connect_timeout_s=0.2)
        with pytest.raises(error, match=r"0\.2 s"):
            env.reset()
    env = NotesEnv(f"http://127.0.0.1:{free_port}")
    with pytest.raises(error):
        env.reset()
    start_server(application="notes_env.app", port=free_port, env=_NOTES)
    assert _step(env) == 1
    env.close()


def test_capacity_is_noticed_when_the_table_says(
    start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `close` waits until the place is free; not for 2 s only.
    monkeypatch.setattr("stepwire.client.connection._CLOSE_TIMEOUT_S", PATIENCE_S)
    error, noticed, further = _row("The server is at capacity")
    assert (noticed, further) == ("at once", "connect again")
    full = start_server(application="notes_env.app", env={**_NOTES, "MAX_CONCURRENT_ENVS": "1"})
    refused = NotesEnv(full.url, message_timeout_s=_LONG_S)
    with NotesEnv(full.url) as env:
        env.reset()
        started = time.monotonic()
        with pytest.raises(error):
            refused.reset()
        assert time.monotonic() - started < _LONG_S / 2
    assert _step(refused) == 1
    refused.close()


@pytest.mark.parametrize(
    ("row", "call"),
    [
        ("The server answers with an error", lambda env: env.reset(seed="no number")),
        ("The action cannot be sent", lambda env: env.step("no action")),
    ],
)
def test_an_episode_continues_where_the_table_says(
    row: str, call: Callable[[NotesEnv], Any], server: Any
) -> None:
    error, noticed, further = _row(row)
    assert (noticed, further) == ("at once", "continue the episode")
    with NotesEnv(server.url) as env:
        assert _step(env) == 1
        with pytest.raises(error):
            call(env)
        assert _step(env) == 2
