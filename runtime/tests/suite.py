# SPDX-License-Identifier: BSD-3-Clause
"""`suite_fixtures`: the fixtures of a test suite whose tests mostly use one server."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from stepwire.testing.servers import (
    Server,
    reserved_port,
    running_server,
    serving_command,
    without_settings,
)

_PROTOCOL = "WEBSOCKET_PROTOCOL"


def suite_fixtures(module: str) -> dict[str, Any]:
    """The fixtures of a suite whose tests mostly use the server of `module`.

    A fixture of session scope has one value for all suites of a run, even where a conftest
    overrides the fixtures that it uses. So each suite gets fixtures of its own:
    `globals().update(suite_fixtures("my_env.server.app"))`.
    """

    @pytest.fixture(scope="session")
    def start_shared_server(
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Callable[..., Server]]:
        """Like `start_server`, for fixtures of session scope: the servers stop after all tests."""
        started: list[Server] = []
        with ExitStack() as servers:
            start = starter(servers, tmp_path_factory.mktemp("shared"), module)

            def start_one(*options: str, **how: Any) -> Server:
                started.append(start(*options, **how))
                return started[-1]

            yield start_one
            for server in started:
                server.process.terminate()  # all of them, before the stack waits for each

    @pytest.fixture(scope="session")
    def server(start_shared_server: Callable[..., Server]) -> Server:
        """The suite's server, shared by all tests."""
        return start_shared_server()

    @pytest.fixture
    def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
        """Starts servers that stop after the test: `start_server("--workers", "2", env={…})`.

        `application` is an import string or a Python file with an `app`, for uvicorn. `command` is
        any other command, with `{port}` for the port. `port` reuses the port of a stopped server.
        """
        with ExitStack() as servers:
            yield starter(servers, tmp_path, module)

    @pytest.fixture(scope="session")
    def fast_server(server: Server, start_shared_server: Callable[..., Server]) -> Server:
        """Our server with its own WebSocket protocol, even when all others use uvicorn's."""
        if os.environ.get(_PROTOCOL, "fast") == "fast":
            return server
        return start_shared_server(env={_PROTOCOL: "fast"})

    @pytest.fixture(scope="session")
    def one_session_server(start_shared_server: Callable[..., Server]) -> Server:
        """Our server with room for one session. Tests end the sessions that they open."""
        return start_shared_server(env={"MAX_CONCURRENT_ENVS": "1"})

    @pytest.fixture(scope="session")
    def tls_url(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        """Our application on uvicorn with TLS; pages of other sites may embed its pages."""
        folder = tmp_path_factory.mktemp("tls")
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
        command = [sys.executable, "-m", "uvicorn", f"{module}:app"]
        command += ["--ssl-keyfile", "key.pem", "--ssl-certfile", "certificate.pem"]
        variables = without_settings({"FRAME_ANCESTORS": "*"})
        with (
            reserved_port() as port,
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

    return {name: value for name, value in locals().items() if name != "module"}


def starter(servers: ExitStack, folder: Path, module: str) -> Callable[..., Server]:
    """A function like the fixture `start_server`, whose servers stop with `servers`."""

    def start(
        *options: str,
        env: dict[str, str] | None = None,
        application: str | Path | None = None,
        command: list[str] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
    ) -> Server:
        port = port or servers.enter_context(reserved_port())
        if command is None:
            arguments = serving_command(application or module, port, options)
        else:
            arguments = [part.replace("{port}", str(port)) for part in (*command, *options)]
        return servers.enter_context(running_server(arguments, folder, port=port, env=env, cwd=cwd))

    return start
