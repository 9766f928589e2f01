# SPDX-License-Identifier: BSD-3-Clause
"""`new_session`: more sessions with one server; and servers that the first call starts."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from openenv.core.env_client import EnvClient

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import (
    CapacityReachedError,
    ConnectFailedError,
    InvalidOptionError,
    SessionLostError,
)
from stepwire.testing.servers import PATIENCE_S

HELLO = NoteAction(text="hello")
_TOKEN = "s3cret-and-long-enough"
_OPTIONS: dict[str, Any] = {
    "connect_timeout_s": 7,
    "message_timeout_s": 8,
    "max_message_size_mb": 9,
    "mode": "production",
    "headers": {"X-Team": "a"},
    "token": _TOKEN,
    "capacity_wait_s": 0.5,
    "websocket_ping_interval_s": 11,
    "websocket_ping_timeout_s": None,
}


def test_a_new_session_has_the_class_and_all_options(server_with_a_token: Any) -> None:
    class MyEnv(NotesEnv):
        pass

    assert {"self", "base_url", "provider", *_OPTIONS} == {
        *inspect.signature(NotesEnv.__init__).parameters
    }
    with MyEnv(server_with_a_token.url, **_OPTIONS) as env:
        child = env.new_session()
        assert type(child) is MyEnv
        assert child.status == "open"
        assert child._options == env._options
        assert child._mode == "production"
        env.reset(episode_id="parent")
        child.reset(episode_id="child")
        child.step(HELLO)
        assert [(one.state().episode_id, one.state().step_count) for one in (env, child)] == [
            ("parent", 0),
            ("child", 1),
        ]
        grandchild = child.new_session()
        assert grandchild.step(HELLO).reward == 0.5
    assert [one.status for one in (env, child, grandchild)] == ["closed", "closed", "closed"]


def test_a_new_session_is_awaited_on_a_loop(server_with_a_token: Any) -> None:
    async def main() -> list[str]:
        async with NotesEnv(server_with_a_token.url, token=_TOKEN) as env:
            child = await env.new_session()
            assert child.status == "open"
            assert (await child.step(HELLO)).reward == 0.5
            children = await asyncio.gather(*(env.new_session() for _ in range(3)))
            assert [(await each.step(HELLO)).reward for each in children] == [0.5] * 3
        return [child.status, *(each.status for each in children)]

    assert asyncio.run(main()) == ["closed"] * 4


def test_a_new_session_of_a_blocking_client_blocks_on_a_loop(server: Any) -> None:
    async def main() -> None:
        with NotesEnv(server.url) as env:
            child = env.new_session()
            assert child.status == "open"
            assert type(child.step(HELLO).reward) is float

    asyncio.run(main())


def test_a_new_session_may_be_closed_first_and_leaves_its_parent_open(server: Any) -> None:
    with NotesEnv(server.url) as env:
        child = env.new_session()
        env.reset(episode_id="parent")
        child.close()
        assert env.state().episode_id == "parent"
        del child
        assert len(env._children) == 0


def test_a_full_server_refuses_a_new_session(one_session_server: Any) -> None:
    with NotesEnv(one_session_server.url) as env:
        env.reset()
        child = env.new_session()
        with pytest.raises(CapacityReachedError):
            child.reset()
        assert env.step(HELLO).reward == 0.5


def test_a_class_with_a_signature_of_its_own_gets_what_it_takes(server: Any) -> None:
    class TeamEnv(NotesEnv):
        def __init__(self, base_url: str, message_timeout_s: float = 60.0) -> None:
            self.notes: list[str] = []
            super().__init__(base_url, message_timeout_s=message_timeout_s, headers={"X-Team": "a"})

    with TeamEnv(server.url, 5) as env:
        env.notes.append("mine")
        child = env.new_session()
        assert child.notes == []
        assert (child._options["message_timeout_s"], child._options["headers"]) == (
            5,
            {"X-Team": "a"},
        )


# Servers that the first call starts.


class ContainerProvider:
    """Starts without being told what; records its calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[str] = []

    def start_container(self, image: str = "mine", **_: Any) -> str:
        self.calls.append(f"start {image}")
        return self.url

    def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None:
        self.calls.append(f"wait {base_url == self.url}")

    def stop_container(self) -> None:
        self.calls.append("stop")


class RuntimeProvider(ContainerProvider):
    start_container = None  # type: ignore[assignment]
    stop_container = None  # type: ignore[assignment]

    def start(self, port: int | None = None, **_: Any) -> str:
        self.calls.append("start mine")
        return self.url

    def wait_for_ready(self, timeout_s: float = 30.0) -> None:  # type: ignore[override]
        self.calls.append("wait True")

    def stop(self) -> None:
        self.calls.append("stop")


def _bare(client: NotesEnv) -> None:
    assert client.step(HELLO).reward == 0.5
    client.close()


def _with(client: NotesEnv) -> None:
    with client:
        assert client.step(HELLO).reward == 0.5


def _awaited(client: NotesEnv) -> None:
    async def main() -> None:
        async with client:
            assert (await client.step(HELLO)).reward == 0.5

    asyncio.run(main())


@pytest.mark.parametrize("kind", [ContainerProvider, RuntimeProvider])
@pytest.mark.parametrize("use", [_bare, _with, _awaited])
def test_the_first_call_starts_the_providers_server_and_close_stops_it(
    server: Any, kind: Any, use: Callable[[NotesEnv], None]
) -> None:
    provider = kind(server.url)
    client = NotesEnv(provider=provider)
    assert (client.base_url, client._base_url) == (None, None)
    assert kind.__name__ in repr(client)
    assert provider.calls == []
    use(client)
    assert provider.calls == ["start mine", "wait True", "stop"]
    assert client.base_url is None
    client.close()
    use(client)  # starts it again
    assert provider.calls == ["start mine", "wait True", "stop"] * 2


def test_its_address_and_sessions_are_those_of_the_started_server(server: Any) -> None:
    provider = ContainerProvider(server.url)
    with NotesEnv(provider=provider) as env:
        assert env.base_url == server.url
        assert env._session.way.url == env._ws_url == server.ws_url
        child = env.new_session()
        assert child.base_url == server.url
        child.close()
        assert "stop" not in provider.calls
    assert provider.calls.count("start mine") == 1
    with env.new_session() as child:  # this starts it again
        assert child.reset().reward is not None
    env.close()
    assert provider.calls == ["start mine", "wait True", "stop"] * 2


def test_a_provider_that_does_not_know_what_to_start_is_named(server: Any) -> None:
    class NeedsAnImage(ContainerProvider):
        def start_container(self, image: str, **_: Any) -> str:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(ValueError, match=r"NeedsAnImage cannot .* start_container\(\) needs image"):
        NotesEnv(provider=NeedsAnImage(server.url)).reset()


def test_a_server_that_does_not_become_ready_is_stopped(server: Any) -> None:
    class NeverReady(ContainerProvider):
        def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None:
            raise TimeoutError("not ready")

    provider = NeverReady(server.url)
    client = NotesEnv(provider=provider)
    with pytest.raises(TimeoutError, match="not ready"):
        client.reset()
    assert provider.calls == ["start mine", "stop"]


def test_closing_while_the_server_is_started_stops_it(server: Any) -> None:
    starting, may_start = threading.Event(), threading.Event()

    class Slow(ContainerProvider):
        def start_container(self, image: str = "mine", **_: Any) -> str:
            starting.set()
            may_start.wait(PATIENCE_S)
            return super().start_container(image)

    provider = Slow(server.url)
    client = NotesEnv(provider=provider)
    with ThreadPoolExecutor(1) as threads:
        using = threads.submit(client.reset)
        assert starting.wait(PATIENCE_S)
        client.close()
        may_start.set()
        with pytest.raises(SessionLostError, match="closed during the call"):
            using.result(PATIENCE_S)
    assert provider.calls[-1] == "stop"
    assert client.status == "closed"


def test_calls_that_closing_left_are_not_performed_in_another_session(server: Any) -> None:
    class LeftError(Exception):
        pass

    async def main() -> None:
        client = NotesEnv(server.url)
        with suppress(LeftError):
            async with client:
                left = client.reset()
                raise LeftError
        assert client.status == "closed"
        for _ in range(3):  # longer than the time in which the loop performs what is unread
            await asyncio.sleep(0.02)
        with pytest.raises(SessionLostError, match="closed during the call"):
            await left
        assert client.status == "closed"

    asyncio.run(main())


def test_a_stop_that_fails_may_be_tried_again(server: Any) -> None:
    class Stubborn(ContainerProvider):
        def stop_container(self) -> None:
            super().stop_container()
            if self.calls.count("stop") == 1:
                raise RuntimeError("busy")

    for client in (
        NotesEnv(provider=Stubborn(server.url)),
        NotesEnv.from_docker_image("mine", provider=Stubborn(server.url)),
    ):
        client.connect()
        with pytest.raises(RuntimeError, match="busy"):
            client.close()
        client.close()
        client.close()
        assert client._session.status == "closed"


def test_a_client_needs_an_address_or_a_provider() -> None:
    with pytest.raises(InvalidOptionError, match="needs a `base_url` or a `provider`"):
        NotesEnv()
    with pytest.raises(ConnectFailedError):
        NotesEnv("http://127.0.0.1:9", provider=ContainerProvider("unused")).reset()


@pytest.mark.parametrize("provider", ["docker", ContainerProvider])
def test_what_is_no_provider(provider: Any) -> None:
    for make in (
        lambda: NotesEnv(provider=provider),
        lambda: NotesEnv("http://127.0.0.1:9", provider=provider),
        lambda: NotesEnv.from_docker_image("image", provider),
        lambda: NotesEnv.from_env("me/notes", use_docker=False, provider=provider),
    ):
        with pytest.raises(InvalidOptionError, match="`provider` must be an object of"):
            make()


def test_the_names_of_the_frameworks_parameters_are_kept() -> None:
    for name in ("__init__", "from_docker_image", "from_env", "reset", "step"):
        theirs = inspect.signature(getattr(EnvClient, name)).parameters
        ours = inspect.signature(getattr(NotesEnv, name)).parameters
        named = {each for each in theirs if theirs[each].kind is not theirs[each].VAR_KEYWORD}
        assert named <= {*ours}, name
