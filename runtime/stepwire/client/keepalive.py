# SPDX-License-Identifier: BSD-3-Clause
"""Looks after sessions that are idle: answers pings, and tells them when the process is a fork.

Servers ping, and drop whoever does not answer (uvicorn: after 40 s). A blocking client only reads
during its calls, and a trainer may spend minutes between two of them. One daemon thread for all
connections of the process looks after them every few seconds; it does nothing during a call.
"""

import os
import threading
import time
import weakref
from typing import Protocol

_INTERVAL_S = 5.0


class _Tended(Protocol):
    def answer_pings(self) -> None: ...
    def disown(self) -> None: ...


_sessions: "weakref.WeakSet[_Tended]" = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def tend(session: _Tended) -> None:
    """Look after a session until it is garbage."""
    global _thread
    with _lock:
        _sessions.add(session)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="stepwire-keepalive", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        time.sleep(_INTERVAL_S)
        _look_after_all()  # a function, so that no variable keeps a session alive meanwhile


def _look_after_all() -> None:
    with _lock:
        sessions = list(_sessions)
    for session in sessions:
        session.answer_pings()


def _after_fork_in_child() -> None:
    # Neither the thread nor the parent's connections are the child's.
    global _lock, _thread
    _lock = threading.Lock()
    _thread = None
    for session in list(_sessions):
        session.disown()
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
