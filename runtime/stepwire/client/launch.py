# SPDX-License-Identifier: BSD-3-Clause
"""Servers that a client starts: a Python module, a `uv` project, a Docker container.

Each is a child process whose output goes to a file; for a container, that process is `docker run`.
`stop`, garbage collection and the exit of the interpreter stop it. A client that is killed leaves
only containers behind. This removes them all:

docker rm -f $(docker ps -aq --filter label=openenv.client)

`ServerProcess` and `DockerContainer` have the methods of the framework's providers, so a client
uses them like a provider that it was given.
"""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from stepwire.client.addresses import without_credentials
from stepwire.client.dialing import get_status
from stepwire.client.errors import (
    CommandNotFoundError,
    DockerUnavailableError,
    ImageNotFoundError,
    InvalidOptionError,
    PortTakenError,
    ServerExitedError,
    ServerNotHealthyError,
    ServerStartError,
)

_LOOPBACK = "127.0.0.1"
_ALL_ADDRESSES = ("0.0.0.0", "::")
_LABEL = "openenv.client"
_LOG_LINES, _LOG_BYTES = 20, 16384
_POLL_S = 0.05
# For one health check: a connection to a container that has just started may hang, while the next
# one does not.
_ANSWER_TIMEOUT_S = 5.0
_STOP_GRACE_S = 1.5  # between SIGTERM and SIGKILL
_DOCKER_TIMEOUT_S = 20.0  # for commands that take the daemon no time
# Variables of the `docker` command itself; those of a container must not replace them.
_READ_BY_DOCKER = {"HOME", "PATH", "DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT"}
_READ_BY_DOCKER |= {"DOCKER_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR"}
_DOCKER_OWN_FAILURE = 125  # exit code of `docker run` when it could not start the container


_pipes: "weakref.WeakSet[IO[bytes]]" = weakref.WeakSet()


def _close_pipes() -> None:
    """Close the copies in a forked process, which would keep the pipes open."""
    for pipe in _pipes:
        pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_pipes)


class ManagedProcess:
    """A child process that serves HTTP: its start, its log, its health and its end."""

    def __init__(self, what: str) -> None:
        """`what` names the process in errors."""
        self._what = what
        self._host, self._port = _LOOPBACK, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = Path()
        self._end: Callable[[], Any] = lambda: None

    @property
    def _address(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def _launch(
        self, command: Sequence[str], env_vars: Mapping[str, str], then: Sequence[str] = ()
    ) -> None:
        """Start `command`. `then` is a command that removes what it leaves behind."""
        if self._process is not None:
            raise ServerStartError(
                f"{self._what} was started before. Make a new provider for another start."
            )
        descriptor, log_file = tempfile.mkstemp(prefix="openenv-server-", suffix=".log")
        self._log_file = Path(log_file)
        with os.fdopen(descriptor, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # ends with this process: `_owned_server` watches it
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **{name: str(value) for name, value in env_vars.items()}},
                start_new_session=True,  # Ctrl-C in the terminal must reach only this process
            )
        assert self._process.stdin is not None
        _pipes.add(self._process.stdin)
        self._end = weakref.finalize(
            self, _end_process, self._process, self._log_file, then, os.getpid()
        )

    def _wait_until_healthy(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not self._is_healthy(max(deadline - time.monotonic(), _POLL_S)):
            self._require_running()
            if time.monotonic() >= deadline:
                raise ServerNotHealthyError(
                    f"{self._what} runs, but {self._address}/health did not answer 200 "
                    f"within {timeout_s:g} s. Does it listen on that port, and in a container "
                    "on all addresses? If it only needs longer, set `wait_timeout`."
                    f"{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _is_healthy(self, timeout_s: float) -> bool:
        # No exception may leave here: its traceback would keep a client from being collected.
        deadline = time.monotonic() + min(timeout_s, _ANSWER_TIMEOUT_S)
        return get_status(self._host, self._port, "/health", deadline) == "200"

    def _require_running(self) -> None:
        exit_code = None if self._process is None else self._process.poll()
        if exit_code is not None:
            raise self._explain_exit(exit_code)

    def _explain_exit(self, exit_code: int) -> ServerStartError:
        return ServerExitedError(
            f"{self._what} ended with exit code {exit_code} before it was healthy. Its log says "
            f"why.{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        with self._log_file.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
            text = without_credentials(log.read().decode(errors="replace"))
        lines = text.splitlines()[-_LOG_LINES:]
        return "\n  ".join(["\nLast lines of its log:", *(lines or ["(none)"])])


class ServerProcess(ManagedProcess):
    """A command that takes `--host` and `--port` and serves an environment there."""

    def __init__(self, command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> None:
        super().__init__(f"`{without_credentials(shlex.join(command))}`")
        self._command = command
        self._env_vars = env_vars or {}
        self._reservation = ExitStack()

    def start(
        self,
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        workers: int | None = None,
        host: str = _LOOPBACK,
        reload: bool = False,
    ) -> str:
        """Start the server and return its address. Without `port`, takes a free one.

        It listens on `host`; "0.0.0.0" and "::" stand for all addresses. With `reload`, it starts
        again when its code changes.
        """
        if host not in _ALL_ADDRESSES:
            self._host = host
        self._port = self._reservation.enter_context(_reserve_port(port)).getsockname()[1]
        if sys.platform != "linux":
            self._reservation.close()  # elsewhere it would keep the server from listening, too
        options = ["--host", host, "--port", str(self._port)]
        if workers is not None:
            options += ["--workers", str(workers)]
        if reload:
            options.append("--reload")
        self._launch([*self._command, *options], {**self._env_vars, **(env_vars or {})})
        return self._address

    def wait_for_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server is healthy, for up to `timeout_s`. Raises `ServerStartError`s."""
        self._wait_until_healthy(timeout_s)
        self._reservation.close()

    def stop(self) -> None:
        """Stop the server. May be repeated."""
        self._reservation.close()
        self._end()


def module_server(module: str) -> ServerProcess:
    """A module to run with this interpreter and this process's `sys.path`."""
    command = [sys.executable, "-m", "stepwire._owned_server", module]
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    return ServerProcess(command, path)


def uv_server(project: str, app: str | None = None) -> ServerProcess:
    """The `server` script of a project: a folder, or a repository given as `git+https://…`.

    With an `app`, such as "server.app:app", uvicorn serves that from the folder. `uv` builds an
    environment for it, which may take minutes the first time.
    """
    uv = _find_command("uv", "Install it with `pip install uv`, or use Docker.")
    if project.startswith("git+") and app is None:
        return ServerProcess([uv, "tool", "run", f"--from={project}", "server"])
    # Without a project, `uv run` would start the first `server` command in PATH.
    if not Path(project, "pyproject.toml").is_file():
        raise ServerStartError(f"There is no project in {project!r}: it has no pyproject.toml.")
    serving = ["server"]
    if app is not None:
        serving = ["uvicorn", f"--app-dir={project}", _no_option("app", app)]
    return ServerProcess([uv, "run", "--isolated", "--no-dev", f"--project={project}", *serving])


def _no_option(name: str, value: str) -> str:
    """`value`, unless the command that it is an argument of would take it for an option."""
    if value.startswith("-"):
        raise InvalidOptionError(f"{name} must not start with a hyphen, unlike {value!r}.")
    return value


class DockerContainer(
    ManagedProcess
):  # pragma: no cover - coverage does not measure the tests marked `engine`
    """A container that the `docker` command runs. Its port is published on loopback only."""

    def __init__(self) -> None:
        super().__init__("The container")
        advice = "Install Docker, or use `from_local()`, which needs only Python."
        self._docker = _find_command("docker", advice)
        self._image = ""

    def start_container(
        self,
        image: str,
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        *,
        container_port: int = 8000,
        docker_args: Sequence[str] = (),
        cmd: str | Sequence[str] = (),
    ) -> str:
        """Start `image`, pulling it if necessary, and return the server's address.

        `port` is the one on this machine; without it, Docker chooses one. `docker_args` are further
        options of `docker run`. `cmd` replaces the image's command.

        The server answers to `localhost` and to IP addresses only, unless a variable names other
        hosts: its port is published on this machine, where pages of other sites could reach it.
        """
        self._what, self._image = f"The container of {image!r}", image
        name = f"openenv-{secrets.token_hex(6)}"
        if port is not None:
            _reserve_port(port).close()
        run = [self._docker, "run", "--rm", f"--name={name}", f"--label={_LABEL}={os.getpid()}"]
        run += [f"--publish={_LOOPBACK}:{port or ''}:{container_port}"]
        variables = {key: str(value) for key, value in (env_vars or {}).items()}
        if not any("ALLOWED_HOSTS" in text for text in (*variables, *docker_args)):
            variables["STEPWIRE_ALLOWED_HOSTS"] = "localhost"
        # By their names only: anyone on this machine can read a command's arguments.
        handed_over = {key: variables[key] for key in variables if key not in _READ_BY_DOCKER}
        run += [
            f"--env={key}" if key in handed_over else f"--env={key}={value}"
            for key, value in variables.items()
        ]
        run += [*docker_args, "--", _no_option("image", image)]
        run += shlex.split(cmd) if isinstance(cmd, str) else cmd
        self._launch(run, handed_over, then=[self._docker, "rm", "--force", "--volumes", name])
        while not (published := self._published_port(name, container_port)):
            self._require_running()
            time.sleep(_POLL_S)
        self._port = published
        return f"http://{_LOOPBACK}:{published}"

    def wait_for_ready(self, base_url: str, timeout_s: float = 60.0) -> None:
        """Wait until the server is healthy, for up to `timeout_s`. Raises `ServerStartError`s."""
        self._wait_until_healthy(timeout_s)

    def stop_container(self) -> None:
        """Stop and remove the container. May be repeated."""
        self._end()

    def _published_port(self, name: str, container_port: int) -> int | None:
        """The port on this machine; `None` until the container runs."""
        found = _ask([self._docker, "container", "inspect", name])
        container = json.loads(found.stdout)[0] if found.returncode == 0 else None
        if container is None or not container["State"]["Running"]:
            return None
        bindings = container["NetworkSettings"]["Ports"].get(f"{container_port}/tcp")
        # None with `--network=host`, where the container's ports are this machine's.
        return int(bindings[0]["HostPort"]) if bindings else container_port

    def _explain_exit(self, exit_code: int) -> ServerStartError:
        if exit_code != _DOCKER_OWN_FAILURE:
            return super()._explain_exit(exit_code)
        log = self._log_tail()
        if _ask([self._docker, "version"]).returncode:
            return DockerUnavailableError(
                "Docker is installed, but its daemon does not answer. Start Docker (`docker "
                "version` shows whether it runs), check DOCKER_HOST and your permissions, or use "
                f"`from_local()`, which needs only Python.{log}"
            )
        if _ask([self._docker, "image", "inspect", "--", self._image]).returncode:
            return ImageNotFoundError(
                f"There is no image {self._image!r} here, and it could not be pulled. Build it "
                f"with `docker build -t {self._image} …`, check its name, or log in to its "
                f"registry.{log}"
            )
        if "port is already allocated" in log or "address already in use" in log:
            return PortTakenError(f"Docker could not publish the port: it is taken.{log}")
        return ServerStartError(f"Docker could not start {self._image!r}.{log}")


def _find_command(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CommandNotFoundError(f"There is no `{name}` command on PATH. {advice}")
    return found


def _ask(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a short `docker` command to its end; Ctrl-C in the terminal does not reach it."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOCKER_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DockerUnavailableError(
            f"Docker's daemon did not answer within {_DOCKER_TIMEOUT_S:g} s. If the machine is not "
            "overloaded, restart Docker, or use `from_local()`, which needs only Python."
        ) from error


def _reserve_port(port: int | None) -> socket.socket:
    """Bind to the port, or to a free one, without listening.

    While the socket is open, the system gives that port to no process that asks for any free one.
    A process that asks for this very port can still listen there.
    """
    reservation = socket.socket()
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((_LOOPBACK, port or 0))
    except (TypeError, OverflowError):
        reservation.close()
        raise InvalidOptionError(f"`port` must be a number up to 65535, not {port!r}.") from None
    except OSError as error:
        reservation.close()
        raise PortTakenError(
            f"Port {port} cannot be used: {error.strerror}. Stop the process that listens there, "
            "choose another port, or leave `port` out to get a free one."
        ) from error
    return reservation


def _end_process(
    process: "subprocess.Popen[bytes]", log_file: Path, then: Sequence[str], owner: int
) -> None:
    if os.getpid() != owner:  # a fork: the process is not its child
        return
    try:
        _signal_all(process, "SIGTERM")
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_GRACE_S)
    finally:  # also after a second Ctrl-C
        _signal_all(process, "SIGKILL")
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if then:
            with suppress(OSError, DockerUnavailableError):
                _ask(then)
        log_file.unlink(missing_ok=True)


def _signal_all(process: "subprocess.Popen[bytes]", name: str) -> None:
    """Send a signal to the process and to all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, getattr(signal, name))
