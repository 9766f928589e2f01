# SPDX-License-Identifier: BSD-3-Clause
"""A server that gets a signal while it starts ends at once, without a traceback.

Most of a server's start is importing modules. Some of them, such as those in Rust, print and ignore
an exception that a signal handler raises. So while `stepwire` is imported, signals end the process.
Later, an interrupt is only kept from being printed, until `serve` has its own signal handlers.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BY_DEFAULT = (signal.default_int_handler, signal.SIG_DFL)


def _is_server() -> bool:
    """Whether the script, or the module that `python -m` runs, has a server's name."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # the module's packages are being imported
        options = iter(sys.orig_argv)
        module = next((next(options, "") for option in options if option == "-m"), "")
        name = module.rpartition(".")[2]
    return name.partition(".")[0] in ("app", "server")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end a server's process while modules are imported in the block."""
    is_main = threading.current_thread() is threading.main_thread()
    changed = [
        (number, default)
        for number, default in zip(_SIGNALS, _BY_DEFAULT, strict=True)
        if is_main and _is_server() and signal.getsignal(number) is default
    ]
    for number, _ in changed:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, default in changed:
            signal.signal(number, default)


def _end(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container survives the default


def _end_quietly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    is_starting = "stepwire.server" in sys.modules or _is_in_import(trace)
    if not (is_starting and issubclass(kind, KeyboardInterrupt)):
        _print(kind, error, trace)


def _is_in_import(trace: TracebackType | None) -> bool:
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"] != "__main__":
            return True
        trace = trace.tb_next
    return False


_print = sys.excepthook
if _is_server():
    sys.excepthook = _end_quietly
