# SPDX-License-Identifier: BSD-3-Clause
"""Server processes that start at once: forks of an interpreter that has imported the libraries.

The imports cost about a second of CPU, and the tests start more than a hundred servers. `popen` is
called like `subprocess.Popen`. Run as a program, this module is the interpreter that forks.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

_lock = threading.Lock()
_LIBRARIES = ("stepwire.server", "uvicorn", "uvloop", "httptools", "websockets")


class ForkedProcess:
    """The part of `subprocess.Popen` that tests of servers use."""

    def __init__(self, args: Sequence[str], folder: Path, order: dict[str, Any]) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self._exit_file = folder / "exit"
        pid_file = folder / "pid"
        files = {"pid_file": str(pid_file), "exit_file": str(self._exit_file)}
        with _lock:
            stdin = _parent().stdin
            assert stdin is not None
            stdin.write(json.dumps(order | files) + "\n")
            stdin.flush()
        while not pid_file.exists():
            assert _parent().poll() is None, "The process that forks servers has ended"
            time.sleep(0.002)
        self.pid = int(pid_file.read_text())

    def poll(self) -> int | None:
        if self.returncode is None and self._exit_file.exists():
            self.returncode = int(self._exit_file.read_text())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (returncode := self.poll()) is None:
            if timeout is not None and deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process: TypeAlias = "subprocess.Popen[bytes] | ForkedProcess"


def popen(command: Sequence[str], **options: Any) -> Process:
    """Start a command: `python -m …` as a fork if possible, anything else as a new process."""
    env, log = options["env"], options["stdout"]
    if list(command[:2]) != [sys.executable, "-m"] or not _can_fork(env):
        return subprocess.Popen(command, **options)
    order = {"module": command[2], "arguments": command[3:], "env": env, "log": log.name}
    folder = Path(tempfile.mkdtemp(prefix="process-", dir=Path(log.name).parent))
    return ForkedProcess(command, folder, order | {"cwd": str(options["cwd"])})


def _can_fork(env: dict[str, str]) -> bool:
    """Not under coverage, nor with `PYTHON…` variables that an interpreter reads when it starts."""
    names = {name for name in env.keys() | os.environ.keys() if name.startswith("PYTHON")}
    same = all(env.get(name) == os.environ.get(name) for name in names - {"PYTHONPATH"})
    return sys.platform == "linux" and same and not any(n.startswith("COVERAGE") for n in env)


@cache
def _parent() -> "subprocess.Popen[str]":
    parent = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, text=True)

    def end() -> None:
        parent.communicate()  # which closes its input

    atexit.register(end)
    return parent


def _write(file: str, text: str) -> None:
    """Write so that a reader finds the whole text or no file."""
    Path(f"{file}.new").write_text(text)
    os.rename(f"{file}.new", file)


def _next_order() -> dict[str, Any] | None:
    """Fork a server for each order. Returns the order in the server, and `None` in the parent."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the watchers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests and the servers
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return order
        # The watcher, which is the server's parent.
        _write(order["pid_file"], str(pid))
        _, status = os.waitpid(pid, 0)
        _write(order["exit_file"], str(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    return None


def _become(order: dict[str, Any], path: list[str]) -> None:
    """Set up this process like the interpreter that the order's command would start."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, stream)
    os.closerange(3, 64)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    own = order["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [order["cwd"], *filter(None, own), *path]
    sys.argv = [order["module"], *order["arguments"]]


if __name__ == "__main__":
    for library in _LIBRARIES:
        __import__(library)
    gc.freeze()  # no server has to traverse the libraries' objects when it ends
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    installed = [entry for entry in sys.path[1:] if entry not in inherited]
    if (received := _next_order()) is not None:
        _become(received, installed)
        runpy.run_module(received["module"], run_name="__main__", alter_sys=True)
