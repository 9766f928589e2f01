# SPDX-License-Identifier: BSD-3-Clause
"""Real peers for every test: server processes on free ports, raw WebSockets, plain interpreters."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from hypothesis import settings as hypothesis_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from echo_env.server.settings import Settings

pytest_plugins = ["pytester"]  # for the tests of our own plugin

_ROOT = Path(__file__).resolve().parent.parent
_PROTOCOL = "WEBSOCKET_PROTOCOL"
_PATIENCE_S = 120.0  # until a hang is called one; nothing here is timed

# The same examples every time; `pytest --hypothesis-profile thorough` looks further.
hypothesis_settings.register_profile(
    "plain", max_examples=60, derandomize=True, deadline=None, database=None
)
hypothesis_settings.register_profile("thorough", max_examples=500, deadline=None, database=None)
hypothesis_settings.load_profile("plain")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a folder alone whose tests are not asked for: it imports what only they need."""
    marker = {_ROOT / "tests" / "browser": "browser", _ROOT / "tests" / "integrations": "trainer"}
    asked = str(config.getoption("markexpr")).strip()
    unwanted = asked.startswith("not") or marker.get(collection_path, "") not in asked
    return True if collection_path in marker and unwanted else None


@dataclass(frozen=True)
class Server:
    """A server process that answers."""

    port: int
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


class Conversation:
    """A raw WebSocket: frames go out as they are given, and come back parsed."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, frame: Any) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def receive(self) -> Any:
        return json.loads(self.connection.recv(timeout=_PATIENCE_S))

    def ask(self, frame: Any) -> Any:
        """Send one frame, return the next."""
        self.send(frame)
        return self.receive()

    def step(self, message: str) -> Any:
        return self.ask({"type": "step", "data": {"message": message}})

    def close_code(self) -> int | None:
        """Wait until the server closes the connection, without any further frame."""
        with pytest.raises(ConnectionClosed) as caught:
            self.connection.recv(timeout=_PATIENCE_S)
        return None if caught.value.rcvd is None else caught.value.rcvd.code


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that, meanwhile, nobody else is given by chance: tests start servers side by side."""
    with socket.socket() as reservation:
        if sys.platform == "linux":
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port: int = reservation.getsockname()[1]
        if sys.platform != "linux":
            reservation.close()  # elsewhere the server itself could not have it either
        yield port


def _environment_variables(extra: dict[str, str] | None) -> dict[str, str]:
    """This process's variables without those the server reads, then `extra`.

    But for one: with `WEBSOCKET_PROTOCOL` set, all servers of the tests use that.
    """
    own = {name.upper() for name in Settings.model_fields} - {_PROTOCOL}
    return {name: value for name, value in os.environ.items() if name not in own} | (extra or {})


@contextmanager
def _running(
    command: list[str], port: int, folder: Path, env: dict[str, str] | None, cwd: Path | None
) -> Iterator[Server]:
    log_file = folder / f"server-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd or folder,
            env=_environment_variables(env),
        )
    server = Server(port, process, log_file)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(server: Server, prefix: str = "") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(f"{server.url}{prefix}/health", timeout=_PATIENCE_S).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.02)
    pytest.fail(f"the server did not start ({server.process.args}); its log:\n{server.log}")


def _command(port: int, options: tuple[str, ...], application: str | Path | None) -> list[str]:
    if application is None:
        return [sys.executable, "-m", "echo_env.server.app", "--port", str(port), *options]
    fast = "echo_env.server.websocket_protocol:WebSocketProtocol"
    protocol = fast if os.environ.get(_PROTOCOL) == "fast" else "websockets-sansio"
    uvicorn = [sys.executable, "-m", "uvicorn", "--port", str(port), "--ws", protocol]
    if isinstance(application, Path):
        return [*uvicorn, "--app-dir", str(application.parent), f"{application.stem}:app", *options]
    return [*uvicorn, application, *options]


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port at which nobody listens, unless the test has something listen there."""
    with _reserved_port() as port:
        yield port


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return _ROOT


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The echo environment's server with its defaults, shared by all tests."""
    folder = tmp_path_factory.mktemp("server")
    with (
        _reserved_port() as port,
        _running(_command(port, (), None), port, folder, None, None) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def start_shared_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Server]]:
    """As `start_server`, for a fixture that shares its server: stopped when all tests are done."""
    started: list[Server] = []
    with ExitStack() as servers:
        start = _starter(servers, tmp_path_factory.mktemp("shared"))

        def start_one(*options: str, **how: Any) -> Server:
            started.append(start(*options, **how))
            return started[-1]

        yield start_one
        for server in started:
            server.process.terminate()  # at once, before each is waited for


@pytest.fixture(scope="session")
def fast_server(server: Server, start_shared_server: Callable[..., Server]) -> Server:
    """Our server with its own WebSocket protocol, also where all others use uvicorn's."""
    if os.environ.get(_PROTOCOL, "fast") == "fast":
        return server
    return start_shared_server(env={_PROTOCOL: "fast"})


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts further servers: `start_server("--workers", "2", env={…}, application=…)`.

    `application` is an import string or a Python file with an `app`, served by uvicorn instead of
    the echo environment; `command` starts something else, the port in place of `{port}`; `port`
    is one that a stopped server had.
    """
    with ExitStack() as servers:
        yield _starter(servers, tmp_path)


def _starter(servers: ExitStack, folder: Path) -> Callable[..., Server]:
    def start(
        *options: str,
        env: dict[str, str] | None = None,
        application: str | Path | None = None,
        command: list[str] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
    ) -> Server:
        port = port or servers.enter_context(_reserved_port())
        if command is None:
            arguments = _command(port, options, application)
        else:
            arguments = [part.replace("{port}", str(port)) for part in (*command, *options)]
        return servers.enter_context(_running(arguments, port, folder, env, cwd))

    return start


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def tls_url(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our application on uvicorn, with a certificate; any page may embed its pages."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    command = [sys.executable, "-m", "uvicorn", "echo_env.server.app:app"]
    command += ["--ssl-keyfile", "key.pem", "--ssl-certfile", "certificate.pem"]
    variables = _environment_variables({"FRAME_ANCESTORS": "*"})
    with (
        _reserved_port() as port,
        subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        ) as server,
    ):
        assert server.stderr is not None
        for line in server.stderr:
            if "Uvicorn running" in line:
                break
        drain = threading.Thread(target=server.stderr.read)
        drain.start()
        yield f"https://127.0.0.1:{port}"
        server.terminate()
        drain.join()


@pytest.fixture(scope="session")
def stock_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `openenv init echo` of the installed framework writes, for up to 64 sessions."""
    framework = importlib.util.find_spec("openenv")
    assert framework is not None
    assert framework.submodule_search_locations is not None
    template = Path(framework.submodule_search_locations[0], "cli", "templates", "openenv_env")
    folder = tmp_path_factory.mktemp("stock") / "echo"
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*folder.rglob("*.py")]:
        text = file.read_text()
        text = text.replace("max_concurrent_envs=1,", "max_concurrent_envs=64,")
        text = text.replace("__ENV_CLASS_NAME__", "Echo").replace("__ENV_TITLE_NAME__", "Echo")
        file.write_text(text.replace("__ENV_NAME__", "echo"))
        file.rename(file.with_name(file.name.replace("__ENV_NAME__", "echo")))
    return folder


@pytest.fixture(scope="session")
def stock_server(start_shared_server: Callable[..., Server], stock_template: Path) -> Server:
    """The server of the stock template."""
    options = ("--app-dir", str(stock_template))
    return start_shared_server(*options, application="server.app:app", cwd=stock_template)


@pytest.fixture(scope="session")
def one_session_server(start_shared_server: Callable[..., Server]) -> Server:
    """Our server with room for one session at a time; who uses it closes what it opened."""
    return start_shared_server(env={"MAX_CONCURRENT_ENVS": "1"})


@pytest.fixture(params=["ours", "stock"])
def either_server(request: pytest.FixtureRequest) -> Server:
    """Our server, then the framework's: what holds for both."""
    found: Server = request.getfixturevalue("server" if request.param == "ours" else "stock_server")
    return found


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Conversation]]:
    """Opens raw WebSockets, to the shared server unless an address is given."""
    with ExitStack() as connections:

        def open_one(ws_url: str | None = None, **options: Any) -> Conversation:
            connection = connect_websocket(
                ws_url or server.ws_url,
                **{
                    "compression": None,
                    "max_size": None,
                    "proxy": None,
                    "ping_interval": None,
                    **options,
                },
            )
            return Conversation(connections.enter_context(connection))

        yield open_one


@pytest.fixture
def conversation(connect: Callable[..., Conversation]) -> Conversation:
    """One session of the shared server."""
    return connect()


@pytest.fixture(scope="session")
def run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command to its end: `run("-c", code)` with this interpreter, in an empty folder."""
    folder = tmp_path_factory.mktemp("run")

    def run_one(
        *arguments: str | Path,
        python: str | Path = sys.executable,
        cwd: Path = folder,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=_environment_variables(env),
            timeout=_PATIENCE_S,
            check=False,
        )

    return run_one


@pytest.fixture(scope="session")
def execute(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Runs lines as a program in which every warning is an error; returns what it printed."""

    def run_lines(code: str, *arguments: str) -> str:
        done = run("-X", "dev", "-W", "error", "-c", code, *arguments)
        # In development mode asyncio also reports each callback that a busy machine made slow.
        complaints = re.sub(r"(?m)^Executing .* took [\d.]+ seconds\n", "", done.stderr)
        assert (done.returncode, complaints) == (0, ""), done.stderr
        return done.stdout

    return run_lines


@pytest.fixture(scope="session")
def python_without_echo_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has everything this one has, except this package.

    It does not measure coverage either: what it runs are copies.
    """
    folder = tmp_path_factory.mktemp("interpreter")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            unwanted = "echo_env" in entry.name or "coverage" in entry.name
            if not unwanted and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's own files, as a clone under another name would be."""
    copy = tmp_path_factory.mktemp("clones") / "my-clone"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests")
    shutil.copytree(root, copy, ignore=unwanted)
    return copy


@pytest.fixture(scope="session")
def committed(root: Path) -> list[Path]:
    """Every file of the tree that git would not ignore, relative to the root."""
    ignored = [".git", *(root / ".gitignore").read_text().replace("/\n", "\n").splitlines()]
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _matches(name, ignored)]
        kept = (Path(folder, name) for name in names if not _matches(name, ignored))
        files += [path.relative_to(root) for path in kept]
    return files


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@pytest.fixture
def behind_nginx(root: Path, tmp_path: Path) -> Iterator[Callable[[Server], str]]:
    """Puts a server behind nginx as `docs/operating.md` does: `behind_nginx(server)`, its address.

    For tests with the marker `operating` or `browser`: plain ones have no nginx.
    """
    page = (root / "docs" / "operating.md").read_text()
    documented = page.split("```nginx\n")[1].split("```")[0]
    with ExitStack() as running:

        def serve(server: Server) -> str:
            port = running.enter_context(_reserved_port())
            folder = tmp_path / f"nginx-{port}"
            folder.mkdir()
            (folder / "echo-env.conf").write_text(
                documented.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
                    "server 127.0.0.1:8000;", f"server 127.0.0.1:{server.port};"
                )
            )
            (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
            command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
            # Debian has it where only root's PATH leads.
            path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
            process = subprocess.Popen(command, env=os.environ | {"PATH": path})
            running.callback(process.wait)
            running.callback(process.terminate)
            proxied = Server(port, process, folder / "error.log")
            _wait_until_healthy(proxied, "/echo")
            return f"{proxied.url}/echo"

        yield serve


_NGINX = """
daemon off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include echo-env.conf;
}}
"""


@pytest.fixture
def push(root: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """`openenv push` of this checkout to a stand-in for the Hub: `push("--private")`.

    Returns the folders that were uploaded.
    """
    kept = tmp_path / "uploads"
    kept.mkdir()

    def push_to_the_stand_in(*options: str) -> list[Path]:
        done = subprocess.run(
            [sys.executable, root / "tests" / "stand_in_hub.py", "push", *options],
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"UPLOADS": str(kept)},
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [path for path in kept.iterdir() if path.is_dir()]

    return push_to_the_stand_in


@pytest.fixture(scope="session")
def source(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone to build from, which a test may change."""
    return Path(shutil.copytree(checkout, tmp_path_factory.mktemp("source") / "echo"))


@pytest.fixture(scope="session")
def image(source: Path) -> str:
    """Our image, for tests with the marker `engine`."""
    command = ["docker", "build", "--tag", "echo-env:test", "--file", "server/Dockerfile", "."]
    subprocess.run(command, cwd=source, timeout=300, check=True)
    return "echo-env:test"
