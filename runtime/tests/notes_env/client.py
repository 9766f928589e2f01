# SPDX-License-Identifier: BSD-3-Clause
"""The client of the notes environment."""

from notes_env.models import NoteAction, NoteObservation, NotesState
from stepwire.client import SessionClient, SessionPool


class NotesEnv(SessionClient[NoteAction, NoteObservation, NotesState]):
    """One session with a notes server."""

    server_module = "notes_env.app"


class NotesEnvPool(SessionPool[NoteAction, NoteObservation]):
    """`num_envs` sessions with a notes server, stepped together."""

    client_class = NotesEnv
