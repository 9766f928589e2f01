# SPDX-License-Identifier: BSD-3-Clause
"""Answers pings on connections that are idle in blocking use.

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


_connections: "weakref.WeakSet[_Tended]" = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None
_generation = 0


def tend(connection: _Tended) -> None:
    """Look after a connection until it is garbage."""
    global _thread
    with _lock:
        _connections.add(connection)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="echo_env-keepalive", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        time.sleep(_INTERVAL_S)
        with _lock:
            connections = list(_connections)
        for connection in connections:
            connection.answer_pings()
        del connections


def fork_generation() -> int:
    """How many forks lie between the first process and this one; cheaper than a process id."""
    return _generation


def _after_fork_in_child() -> None:
    # Neither the thread nor the parent's connections are the child's.
    global _generation, _lock, _thread
    _generation += 1
    _lock = threading.Lock()
    _thread = None
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
