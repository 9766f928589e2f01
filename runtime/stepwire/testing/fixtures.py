# SPDX-License-Identifier: BSD-3-Clause
"""`server_fixture`: a server of the environment that all tests of a run share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepwire.testing.servers import Server, reserved_port, running_server, serving_command


def server_fixture(
    application: str | Path, *options: str, env: dict[str, str] | None = None
) -> Any:
    """A session-wide fixture that serves `application`; assign it to a name in a test module.

    server = server_fixture("my_env.server.app")

    `application` is a module that `python -m` serves, or an import string or a Python file with an
    `app` for uvicorn; `options` are those of its command line, `env` further environment variables.
    Tests get a `Server`, with `url`, `ws_url`, `log` and `process`.
    """

    @pytest.fixture(scope="session")
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """A server of the environment, shared by all tests."""
        with reserved_port() as port:
            command = serving_command(application, port, options)
            folder = tmp_path_factory.mktemp("server")
            with running_server(command, folder, port=port, env=env) as running:
                yield running

    return server
