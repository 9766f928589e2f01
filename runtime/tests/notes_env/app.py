# SPDX-License-Identifier: BSD-3-Clause
"""The notes environment as an application, and the command that serves it."""

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app
from stepwire.server.scenarios import ScenarioSession, describe_scenarios
from stepwire.server.uvicorn_host.command_line import run_server, stop_on_bad_settings

with stop_on_bad_settings():
    app = create_app(
        NotesEnvironment,
        NoteAction,
        NoteObservation,
        env_name="notes_env",
        session_cls=ScenarioSession,
    )
    describe_scenarios(app)


def main() -> None:
    run_server("notes_env.app:app", distribution="notes-env")


if __name__ == "__main__":
    main()
