# SPDX-License-Identifier: BSD-3-Clause
"""The notes environment as an application, and the command that serves it."""

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app, serve

app = create_app(NotesEnvironment, NoteAction, NoteObservation, env_name="notes_env")


def main() -> None:
    """The `server` command."""
    serve("notes_env.app:app")


if __name__ == "__main__":
    main()
