# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment as an application.

uv run server                  # or `python -m echo_env.server.app`, with the same options
uvicorn server.app:app         # from the package's folder, with uvicorn's options
"""

# Echo only: as a script, it finds the package in a clone that is not installed.
if not __package__:
    import _checkout  # type: ignore[import-not-found] # noqa: F401

from echo_env.models import EchoAction, EchoObservation
from echo_env.server.echo_env_environment import EchoEnvironment
from stepwire.server import create_app, serve

app = create_app(
    EchoEnvironment,
    EchoAction,
    EchoObservation,
    env_name="echo_env",
)


def main() -> None:
    """The `server` command."""
    serve("echo_env.server.app:app")


if __name__ == "__main__":
    main()
