# SPDX-License-Identifier: BSD-3-Clause
"""The framework's own server with the notes environment. `GET /taken` counts its sessions."""

import os

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
from fastapi import FastAPI
from openenv.core.env_server.http_server import HTTPEnvServer

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation

_places = int(os.environ.get("STOCK_PLACES", "64"))
app = FastAPI()
_server = HTTPEnvServer(NotesEnvironment, NoteAction, NoteObservation, _places)
_server.register_routes(app)


@app.get("/taken")
def taken() -> int:
    return _server.active_sessions
