# SPDX-License-Identifier: BSD-3-Clause
"""`server_fixture`: a server that all tests of a run share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwire.testing.servers import Server, reserved_port, running_server, serving_command


def server_fixture(
    application: str | Path, *options: str, env: dict[str, str] | None = None
) -> Any:
    """A fixture of session scope that serves `application`: assign it in a test module or conftest.

    server = server_fixture("my_env.server.app", env={"MAX_CONCURRENT_ENVS": "1"})

    `application` is a module that `python -m` serves, or, for uvicorn, an import string or a Python
    file that has an `app`. `options` are for its command line, `env` are environment variables.
    The server can import whatever the tests can import. Tests get a `Server`. With pytest-xdist,
    each worker process has a server of its own.
    """

    @pytest.fixture(scope="session")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """The environment's server, shared by all tests."""
        with reserved_port() as port:
            command = serving_command(application, port, options)
            folder = tmp_path_factory.mktemp("server")
            # The tests may run in a project that is not installed.
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            variables = {"PYTHONPATH": path, **(env or {})}
            with running_server(command, folder, port=port, env=variables) as running:
                yield running

    return server
