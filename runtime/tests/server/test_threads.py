# SPDX-License-Identifier: BSD-3-Clause
"""The pool of threads: bounded, reused, and nothing that a process waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

from stepwire.server.threads import DaemonThreads


def test_as_many_threads_as_there_are_calls_up_to_the_limit() -> None:
    threads = DaemonThreads(2, "test")
    both_run = threading.Barrier(2)
    calls = [
        threads.submit(lambda: (both_run.wait(60), threading.current_thread().name)[1])
        for _ in range(4)
    ]  # with a single thread none would end
    assert {call.result(60) for call in calls} == {"test_0", "test_1"}
    threads.shutdown()


def test_a_thread_that_is_idle_takes_the_next_call() -> None:
    threads = DaemonThreads(8, "test")
    names = {threads.submit(lambda: threading.current_thread().name).result(60) for _ in range(20)}
    assert len(names) <= 2  # a thread may still be about to be idle
    threads.shutdown()


def test_arguments_results_and_errors_pass() -> None:
    threads = DaemonThreads(1, "test")
    assert threads.submit(divmod, 7, 2).result(60) == (3, 1)
    assert threads.submit(int, "z", base=36).result(60) == 35
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(60)
    threads.shutdown()


def test_a_call_that_was_cancelled_is_not_made() -> None:
    threads = DaemonThreads(1, "test")
    go, made = threading.Event(), []
    first = threads.submit(go.wait, 60)
    second = threads.submit(made.append, "second")
    third = threads.submit(made.append, "third")
    assert second.cancel()
    go.set()
    assert not wait([first, third], 60).not_done
    assert made == ["third"]
    threads.shutdown()


def test_a_shutdown_ends_the_threads() -> None:
    threads = DaemonThreads(1, "ending")
    threads.submit(int).result(60)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "ending_0"]
    threads.shutdown()
    thread.join(60)
    assert not thread.is_alive()


def test_a_process_does_not_wait_for_a_call_that_never_returns(run: Callable[..., Any]) -> None:
    code = """
import threading
from stepwire.server.threads import DaemonThreads
DaemonThreads(1, "stuck").submit(threading.Event().wait)
print("over")
"""
    done = run("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
