# SPDX-License-Identifier: BSD-3-Clause
"""Clients of a hostile server: each wait has its end, each connection its memory, and texts of the
server have no control characters.

`hostile_server.py` runs as a process of its own. All of its misbehaviours meet a blocking client,
an awaited one, and a pool.
"""

import asyncio
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from hostile_server import MISBEHAVIOURS, REPLIES
from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import (
    CapacityReachedError,
    ConnectFailedError,
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    ServerError,
    SessionLostError,
)

pytestmark = pytest.mark.slow

HELLO = NoteAction(text="hello")
LARGE = NoteAction(text="x" * 20_000_000)
_LIMITS: dict[str, Any] = {"max_message_size_mb": 1}


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """The address of the server."""
    command = [sys.executable, str(Path(__file__).parent.parent / "hostile_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


# The drivers: each performs some calls, and returns the last result or raises its error.


def blocking(url: str, actions: list[NoteAction], **options: Any) -> Any:
    env = NotesEnv(url, **_LIMITS, **options)
    try:
        return [env.step(action) for action in actions][-1]
    finally:
        env.close()


def awaited(url: str, actions: list[NoteAction], **options: Any) -> Any:
    async def main() -> Any:
        env = NotesEnv(url, **_LIMITS, **options)
        try:
            return [await env.step(action) for action in actions][-1]
        finally:
            await env._close_everything_async()

    return asyncio.run(main())


def pooled(url: str, actions: list[NoteAction], **options: Any) -> Any:
    with NotesEnvPool(url, num_envs=3, **_LIMITS, **options) as pool:
        for action in actions:
            results = pool.step([action] * 3)
        errors = [result.error for result in results]
        for error in errors:
            if error is not None:
                raise error
        return results[-1]


def performed(
    url: str, actions: list[NoteAction], expected: tuple[type[Any], ...], **options: Any
) -> list[EnvClientError]:
    """What each driver raises, at the same time; checks their texts, too."""
    with ThreadPoolExecutor(3) as threads:
        drivers = [
            threads.submit(driver, url, actions, **options)
            for driver in (blocking, awaited, pooled)
        ]
    errors = [driver.exception() for driver in drivers]
    for error in errors:
        assert isinstance(error, expected)
        assert _is_printable(str(error)), str(error)
    return errors  # type: ignore[return-value]


def _is_printable(text: str) -> bool:
    return len(text) < 5000 and not re.search("[\x00-\x1f\x7f-\x9f\u202e]", text)


def _names(*beginnings: str) -> list[str]:
    return [name for name in MISBEHAVIOURS if name.startswith(beginnings)]


@pytest.mark.parametrize("path", [*list(MISBEHAVIOURS)[:11], *_names("redirect")])
def test_openings(hostile: str, path: str) -> None:
    url = f"{hostile}/{path}"
    for error in performed(url, [HELLO], (ConnectFailedError,), connect_timeout_s=0.3):
        assert "s3cret" not in str(error)


def test_a_server_that_does_not_answer_tls(hostile: str) -> None:
    url = hostile.replace("http", "https")
    for error in performed(url, [HELLO], (ConnectFailedError,), connect_timeout_s=0.3):
        assert "no answer within 0.3 s" in str(error)


_INSTEAD: dict[str, tuple[type[EnvClientError], ...]] = {
    "texts_before_any_request": (ProtocolViolationError,),
    "pings_before_any_request": (SessionLostError, ReplyTimeoutError),
    "pings_instead": (SessionLostError, ReplyTimeoutError),
    "long_pings_instead": (SessionLostError, ReplyTimeoutError),
    "pongs_instead": (ReplyTimeoutError,),
    "empty_fragments_instead": (ReplyTimeoutError,),
    "small_fragments_instead": (SessionLostError, ReplyTimeoutError),
    "fragments_and_pings_instead": (SessionLostError, ReplyTimeoutError),
    "half_a_frame_instead": (ProtocolViolationError,),
    "a_frame_of_exabytes_instead": (SessionLostError,),
    "dripped_frame": (ReplyTimeoutError,),
    "dripped_pings": (ReplyTimeoutError,),
}


@pytest.mark.parametrize("path", _INSTEAD)
def test_anything_but_a_reply(hostile: str, path: str) -> None:
    expected = _INSTEAD[path]
    # A short limit only where it may end the wait: a busy machine is slow.
    limit: dict[str, Any] = {"message_timeout_s": 0.3} if ReplyTimeoutError in expected else {}
    performed(f"{hostile}/{path}", [HELLO], expected, **limit)


@pytest.mark.parametrize("path", _names("reads", "replies_and"))
def test_a_server_that_does_not_read(hostile: str, path: str) -> None:
    expected = (ReplyTimeoutError, SessionLostError, ProtocolViolationError)
    performed(f"{hostile}/{path}", [LARGE], expected, message_timeout_s=0.3)


@pytest.mark.parametrize("path", _names("close_without", "texts_on"))
def test_a_server_that_does_not_close(hostile: str, path: str) -> None:
    performed(f"{hostile}/{path}", [HELLO], (NoneType,))


@pytest.mark.parametrize("path", _names("texts_after", "pings_after", "reply_to"))
def test_what_comes_after_a_reply(hostile: str, path: str) -> None:
    expected = (ProtocolViolationError, SessionLostError, ReplyTimeoutError)
    performed(f"{hostile}/{path}", [HELLO] * 3, expected, message_timeout_s=1)


@pytest.mark.parametrize("path", REPLIES)
def test_replies(hostile: str, path: str) -> None:
    error: type[EnvClientError] = ProtocolViolationError
    if "error" in path:
        error = ServerError
    elif "capacity" in path:
        error = CapacityReachedError
    performed(f"{hostile}/{path}", [HELLO], (error,))


def test_texts_of_a_close_frame(hostile: str) -> None:
    for error in performed(f"{hostile}/coloured_close", [HELLO], (SessionLostError,)):
        assert r"code 4000 (\x1b[31mred" in str(error)
        assert isinstance(error, SessionLostError)
        assert _is_printable(error.reason)


def test_a_reward_that_is_no_number_is_what_the_server_sent(hostile: str) -> None:
    assert math.isnan(blocking(f"{hostile}/nan_reward", [HELLO]).reward)


def test_all_misbehaviours_are_tested() -> None:
    tested = {*list(MISBEHAVIOURS)[:11], *_names("redirect"), *_INSTEAD, *REPLIES}
    tested |= {*_names("reads", "replies_and", "close_without", "texts_", "pings_after")}
    tested |= {"coloured_close", "nan_reward", "reply_to_an_earlier_request"}
    assert {*MISBEHAVIOURS} == tested


_RESOURCES = """
import asyncio, resource, sys
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client import EnvClientError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

async def main(url):
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.ensure_future(turn())
    env = NotesEnv(url, connect_timeout_s=1, message_timeout_s=1)
    try:
        for _ in range(3):
            await env.step(NoteAction(text="hello"))
    except EnvClientError:
        pass
    await env.close()
    other.cancel()
    return turns

before = peak()
for path in sys.argv[2:]:
    print(path, asyncio.run(main(f"{sys.argv[1]}/{path}")), int(peak() - before))
"""


def test_floods_take_neither_memory_nor_the_event_loop(hostile: str, run: Any) -> None:
    done = run("-c", _RESOURCES, hostile, *_names("texts", "pings", "pongs", "chunks", "empty"))
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        path, turns, megabytes = line.split()
        assert int(megabytes) < 32, line
        if path.endswith("instead"):
            assert int(turns) > 20, line  # a second of at most 50 ms each
