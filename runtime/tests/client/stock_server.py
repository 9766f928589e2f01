# SPDX-License-Identifier: BSD-3-Clause
"""The framework's own server with the notes environment."""

import os

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
from openenv.core.env_server.http_server import create_app

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation

_places = int(os.environ.get("STOCK_PLACES", "64"))
app = create_app(NotesEnvironment, NoteAction, NoteObservation, max_concurrent_envs=_places)
