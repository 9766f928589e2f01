# SPDX-License-Identifier: BSD-3-Clause
"""Options of a client, checked when it is made; what no text shows; and copies of clients."""

import asyncio
import copy
import inspect
import math
import pickle
import threading
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from openenv.core.sync_client import SyncEnvClient
from waiting import wait_until
from websockets.datastructures import Headers
from websockets.sync.server import ServerConnection, serve

from notes_env.client import NotesEnv, NotesEnvPool
from notes_env.models import NoteAction
from stepwire.client import EnvClientError, InvalidOptionError, ServerError

HELLO = NoteAction(text="hello")
_URL = "http://localhost:8000"
_SECRET = "hf_SECRET"

_TIMES = ["connect_timeout_s", "message_timeout_s"]
_PINGS = ["websocket_ping_interval_s", "websocket_ping_timeout_s"]


@pytest.mark.parametrize("value", [None, math.inf, math.nan, -1, 0, "10", True, [1]])
def test_the_size_of_a_message_is_a_finite_number_above_0(value: Any) -> None:
    text = "`max_message_size_mb` must be a finite number"
    with pytest.raises(InvalidOptionError, match=text) as caught:
        NotesEnv(_URL, max_message_size_mb=value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.args[0].endswith(f"not {value!r}.")


@pytest.mark.parametrize("value", [math.nan, -1, 0, "10", True, [1]])
@pytest.mark.parametrize("name", _TIMES)
def test_a_time_limit_is_a_number_above_0(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"`{name}` must be a number of") as caught:
        NotesEnv(_URL, **{name: value})
    assert caught.value.args[0].endswith(f"not {value!r}.")
    with pytest.raises(InvalidOptionError, match=name):
        NotesEnvPool(_URL, num_envs=2, **{name: value})


@pytest.mark.parametrize("value", [math.nan, -1, "10", True, [1]])
@pytest.mark.parametrize("name", ["capacity_wait_s", *_PINGS])
def test_other_times_may_be_endless_or_none(name: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"`{name}` must be a number of seconds"):
        NotesEnv(_URL, **{name: value})
    NotesEnv(_URL, **{name: math.inf})
    for pings in _PINGS:
        NotesEnv(_URL, **{pings: None})


def test_numbers_of_any_kind_are_accepted() -> None:
    numpy = pytest.importorskip("numpy")
    NotesEnv(_URL, connect_timeout_s=numpy.float32(3), message_timeout_s=numpy.int64(3))


_HUGE = [1e7, 1e308, 10**400, Fraction(10**400, 3), math.inf, None]


@pytest.mark.parametrize("value", _HUGE, ids=lambda value: f"{value!r:.11}")
def test_a_time_may_be_as_long_as_a_number_can_say(server: Any, value: Any) -> None:
    times = dict.fromkeys((*_TIMES, *_PINGS), value)
    if value not in (None, math.inf):
        times.update(dict.fromkeys(("capacity_wait_s", "max_message_size_mb"), value))

    async def awaited(url: str) -> Any:
        async with NotesEnv(url, **times) as env:
            return (await env.step(HELLO)).reward

    with NotesEnv(server.url, **times) as env, NotesEnvPool(server.url, 2, **times) as pool:
        assert env.step(HELLO).reward == 0.5
        assert [result.reward for result in pool.reset()] == [0.0, 0.0]
        assert [result.reward for result in pool.step([HELLO, HELLO])] == [0.5, 0.5]
    assert asyncio.run(awaited(server.url)) == 0.5
    with pytest.raises(InvalidOptionError, match="connect_timeout_s"):
        NotesEnv(server.url, connect_timeout_s=-(value or 1))


@pytest.mark.parametrize("mode", ["train", "", 7, b"production", True])
def test_a_mode_that_is_none_is_refused(mode: Any) -> None:
    with pytest.raises(InvalidOptionError, match="`mode` must be one of simulation, production"):
        NotesEnv(_URL, mode=mode)


@pytest.mark.parametrize("base_url", [b"http://host", Path("http://host"), 7, ["http://host"]])
def test_an_address_that_is_no_string_is_refused(base_url: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"not {type(base_url).__name__}"):
        NotesEnv(base_url)
    for addresses in (None, b"http://host", 7, Path("http://host"), [_URL, base_url]):
        with pytest.raises(InvalidOptionError, match="`base_url` must be a string, not"):
            NotesEnvPool(addresses, num_envs=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_envs", [0, -1, "2", 2.0, None, math.nan])
def test_a_pool_has_a_whole_number_of_sessions(num_envs: Any) -> None:
    with pytest.raises(InvalidOptionError, match=f"`num_envs` must be 1 or more, not {num_envs!r}"):
        NotesEnvPool(_URL, num_envs)


@pytest.mark.parametrize(
    "base_url",
    [
        *("http://", "ftp://host", "http://host:99999", "http://me@host", "http://[::1"),
        *(
            "http://ho st",
            "http://host/a b",
            "http://host/\x00",
            "http://host/a\nb",
            "http://h\x7f",
        ),
    ],
)
def test_an_address_that_cannot_be_one(base_url: str) -> None:
    with pytest.raises(InvalidOptionError, match="base_url must be an address such as http"):
        NotesEnv(base_url)


@pytest.mark.parametrize(
    "value",
    [f"{_SECRET}\r\nX-Evil: 1", f"{_SECRET}\n2", f"{_SECRET}\x00", f"{_SECRET}\x7f", f"{_SECRET}…"],
    ids=ascii,
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(value: str) -> None:
    for name, options in (("token", {"token": value}), ("X-Key", {"headers": {"X-Key": value}})):
        with pytest.raises(InvalidOptionError, match=f"{name}.* no header can have") as caught:
            NotesEnv(_URL, **options)  # type: ignore[arg-type]
        assert _SECRET not in str(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X-Key": 1}, "The value of 'X-Key' in `headers` must be a string, not int"),
        ({"X-Key": None}, "must be a string, not NoneType"),
        ({"X Key": "1"}, "a name that no header can have"),
        ({"X:\n": "1"}, "a name that no header can have"),
        (7, "`headers` must be a dictionary of strings, not int"),
        (Headers([("a", "1"), ("A", "2")]), "must be a dictionary of strings, not Headers"),
    ],
)
def test_headers_that_are_not_valid_are_refused(headers: Any, text: str) -> None:
    with pytest.raises(InvalidOptionError, match=text):
        NotesEnv(_URL, headers=headers)


def test_a_token_from_a_file_is_sent_once_and_without_its_line_break() -> None:
    seen: list[str] = []
    hosts: list[str] = []

    def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        hosts.extend(connection.request.headers.get_all("Host"))
        seen.extend(connection.request.headers.get_all("Authorization"))

    with serve(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://me:pw@127.0.0.1:{server.socket.getsockname()[1]}"
        headers = {"authorization": "old", "host": "echo.example"}
        NotesEnv(url, token=f"{_SECRET}\r\n", headers=headers).connect().close()
        wait_until(lambda: seen)
        url = url.replace("me:pw@", "")
        NotesEnv(url, token="\n").connect().close()
        wait_until(lambda: len(hosts) == 2)
        server.shutdown()
        thread.join()
    assert seen == [f"Bearer {_SECRET}"]
    assert hosts == ["echo.example", url.removeprefix("http://")]


def test_no_text_shows_what_is_secret_in_an_address(
    server: Any, rendezvous: Any, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    held = NoteAction(text="hold forever")
    caplog.set_level("DEBUG")

    def address(port: int) -> str:
        return f"http://me:{_SECRET}@127.0.0.1:{port}?key={_SECRET}"

    texts = []
    for env, fail in (
        (NotesEnv(address(free_port), token=_SECRET), lambda env: env.reset()),
        (NotesEnv(address(rendezvous.port), message_timeout_s=0.1), lambda env: env.step(held)),
        (NotesEnv(address(server.port)), lambda env: env.reset(seed=-1)),
        (NotesEnv(address(server.port)), lambda env: env.call_tool("no_such_tool")),
    ):
        with pytest.raises(EnvClientError) as caught:
            fail(env)
        env.close()
        error: BaseException | None = caught.value
        while error is not None:
            texts += [str(error), repr(error), str(getattr(error, "server", ""))]
            error = error.__cause__
    env = NotesEnv(address(server.port), token=_SECRET)
    env.reset()
    texts += [
        repr(env),
        repr(env._session.way._options),
        repr(NotesEnvPool(address(server.port), 2)),
    ]
    env.close()
    assert [text for text in [*texts, caplog.text] if _SECRET in text] == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("port", value) for value in (-1, 65536, "8000", 8000.0, [8000])),
        *(("wait_timeout", value) for value in (-1, math.nan, "60", True)),
    ],
)
def test_options_of_a_server_are_checked_before_it_starts(option: str, value: Any) -> None:
    for start in (NotesEnv.from_local, partial(NotesEnv.from_docker_image, "image")):
        with pytest.raises(InvalidOptionError, match=f"`{option}` must be a .*number"):
            start(**{option: value})


# Copies.

_COPIES = [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))]


@pytest.mark.parametrize("copied", _COPIES, ids=["copy", "deepcopy", "pickle"])
def test_a_client_that_was_not_used_can_be_copied(server: Any, copied: Any) -> None:
    original = NotesEnv(server.url, message_timeout_s=7, headers={"X-Team": "a"}).sync()
    twin = copied({"env": original})["env"]
    assert repr(twin) == repr(original)
    assert twin.step(HELLO).reward == 0.5
    if copied is not copy.copy:  # which copies the dictionary only
        assert original.status == "unused"
    original.close()
    twin.close()
    again = copied(twin)
    assert again.step(HELLO).metadata["step"] == 1
    again.close()


@pytest.mark.parametrize("copied", _COPIES, ids=["copy", "deepcopy", "pickle"])
def test_a_client_that_was_used_says_why_it_cannot_be_copied(server: Any, copied: Any) -> None:
    with NotesEnv(server.url) as env:
        with pytest.raises(TypeError, match=r"<NotesEnv .*its session is open.* has not been used"):
            copied(env)
        assert env.step(HELLO).reward == 0.5

    async def main() -> None:
        env = NotesEnv(server.url)
        env.reset()
        with pytest.raises(TypeError, match="calls or sessions that are under way"):
            copied(env)
        await env.close()

    asyncio.run(main())


@pytest.mark.parametrize("copied", _COPIES, ids=["copy", "deepcopy", "pickle"])
def test_a_pool_says_that_it_cannot_be_copied(copied: Any) -> None:
    with pytest.raises(
        TypeError, match=r"<NotesEnvPool .*neither pickled nor copied.* and options"
    ):
        copied(NotesEnvPool(_URL, num_envs=2))


# Coroutines.


def test_what_a_call_returns_is_a_coroutine_outside_a_loop_too(either_server: Any) -> None:
    def made() -> NotesEnv:
        return NotesEnv(either_server.url)

    def run(call: Any) -> Any:
        return asyncio.run(call)

    env = made()
    assert run(env.reset()).done is False
    assert run(env.step(HELLO)).reward == 0.5
    assert run(env.state()).step_count == 1
    assert run(env.close()) is None
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    env = made()
    call: Any = env.step(HELLO)
    assert asyncio.run_coroutine_threadsafe(call, loop).result(60).reward == 0.5
    loop.call_soon_threadsafe(loop.stop)
    thread.join()

    async def main(*calls: Any) -> list[Any]:
        waited = [await asyncio.wait_for(calls[0], 60), await asyncio.create_task(calls[1])]
        return [*waited, *await asyncio.gather(*calls[2:])]

    results = loop.run_until_complete(main(*(env.step(HELLO) for _ in range(4))))
    assert [result.reward for result in results] == [0.5] * 4
    loop.close()
    env.close()


def test_the_frameworks_synchronous_wrapper_takes_a_client(server: Any) -> None:
    with SyncEnvClient(NotesEnv(server.url)) as env:
        assert env.reset().done is False
        assert env.step(HELLO).reward == 0.5
        assert env.state().step_count == 1
        with pytest.raises(ServerError):
            env.reset(seed=-1)


# What help, completion and warnings show.

_MISSPELT = """
import sys
from notes_env.client import NotesEnv

class KnownEnv(NotesEnv):
    reset_arguments = ("level",)

with KnownEnv(sys.argv[1]) as env:
    env.reset(seed=7, level=1, task_name="town")
    env.reset(sead=7)
with NotesEnv(sys.argv[1]) as env:
    env.reset(sead=7)
"""


def test_an_argument_that_looks_misspelt_is_warned_of(server: Any, run: Any) -> None:
    text = run("-c", _MISSPELT, server.url).stderr
    assert text.startswith(
        "<string>:10: UserWarning: KnownEnv.reset takes seed, episode_id, scenario, level, not "
        "'sead'. Did you mean 'seed'?\n"
    )
    assert text.count("Warning") == 1


def test_help_of_enter_is_true() -> None:
    text = inspect.getdoc(NotesEnv.__enter__)
    assert text == "Open the session. From now on calls block even where an event loop runs."


def test_help_names_the_arguments_of_reset() -> None:
    parameters = inspect.signature(NotesEnv.reset).parameters
    assert list(parameters) == ["self", "seed", "episode_id", "scenario", "kwargs"]


def test_no_method_has_the_documentation_of_the_frameworks_client() -> None:
    from openenv.core.env_client import EnvClient

    public = {name for name in vars(EnvClient) if not name.startswith("_")}
    for name in {*public, "__init__", "__enter__", "__exit__", "__aenter__", "__aexit__"}:
        documented = inspect.getdoc(getattr(EnvClient, name))
        assert inspect.getdoc(getattr(NotesEnv, name)) not in (None, documented), name


def test_completion_leaves_out_what_only_asyncio_calls(server: Any) -> None:
    with NotesEnv(server.url) as env:
        for value in (env, env.reset(), env.state()):
            assert {"send", "throw"} & set(dir(value)) == set()
