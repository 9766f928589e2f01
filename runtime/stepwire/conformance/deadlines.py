# SPDX-License-Identifier: BSD-3-Clause
"""`within`: gives up a call after a time, whatever it waits for."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`; raises `TimeoutError` when it takes longer.

    A call that is given up goes on in a daemon thread, where its result is lost: libraries limit
    each read of a socket, not the whole answer.
    """
    result: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(min(max(seconds, 0), threading.TIMEOUT_MAX))
    if raised:
        raise raised[0]
    if not result:
        raise TimeoutError
    return result[0]
