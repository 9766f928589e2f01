# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment as an application: the only file of the server that knows it is echo.

uv run server                  # or `python -m echo_env.server.app`, with the same options
uvicorn server.app:app         # from the repository's root, with uvicorn's options
"""

if not __package__:
    import _checkout  # type: ignore[import-not-found] # noqa: F401

from echo_env.models import EchoAction, EchoObservation
from echo_env.server.echo_env_environment import EchoEnvironment
from stepwire.server.application import create_app
from stepwire.server.scenarios import ScenarioSession, describe_scenarios
from stepwire.server.uvicorn_host.command_line import run_server, stop_on_bad_settings

with stop_on_bad_settings():
    app = create_app(
        EchoEnvironment,
        EchoAction,
        EchoObservation,
        env_name="echo_env",
        session_cls=ScenarioSession,
    )
    describe_scenarios(app)


def main() -> None:
    """The `server` command."""
    run_server("echo_env.server.app:app", distribution="openenv-echo-env")


if __name__ == "__main__":
    main()
