# SPDX-License-Identifier: BSD-3-Clause
"""A server of the OpenEnv protocol for any environment."""

from collections.abc import Sequence

from stepwire.server.application import create_app
from stepwire.server.settings import Settings

__all__ = ["Settings", "create_app", "serve"]


def serve(application: str, arguments: Sequence[str] | None = None) -> None:
    """Serve `application`, an import string such as `my_env.server.app:app`, until told to stop.

    `arguments` are those of the command line unless given. A bad value or a port that is taken ends
    the process with one line on stderr and exit code 2.
    """
    # Imported here: an application is also served by others, and imports without uvicorn.
    from importlib import metadata

    from stepwire.server.uvicorn_host.command_line import run_server

    package = application.partition(".")[0]
    distributions = metadata.packages_distributions().get(package, [package])
    run_server(application, distributions[0], arguments)
