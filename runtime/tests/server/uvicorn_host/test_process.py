# SPDX-License-Identifier: BSD-3-Clause
"""The server's processes: signals at any moment of their lives, dead parents, closed streams."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import process_runs, wait_until

from stepwire.conformance.conversation import Conversation
from stepwire.testing.servers import PATIENCE_S, Server, reserved_port, without_settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

# Each line is one write, also with PYTHONUNBUFFERED: all processes write into the same file.
_APPLICATION = """
print("started\\n", end="", flush=True)
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app, serve

class Closing(NotesEnvironment):
    def __init__(self):
        super().__init__()
        print("opened\\n", end="", flush=True)

    def close(self):
        print("closed\\n", end="", flush=True)

app = create_app(Closing, NoteAction, NoteObservation)
if __name__ == "__main__":
    serve("app:app")
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("application") / "app.py"
    path.write_text(_APPLICATION)
    return path


def _live(application: Path, seed: int, workers: int, longest_s: float) -> None:
    """One life of a server with a client, which a signal ends at a random moment."""
    chance = random.Random(seed)
    number = chance.choice([signal.SIGTERM, signal.SIGINT])
    log_file = application.with_name(f"{seed}-{workers}.log")
    is_over = threading.Event()
    with reserved_port() as port, log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, application, "--port", str(port), "--workers", str(workers)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=without_settings({"PYTHONPATH": os.pathsep.join(sys.path)}),
            start_new_session=True,
        )
        server = Server(port, process, log_file)

        def step_on_and_on() -> None:
            while not is_over.is_set():
                with suppress(Exception), Conversation.open(server.ws_url) as session:
                    while not is_over.wait(0.01):
                        session.step(text="Hi")
                time.sleep(0.05)

        client = threading.Thread(target=step_on_and_on)
        client.start()
        # Not while Python itself starts, whose imports may swallow an interrupt.
        wait_until(lambda: "started" in server.log)
        time.sleep(0.3 + chance.random() * longest_s)
        before = server.log
        try:
            if workers > 1 and number == signal.SIGINT:  # as Ctrl-C in a terminal
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            exit_code = process.wait(PATIENCE_S)
        finally:
            process.kill()
            is_over.set()
            client.join()
    what = f"{number.name}, {workers} workers, exit code {exit_code}:\n{server.log}"
    assert not re.search("Traceback|Exception ignored", server.log), what
    assert server.log.count("opened\n") == server.log.count("closed\n"), what
    assert exit_code in ((0,) if "INFO: " in before else (0, -number)), what


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_at_any_moment_ends_the_server_without_a_traceback(
    application: Path, workers: int
) -> None:
    """From its first log line on also with exit code 0, and all environments are closed."""
    with ThreadPoolExecutor(3) as threads:
        ended = [threads.submit(_live, application, seed, workers, 5) for seed in range(20)]
    for life in ended:
        life.result()


_INTERRUPTED = """
import signal, sys
sys.argv = ["server"]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            signal.raise_signal(NUMBER)
sys.meta_path.insert(0, Interrupt())
from notes_env import app
app.serve("notes_env.app:app", ["--port", "0"])
"""


@pytest.mark.parametrize(
    ("while_importing", "number"),
    [
        ("stepwire._framework", signal.SIGINT),
        ("notes_env.models", signal.SIGINT),
        ("fastapi", signal.SIGINT),
        ("fastapi", signal.SIGTERM),
        ("uvicorn", signal.SIGINT),
    ],
)
def test_a_signal_ends_a_server_that_is_still_imported(
    run: Callable[..., Any], while_importing: str, number: signal.Signals
) -> None:
    code = _INTERRUPTED.replace("NAME", repr(while_importing)).replace("NUMBER", str(int(number)))
    done = run("-c", code)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == (0 if while_importing == "uvicorn" else -number)


def test_an_interrupt_of_another_program_is_python_s_own(run: Callable[..., Any]) -> None:
    code = _INTERRUPTED.replace('["server"]', '["train"]')
    done = run("-c", code.replace("NAME", "'fastapi'").replace("NUMBER", str(int(signal.SIGINT))))
    assert "KeyboardInterrupt" in done.stderr


_TWICE = """
from notes_env.app import app
from stepwire.server.uvicorn_host.lifecycle import Lifecycle

handle = Lifecycle._on_signal

def handle_twice(lifecycle, number, frame):
    handle(lifecycle, number, frame)
    handle(lifecycle, number, frame)

Lifecycle._on_signal = handle_twice
"""


def _stepping(connect: Callable[..., Any], server: Server) -> Any:
    """A session in the middle of a step of ten minutes."""
    session = connect(server.ws_url)
    session.ask({"type": "reset", "data": {"scenario": {"delay_s": 60}}})
    session.send({"type": "step", "data": {"text": "Hi"}})
    return session


def test_a_second_signal_counts_before_the_sessions_have_been_told(
    start_server: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path
) -> None:
    application = tmp_path / "twice_app.py"
    application.write_text(_TWICE)
    server = start_server(application=application, env={"SHUTDOWN_GRACE_S": "3600"})
    session = _stepping(connect, server)
    server.process.terminate()
    assert session.close_code() == 1012
    server.process.wait(60)
    assert "Giving up 1 sessions and requests" in server.log


def _workers(server: Server) -> list[int]:
    """The process ids of the server's two workers, once both serve."""
    wait_until(lambda: server.log.count("Application startup complete.") == 2)
    return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log)]


@pytest.mark.slow
def test_a_second_signal_reaches_the_workers(
    start_server: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    server = start_server("--workers", "2", env={"SHUTDOWN_GRACE_S": "3600"})
    _workers(server)
    session = _stepping(connect, server)
    server.process.terminate()
    wait_until(lambda: "the open session ends after its current call" in server.log)
    server.process.terminate()
    assert session.close_code() == 1012
    assert server.process.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("application", [None, "notes_env.app:app"], ids=["server", "uvicorn"])
def test_workers_end_when_their_parent_is_killed(
    start_server: Callable[..., Any], connect: Callable[..., Any], application: str | None
) -> None:
    server = start_server("--workers", "2", application=application)
    workers = _workers(server)
    session = connect(server.ws_url)
    session.step(text="Hi")
    server.process.kill()
    assert session.close_code() == 1012
    for pid in workers:
        wait_until(lambda pid=pid: not process_runs(pid))  # type: ignore[misc]
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("closed", "workers"),
    [
        ("<&- >&- 2>&-", 1),
        *(
            pytest.param(closed, workers, marks=pytest.mark.slow)
            for closed in ("<&-", ">&-", "2>&-", "<&- 2>&-", ">/dev/full 2>&1")
            for workers in (1, 2)
        ),
        pytest.param("<&- >&- 2>&-", 2, marks=pytest.mark.slow),
    ],
)
def test_standard_streams_may_be_closed(
    start_server: Callable[..., Any], closed: str, workers: int
) -> None:
    command = f'exec "$0" -m notes_env.app --port {{port}} --workers {workers} {closed}'
    server = start_server(command=["sh", "-c", command, sys.executable])
    assert requests.get(f"{server.url}/health", timeout=60).ok
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log
