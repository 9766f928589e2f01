# SPDX-License-Identifier: BSD-3-Clause
"""`wait_until`: for what happens soon, but not at a moment that a test can know."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stepwire.testing.servers import PATIENCE_S


def wait_until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return once `condition` holds; raises `AssertionError` if it does not in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"nothing happened for {patience_s} s"
        time.sleep(0.02)


@contextmanager
def patient(*clients: Any) -> Iterator[None]:
    """Within the block, replies to these clients may take long, whatever `message_timeout_s` is."""
    sessions = [client._session for client in clients]
    limits = [session.message_timeout_s for session in sessions]
    for session in sessions:
        session.message_timeout_s = PATIENCE_S
    try:
        yield
    finally:
        for session, limit in zip(sessions, limits, strict=True):
            session.message_timeout_s = limit


def process_runs(pid: int) -> bool:
    """Whether a process runs. A zombie, which has ended but has not been waited for, does not."""
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False
