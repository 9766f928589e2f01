# SPDX-License-Identifier: BSD-3-Clause
"""Signals before uvicorn handles them, and afterwards.

Nothing has to be closed before the server runs, so a signal ends the process at once. An exception
would be unreliable: code that ignores all exceptions could swallow it.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_has_served = False
_has_stopped = False


def end_at_once_until_served() -> None:
    """Let SIGTERM and SIGINT end this process, with exit code 0, until `note_serving` is called."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _end)
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def note_serving() -> None:
    """Note that uvicorn now handles signals. Once it has stopped, it raises them again."""
    global _has_served
    _has_served = True


def _end(*_: Any) -> None:
    global _has_stopped
    if _has_served and not _has_stopped:
        _has_stopped = True
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # such as a write that this signal interrupted
            stream.flush()
    os._exit(0)
