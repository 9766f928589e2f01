# SPDX-License-Identifier: BSD-3-Clause
"""A thread that makes calls in order, and that a process does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from stepwire.server.threads import CallThread


def test_calls_are_made_in_order_in_one_thread() -> None:
    async def call() -> list[Any]:
        thread = CallThread("test")
        names = [thread.call(lambda: threading.current_thread().name) for _ in range(3)]
        results = await asyncio.gather(*names, thread.call(lambda: divmod(7, 2)))
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: divmod(1, 0))
        thread.end()
        return results

    assert asyncio.run(call()) == ["test", "test", "test", (3, 1)]


def test_a_call_that_was_cancelled_is_not_made() -> None:
    async def call() -> None:
        thread = CallThread("test")
        go, made = threading.Event(), []
        first = thread.call(lambda: go.wait(60))
        second = thread.call(lambda: made.append("second"))
        third = thread.call(lambda: made.append("third"))
        assert second.cancel()
        go.set()
        await asyncio.gather(first, third)
        assert made == ["third"]
        thread.end()

    asyncio.run(call())


def test_a_thread_ends_after_the_calls_requested_before() -> None:
    made: list[str] = []
    began, go = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        go.wait(60)

    async def call() -> None:
        thread = CallThread("ending")
        stuck = thread.call(wait)
        thread.call(lambda: made.append("last"))
        thread.end()
        assert began.wait(60)  # a call that has not begun would not be made at all
        stuck.cancel()  # the caller gives up: the loop is closed when the call returns

    asyncio.run(call())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "ending"]
    go.set()
    thread.join(60)
    assert not thread.is_alive()
    assert made == ["last"]


def test_a_process_does_not_wait_for_a_call_that_never_returns(run: Callable[..., Any]) -> None:
    code = """
import asyncio, threading
from stepwire.server.threads import CallThread

async def call():
    CallThread("stuck").call(threading.Event().wait)

asyncio.run(call())
print("over")
"""
    done = run("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
