# SPDX-License-Identifier: BSD-3-Clause
"""Looks after idle sessions: answers the server's pings, and disowns connections after a fork.

A server drops a client that does not answer its pings (uvicorn: after 40 s). A blocking client
reads only during its calls, and a trainer may spend minutes between two of them. So one daemon
thread reads from all idle connections of the process every few seconds. It skips those in use.
"""

import os
import threading
import time
import weakref
from typing import Protocol

_INTERVAL_S = 5.0


class _KeptAlive(Protocol):
    def answer_pings(self) -> object: ...
    def disown(self) -> None: ...


_sessions: "weakref.WeakSet[_KeptAlive]" = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def register_for_keepalive(session: _KeptAlive) -> None:
    """Look after a session for as long as it is referenced elsewhere."""
    global _thread
    with _lock:
        _sessions.add(session)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="stepwire-keepalive", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        time.sleep(_INTERVAL_S)
        answer_all()  # a function of its own: no variable here may keep a session alive


def answer_all() -> None:
    with _lock:
        sessions = list(_sessions)
    for session in sessions:
        session.answer_pings()


def _after_fork_in_child() -> None:
    # The child has no copy of the thread, and the connections stay the parent's.
    global _lock, _thread
    _lock = threading.Lock()
    _thread = None
    for session in list(_sessions):
        session.disown()
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
