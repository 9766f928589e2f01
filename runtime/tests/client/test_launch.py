# SPDX-License-Identifier: BSD-3-Clause
"""Servers that a client starts: they serve, leave nothing behind, and their errors say why.

Tests with the marker `engine` need a Docker Engine: `tests/engine.sh pytest -m engine`. Their
containers run this interpreter and this package, mounted from the machine, in an empty image.
"""

import asyncio
import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client.errors import (
    CapacityReachedError,
    CommandNotFoundError,
    ConnectFailedError,
    DockerUnavailableError,
    EnvClientError,
    ImageNotFoundError,
    InvalidOptionError,
    PortTakenError,
    ServerExitedError,
    ServerNotHealthyError,
    ServerStartError,
    SessionLostError,
    UsageError,
)
from stepwire.client.launch import DockerContainer, ServerProcess, module_server

_PATIENCE_S = 60.0  # after which a test fails instead of hanging
_CLEAN_UP = "docker rm -f $(docker ps -aq --filter label=openenv.client)"


def _take_note(client: NotesEnv, text: str = "hello") -> str:
    client.reset()
    return client.step(NoteAction(text=text)).observation.text


def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {_PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def _is_served(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"{url}/health", timeout=_PATIENCE_S).ok
        except requests.ConnectionError:
            return False


def _exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something else that listens on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module of this code that can be imported here; returns its name."""

    def make(code: str) -> str:
        name = f"made_for_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return name

    monkeypatch.syspath_prepend(tmp_path)
    return make


@pytest.fixture
def sleeping_env(module: Callable[[str], str]) -> type[NotesEnv]:
    """A client whose server never serves; the last line of its log is its process id."""

    class SleepingEnv(NotesEnv):
        server_module = module("""
            import os, time

            for number in range(100):
                print("line", number)
            print(os.getpid(), flush=True)
            time.sleep(1000)
        """)

    return SleepingEnv


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the logs of servers are in while these run."""
    folder = tmp_path_factory.mktemp("logs")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Interpreter(NamedTuple):
    """Another Python process, and the first line it printed."""

    process: "subprocess.Popen[str]"
    said: str


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[Callable[[str], Interpreter]]:
    """Starts Python processes; each is in a process group of its own, as from a terminal."""
    started: list[subprocess.Popen[str]] = []

    # A process in the background may ignore SIGINT, and its children inherit that.
    accept_sigint = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"

    def start(code: str) -> Interpreter:
        process = subprocess.Popen(
            [sys.executable, "-c", accept_sigint + textwrap.dedent(code)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        line = b""  # byte by byte: `readline` would read ahead of `communicate`
        while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
            line += byte
        return Interpreter(process, line.decode().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


class TestLocalServer:
    def test_it_serves_the_client_until_close(self) -> None:
        client = NotesEnv.from_local()
        assert _take_note(client) == "hello"
        assert _is_served(client.base_url)
        client.close()
        assert not _is_served(client.base_url)
        client.close()

    def test_with_stops_it(self) -> None:
        with NotesEnv.from_local() as client:
            assert _take_note(client) == "hello"
        assert not _is_served(client.base_url)

    def test_a_client_dropped_without_close_stops_it(self) -> None:
        client = NotesEnv.from_local()
        url = client.base_url
        del client
        assert not _is_served(url)

    def test_it_listens_on_loopback_at_the_given_port(self, free_port: int) -> None:
        with NotesEnv.from_local(port=free_port) as client:
            assert client.base_url == f"http://127.0.0.1:{free_port}"

    @pytest.mark.parametrize(
        ("options", "address"),
        [
            ({"host": "127.0.0.2"}, "http://127.0.0.2:"),
            ({"host": "0.0.0.0", "reload": True}, "http://127.0.0.1:"),
        ],
    )
    def test_it_listens_on_the_given_host_and_reloads(
        self, options: dict[str, Any], address: str
    ) -> None:
        with NotesEnv.from_local(**options) as client:
            assert client.base_url.startswith(address)
            assert _take_note(client) == "hello"
            command = client._provider._process.args
            assert ("--reload" in command) is bool(options.get("reload"))
        assert not _is_served(client.base_url)

    def test_several_run_side_by_side(self) -> None:
        with NotesEnv.from_local() as one, NotesEnv.from_local() as other:
            assert one.base_url != other.base_url
            assert [_take_note(one, "1"), _take_note(other, "2")] == ["1", "2"]

    def test_options_of_the_client_and_environment_variables_arrive(self) -> None:
        variables = {"MAX_CONCURRENT_ENVS": "1"}
        with NotesEnv.from_local(env_vars=variables, message_timeout_s=7, token="t") as client:
            assert client._message_timeout == 7
            assert client._options["token"] == "t"
            with pytest.raises(CapacityReachedError):
                NotesEnv(client.base_url).sync().reset()

    def test_a_proxy_of_the_environment_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        with NotesEnv.from_local() as client:
            assert _take_note(client) == "hello"

    def test_a_session_whose_server_is_killed_is_lost(self) -> None:
        with NotesEnv.from_local() as client:
            client.reset()
            client._provider._process.kill()
            with pytest.raises(SessionLostError):
                client.step(NoteAction(text="hello"))

    def test_one_that_ignores_the_signal_to_stop_is_killed_with_all_it_started(
        self, module: Callable[[str], str]
    ) -> None:
        server = module_server(
            module("""
                import http.server, os, signal, sys

                class Handler(http.server.BaseHTTPRequestHandler):
                    def do_GET(self):
                        self.send_response(200)
                        self.end_headers()

                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                port = int(sys.argv[sys.argv.index("--port") + 1])
                listening = http.server.HTTPServer(("127.0.0.1", port), Handler)
                os.fork()  # either of them can answer
                listening.serve_forever()
            """)
        )
        url = server.start()
        server.wait_for_ready()
        server.stop()
        assert not _is_served(url)

    def test_a_health_check_ends_in_time_however_slowly_it_is_answered(
        self, module: Callable[[str], str]
    ) -> None:
        server = module_server(
            module("""
                import socket, sys, time

                port = int(sys.argv[sys.argv.index("--port") + 1])
                listening = socket.create_server(("127.0.0.1", port))
                while True:
                    peer, _ = listening.accept()
                    try:
                        while True:
                            peer.sendall(b"2")
                            time.sleep(0.05)
                    except OSError:
                        pass
            """)
        )
        server.start()
        with pytest.raises(ServerNotHealthyError, match="within 1 s"):
            server.wait_for_ready(1)
        server.stop()

    def test_a_first_connection_that_hangs_is_given_up_for_another(
        self, module: Callable[[str], str]
    ) -> None:
        server = module_server(
            module("""
                import socket, sys

                port = int(sys.argv[sys.argv.index("--port") + 1])
                listening = socket.create_server(("127.0.0.1", port))
                hanging, _ = listening.accept()
                healthy, _ = listening.accept()
                healthy.recv(1000)
                healthy.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
                healthy.recv(1)
            """)
        )
        server.start()
        server.wait_for_ready()
        server.stop()


@pytest.mark.slow
class TestLocalServerThatDoesNotStart:
    def test_one_that_ends_is_reported_with_its_log(self) -> None:
        with pytest.raises(ServerExitedError, match="exit code 2") as caught:
            NotesEnv.from_local(env_vars={"LOG_LEVEL": "loud"})
        assert "server: error: LOG_LEVEL" in str(caught.value)

    def test_one_that_never_serves_is_stopped(
        self, sleeping_env: type[NotesEnv], logs: Path
    ) -> None:
        with pytest.raises(ServerNotHealthyError, match=r"within 0.1 s[^$]*`wait_timeout`"):
            sleeping_env.from_local(wait_timeout=0.1)
        assert not list(logs.iterdir())  # its log is removed last

    def test_no_password_is_shown(self) -> None:
        code = "import sys; sys.exit(f'cannot clone {sys.argv[1]}')"
        address = "git+https://someone:hush@git.example.org/notes"
        server = ServerProcess([sys.executable, "-c", code, address])
        server.start()
        with pytest.raises(ServerExitedError, match=r"cannot clone git\+https://git.example") as no:
            server.wait_for_ready()
        server.stop()
        assert "hush" not in str(no.value)

    def test_the_end_of_its_log_is_shown(self, sleeping_env: type[NotesEnv], logs: Path) -> None:
        server = module_server(str(sleeping_env.server_module))
        server.start()
        _until(lambda: "line 99" in next(logs.iterdir()).read_text(), "it had said all")
        with pytest.raises(ServerNotHealthyError) as caught:
            server.wait_for_ready(0)
        server.stop()
        introduction, log = str(caught.value).split("\nLast lines of its log:\n")
        assert "line" not in introduction
        assert log.splitlines()[:-1] == [f"  line {number}" for number in range(81, 100)]
        assert not _exists(int(log.splitlines()[-1]))

    def test_a_port_that_is_taken_is_named(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port}"):
            NotesEnv.from_local(port=port)

    def test_one_that_refuses_the_session_is_stopped(
        self, module: Callable[[str], str], logs: Path
    ) -> None:
        class HttpOnlyEnv(NotesEnv):
            server_module = module("""
                import http.server, sys

                class Handler(http.server.BaseHTTPRequestHandler):
                    protocol_version = "HTTP/1.1"

                    def do_GET(self):
                        self.send_response(200 if self.path == "/health" else 404)
                        self.send_header("Content-Length", "0")
                        self.end_headers()

                port = int(sys.argv[sys.argv.index("--port") + 1])
                http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
            """)

        with pytest.raises(ConnectFailedError, match="HTTP 404"):
            HttpOnlyEnv.from_local()
        assert not list(logs.iterdir())

    def test_a_client_without_server_module_says_so(self) -> None:
        class NoServer(NotesEnv):
            server_module = None

        with pytest.raises(UsageError, match="NoServer has no `server_module`: set it"):
            NoServer.from_local()

    @pytest.mark.parametrize(
        ("error", "caught_today"),
        [
            (ServerNotHealthyError, TimeoutError),
            (ServerNotHealthyError, asyncio.TimeoutError),
            (DockerUnavailableError, RuntimeError),
            (ServerStartError, EnvClientError),
        ],
    )
    def test_errors_are_what_callers_of_the_stock_client_catch(
        self, error: type[Exception], caught_today: type[Exception]
    ) -> None:
        assert issubclass(error, caught_today)


@pytest.mark.slow
class TestEndOfTheInterpreter:
    @pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "1 / 0"])
    def test_no_server_outlives_it(self, interpreter: Callable[..., Any], end: str) -> None:
        process, url = interpreter(f"""
            from notes_env.client import NotesEnv

            client = NotesEnv.from_local()
            print(client.base_url, flush=True)
            {end}
        """)
        process.communicate(timeout=_PATIENCE_S)
        assert url.startswith("http://127.0.0.1:")
        assert not _is_served(url)

    def test_no_server_outlives_one_that_is_killed(self, interpreter: Callable[..., Any]) -> None:
        process, url = interpreter("""
            from notes_env.client import NotesEnv

            client = NotesEnv.from_local()
            print(client.base_url, flush=True)
            __import__("time").sleep(1000)
        """)
        assert _is_served(url)
        process.kill()
        _until(lambda: not _is_served(url), "the server had ended")

    def test_no_server_outlives_one_that_is_killed_after_a_fork(
        self, interpreter: Callable[..., Any]
    ) -> None:
        process, said = interpreter("""
            import os, time, warnings
            from notes_env.client import NotesEnv

            warnings.simplefilter("ignore")  # of forking while there are threads
            variables = {"SHUTDOWN_GRACE_S": "1"}  # the fork has a copy of the connection as well
            client = NotesEnv.from_local(env_vars=variables)
            fork = os.fork()
            if fork:
                print(client.base_url, fork, flush=True)
            time.sleep(1000)
        """)
        url, fork = said.split()
        process.kill()
        try:
            _until(lambda: not _is_served(url), "the server had ended")
        finally:
            os.kill(int(fork), signal.SIGKILL)

    def test_the_end_of_a_forked_process_does_not_stop_the_server(
        self, interpreter: Callable[..., Any]
    ) -> None:
        process, said = interpreter("""
            import os, sys, warnings
            from notes_env.client import NotesEnv

            warnings.simplefilter("ignore")  # of forking while there are threads
            client = NotesEnv.from_local()
            if os.fork() == 0:
                client.close()
                sys.exit()
            os.wait()
            print(client.reset().observation.text, flush=True)
        """)
        assert said == "Ready for notes"
        process.communicate(timeout=_PATIENCE_S)

    def test_ctrl_c_during_the_start_leaves_no_server(
        self, interpreter: Callable[..., Any], sleeping_env: type[NotesEnv], tmp_path: Path
    ) -> None:
        process, said = interpreter(f"""
            import sys, threading, time
            from pathlib import Path
            from notes_env.client import NotesEnv

            class SleepingEnv(NotesEnv):
                server_module = {sleeping_env.server_module!r}

            def tell():
                for _ in range({_PATIENCE_S / 0.01:.0f}):
                    time.sleep(0.01)
                    logs = list(Path().glob("openenv-server-*.log"))
                    lines = logs[0].read_text().splitlines() if logs else []
                    if lines and "line" not in lines[-1]:
                        break
                print(lines[-1], flush=True)

            sys.path.insert(0, {str(tmp_path)!r})
            threading.Thread(target=tell, daemon=True).start()
            SleepingEnv.from_local()
        """)
        assert _exists(int(said))
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=_PATIENCE_S)
        assert printed.rstrip().endswith("KeyboardInterrupt")
        assert not _exists(int(said))
        assert not list(tmp_path.glob("*.log"))


class TestAwaiting:
    def test_asyncio_run_takes_the_client_for_a_coroutine(self) -> None:
        with NotesEnv.from_local() as client:
            assert asyncio.iscoroutine(client)
            assert asyncio.run(client) is client
            assert _take_note(client) == "hello"

    def test_it_may_be_awaited_again_on_any_loop(self) -> None:
        client = NotesEnv.from_local()

        async def use() -> str:
            assert await client is client
            assert await client is client
            await client.reset()
            return (await client.step(NoteAction(text="hello"))).observation.text

        assert [asyncio.run(use()), asyncio.run(use())] == ["hello", "hello"]
        client.sync().close()
        assert not _is_served(client.base_url)

    def test_awaiting_the_call_gives_the_client(self) -> None:
        async def use() -> str:
            async with await NotesEnv.from_local() as client:
                await client.reset()
                await client.step(NoteAction(text="hello"))
                return client.base_url

        assert not _is_served(asyncio.run(use()))


class StubContainerProvider:
    """The framework's `ContainerProvider` protocol; records its calls."""

    def __init__(self, url: str, failure: Exception | None = None) -> None:
        self.url = url
        self.failure = failure
        self.calls: list[Any] = []

    def start_container(self, image: str, **options: Any) -> str:
        self.calls.append((image, options))
        return self.url

    def wait_for_ready(self, base_url: str, timeout_s: float = 30.0) -> None:
        self.calls.append((base_url, timeout_s))
        if self.failure is not None:
            raise self.failure

    def stop_container(self) -> None:
        self.calls.append("stopped")
        if self.failure is not None:
            raise RuntimeError("it cannot be stopped either")


class StubRuntimeProvider:
    """The framework's `RuntimeProvider` protocol; records its calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls: list[Any] = []

    def start(self, **options: Any) -> str:
        self.calls.append(options)
        return self.url

    def wait_for_ready(self, timeout_s: float = 30.0) -> None:
        self.calls.append(timeout_s)

    def stop(self) -> None:
        self.calls.append("stopped")


class TestProviderOfTheUser:
    def test_a_stub_container_provider_gets_what_is_not_the_clients_own(self, server: Any) -> None:
        provider = StubContainerProvider(server.url)
        options = {"cmd": "serve", "port": 7, "env_vars": {"A": "b"}}
        client = NotesEnv.from_docker_image(
            "image", provider=provider, wait_timeout=8, message_timeout_s=9, **options
        )
        assert _take_note(client) == "hello"
        assert client._message_timeout == 9
        client.close()
        client.close()
        assert provider.calls == [("image", options), (server.url, 8), "stopped"]

    def test_a_stub_runtime_provider_gets_what_is_not_the_clients_own(self, server: Any) -> None:
        provider = StubRuntimeProvider(server.url)
        options = {"port": 7, "env_vars": {"A": "b"}, "workers": 2}
        client = NotesEnv.from_env("me/echo", use_docker=False, provider=provider, **options)
        with client:
            assert _take_note(client) == "hello"
        assert provider.calls == [options, 30.0, "stopped"]

    def test_a_stub_provider_that_fails_is_stopped_and_its_error_raised(self, server: Any) -> None:
        provider = StubContainerProvider(server.url, failure=TimeoutError("not ready"))
        with pytest.raises(TimeoutError, match="not ready"):
            NotesEnv.from_docker_image("image", provider)
        assert provider.calls[-1] == "stopped"

    def test_a_stub_provider_starts_the_image_of_the_space(self, server: Any) -> None:
        provider = StubContainerProvider(server.url)
        NotesEnv.from_env("Org_1/My.Echo_env", provider=provider, tag="v2").close()
        assert provider.calls[0] == ("registry.hf.space/org-1-my-echo-env:v2", {})


class TestUvProject:
    def test_a_folder_that_is_no_project_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(ServerStartError, match=r"no project in .* pyproject\.toml"):
            NotesEnv.from_env("me/echo", use_docker=False, project_path=str(tmp_path))

    def test_uv_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(CommandNotFoundError, match=r"no `uv` command.*pip install uv"):
            NotesEnv.from_env("me/echo", use_docker=False)


class TestWithoutDocker:
    def test_docker_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(CommandNotFoundError, match=r"no `docker` command.*from_local"):
            NotesEnv.from_docker_image("echo-env:latest")

    @pytest.fixture
    def asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
        """What `docker` is asked for: a stand-in shows that and some variables, and fails."""
        command = tmp_path / "docker"
        command.write_text('#!/bin/sh\necho "$@" $API_TOKEN $STEPWIRE_ALLOWED_HOSTS >&2\nexit 1\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

        def ask(**options: Any) -> str:
            with pytest.raises(ServerStartError) as caught:
                NotesEnv.from_docker_image("image", **options)
            return str(caught.value).splitlines()[-1]

        return ask

    def test_variables_are_handed_over_by_their_names(self, asked: Callable[..., str]) -> None:
        said = asked(env_vars={"API_TOKEN": "hush", "PATH": "/of/the/container"})
        assert "--env=API_TOKEN " in said
        assert "--env=PATH=/of/the/container " in said  # that of the command is another
        assert said.endswith(" -- image hush localhost")

    @pytest.mark.parametrize(
        ("options", "allowed"),
        [
            ({}, "--env=STEPWIRE_ALLOWED_HOSTS -- image localhost"),
            ({"env_vars": {"ALLOWED_HOSTS": "a.example"}}, "--env=ALLOWED_HOSTS -- image"),
            ({"docker_args": ["--env=ALLOWED_HOSTS=b"]}, "--env=ALLOWED_HOSTS=b -- image"),
        ],
    )
    def test_a_container_answers_to_this_machines_names_only(
        self, asked: Callable[..., str], options: Any, allowed: str
    ) -> None:
        said = asked(**options)
        assert said.endswith(allowed)
        assert said.count("ALLOWED_HOSTS") == 1

    @pytest.mark.engine  # for the `docker` command; no daemon is asked
    def test_daemon_down(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        with pytest.raises(DockerUnavailableError, match="Start Docker") as caught:
            NotesEnv.from_env("me/echo")
        assert "nobody.sock" in str(caught.value)


def _docker(*arguments: str, **options: Any) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, check=True, timeout=_PATIENCE_S, **options
    )
    return done.stdout.decode().strip()


def _containers(*filters: str) -> set[str]:
    """All containers of the daemon, running or not."""
    return set(_docker("ps", "--all", "--quiet", "--no-trunc", *filters).split())


def _container_at(client: NotesEnv) -> str:
    """The id of the container whose port the client talks to."""
    port = client.base_url.rpartition(":")[2]
    return _docker("ps", "--quiet", "--no-trunc", "--filter", f"publish={port}")


class Image(NamedTuple):
    name: str
    mounts: list[str]

    def start(self, **options: Any) -> NotesEnv:
        return NotesEnv.from_docker_image(
            self.name, docker_args=[*self.mounts, *options.pop("docker_args", [])], **options
        )

    def code(self) -> str:
        """Python code that starts a client of it, in another interpreter."""
        return (
            "from notes_env.client import NotesEnv\n"
            f"client = NotesEnv.from_docker_image({self.name!r}, docker_args={self.mounts!r})\n"
            "print(client.base_url, flush=True)\n"
        )


@pytest.fixture(scope="session")
def image(root: Path) -> Iterator[Image]:
    """An empty image whose containers see this machine's Python, read-only, and serve with it."""
    name = f"openenv-launch-test:{os.getpid()}"
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    command = f'["{sys.executable}", "-m", "notes_env.app", "--host", "0.0.0.0"]'
    changes = [f"--change=CMD {command}", f"--change=ENV PYTHONPATH={root / 'runtime' / 'tests'}"]
    _docker("import", *changes, "-", name, input=empty.getvalue())
    seen = {"/usr", "/bin", "/lib", "/lib64", str(root), sys.prefix, sys.base_prefix}
    mounts = [f"--volume={path}:{path}:ro" for path in sorted(seen) if Path(path).exists()]
    yield Image(name, [*mounts, "--tmpfs=/tmp"])
    _docker("image", "rm", "--force", name)


@pytest.fixture
def no_container_left(image: Image) -> Iterator[None]:
    """Fails a test that leaves containers behind; those of other tests do not count."""
    yield
    _until(lambda: not _containers(f"--filter=ancestor={image.name}"), "no container was left")


@pytest.mark.engine
@pytest.mark.usefixtures("no_container_left")
class TestDockerContainer:
    def test_it_serves_the_client_until_close(self, image: Image) -> None:
        client = image.start()
        assert _take_note(client) == "hello"
        container = _container_at(client)
        assert container
        client.close()
        assert container not in _containers()
        client.close()

    def test_with_and_await_and_sync(self, image: Image) -> None:
        with image.start() as client:
            assert _take_note(client) == "hello"
            assert asyncio.run(client) is client
            assert _take_note(client.sync()) == "hello"

    def test_a_client_dropped_without_close_removes_it(self, image: Image) -> None:
        client = image.start()
        container = _container_at(client)
        del client
        assert container not in _containers()

    def test_two_at_once(self, image: Image) -> None:
        with image.start() as one, image.start() as other:
            assert _container_at(one) != _container_at(other)
            assert [_take_note(one, "1"), _take_note(other, "2")] == ["1", "2"]

    def test_its_port_is_published_on_loopback_only(self, image: Image) -> None:
        with image.start() as client:
            published = _docker("port", _container_at(client))
            assert published == f"8000/tcp -> {client.base_url.removeprefix('http://')}"
            assert published.startswith("8000/tcp -> 127.0.0.1:")

    def test_ports_variables_and_arguments_arrive(
        self, image: Image, listener: socket.socket
    ) -> None:
        port = listener.getsockname()[1]
        listener.close()
        variables = {"PORT": "9000", "MAX_CONCURRENT_ENVS": "1", "WITH_SPACE": "a = b"}
        with image.start(
            port=port, container_port=9000, env_vars=variables, docker_args=["--hostname=echo"]
        ) as client:
            assert client.base_url == f"http://127.0.0.1:{port}"
            container = _container_at(client)
            seen = _docker("exec", container, "sh", "-c", "hostname; echo $WITH_SPACE; id -u")
            assert seen.splitlines()[:2] == ["echo", "a = b"]
            with pytest.raises(CapacityReachedError):
                NotesEnv(client.base_url).sync().reset()

    def test_variables_are_in_the_container_and_in_no_list_of_processes(self, image: Image) -> None:
        token = "token-0123456789"
        variables = {"API_TOKEN": token, "HOME": "/nowhere", "DOCKER_HOST": "tcp://10.0.0.1:1"}
        with image.start(env_vars=variables, token=token) as client:
            assert _take_note(client) == "hello"
            assert token not in " ".join(client._provider._process.args)
            seen = _docker("exec", _container_at(client), "env").splitlines()
            assert {f"{name}={value}" for name, value in variables.items()} <= set(seen)

    @pytest.mark.parametrize("variables", [{}, {"ALLOWED_HOSTS": "notes.example"}])
    def test_it_answers_to_no_other_name(self, image: Image, variables: dict[str, str]) -> None:
        allowed = {"localhost", *variables.values()}
        with image.start(env_vars=variables) as client:
            for name in ("localhost", "notes.example", "rebound.example"):
                answer = requests.get(
                    f"{client.base_url}/state", headers={"Host": name}, timeout=_PATIENCE_S
                )
                assert answer.status_code == (200 if name in allowed else 403), name

    @pytest.mark.parametrize("as_text", [True, False])
    def test_its_command_may_be_given(self, image: Image, as_text: bool) -> None:
        arguments = [sys.executable, "-m", "notes_env.app", "--host", "0.0.0.0"]
        command = shlex.join(arguments) if as_text else arguments
        with image.start(cmd=command) as client:
            assert _take_note(client) == "hello"

    def test_on_the_network_of_the_machine_its_own_port_is_used(
        self, image: Image, listener: socket.socket
    ) -> None:
        port = listener.getsockname()[1]
        listener.close()
        variables = {"PORT": str(port)}
        with image.start(
            container_port=port, env_vars=variables, docker_args=["--network=host"]
        ) as client:
            assert client.base_url == f"http://127.0.0.1:{port}"
            assert _take_note(client) == "hello"

    def test_one_that_ignores_the_signal_to_stop_is_removed(self, image: Image) -> None:
        stubborn = f"{sys.executable} -m notes_env.app --host 0.0.0.0 & trap '' TERM; wait"
        client = image.start(cmd=["sh", "-c", stubborn])
        container = _container_at(client)
        client.close()
        assert container not in _containers()

    def test_the_interpreters_exit_removes_it(
        self, image: Image, interpreter: Callable[..., Any]
    ) -> None:
        process, url = interpreter(image.code() + "print(client.reset())")
        printed, _ = process.communicate(timeout=_PATIENCE_S)
        assert url.startswith("http://127.0.0.1:")
        assert "Ready for notes" in printed

    @pytest.mark.parametrize("delay_s", [0.1, 0.2, 0.3, 0.5, 0.8])
    def test_ctrl_c_during_the_start_removes_it(
        self, image: Image, interpreter: Callable[..., Any], delay_s: float
    ) -> None:
        process, _ = interpreter("print(flush=True)\n" + image.code())
        time.sleep(delay_s)  # whatever is under way then
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=_PATIENCE_S)
        assert process.returncode

    @pytest.mark.engine(alone=True)
    def test_the_documented_line_removes_that_of_a_killed_client(
        self, image: Image, interpreter: Callable[..., Any]
    ) -> None:
        process, url = interpreter(image.code() + "__import__('time').sleep(1000)")
        process.kill()
        process.wait()
        assert _is_served(url)
        subprocess.run(_CLEAN_UP, shell=True, check=True, timeout=_PATIENCE_S)
        assert not _is_served(url)


@pytest.mark.engine
@pytest.mark.usefixtures("no_container_left")
class TestDockerContainerThatDoesNotStart:
    def test_image_missing(self) -> None:
        with pytest.raises(ImageNotFoundError, match=r"no image 'no-such-image:1'.*docker build"):
            NotesEnv.from_docker_image("no-such-image:1")

    @pytest.mark.parametrize("name", ["-v/:/host", "--privileged", "-"])
    def test_an_image_is_no_option(self, name: str) -> None:
        with pytest.raises(InvalidOptionError, match="image must not start with a hyphen"):
            DockerContainer().start_container(name)

    def test_port_taken(self, image: Image, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {port}"):
            image.start(port=port)

    def test_port_taken_where_only_docker_notices(self, image: Image) -> None:
        with image.start() as client:
            port = client.base_url.rpartition(":")[2]
            with pytest.raises(PortTakenError, match="port is already allocated"):
                image.start(docker_args=[f"--publish=127.0.0.1:{port}:1234"])

    def test_it_ends_at_once(self, image: Image) -> None:
        with pytest.raises(ServerExitedError, match="exit code 3") as caught:
            image.start(cmd=["sh", "-c", "echo no licence >&2; exit 3"])
        assert str(caught.value).endswith("  no licence")

    def test_its_command_is_not_there(self, image: Image) -> None:
        with pytest.raises(ServerExitedError, match="exit code 127"):
            image.start(cmd=["no-such-command"])

    def test_it_is_never_healthy(self, image: Image) -> None:
        with pytest.raises(ServerNotHealthyError, match="on all addresses") as caught:
            image.start(cmd=["sh", "-c", "echo waiting; sleep 1000"], wait_timeout=3)
        assert str(caught.value).endswith("  waiting")

    def test_docker_refuses_an_argument(self, image: Image) -> None:
        with pytest.raises(ServerStartError, match="unknown flag: --no-such-option"):
            image.start(docker_args=["--no-such-option"])
