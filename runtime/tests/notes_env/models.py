# SPDX-License-Identifier: BSD-3-Clause
"""What goes into the notes environment and what comes out of it."""

from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field


class NoteAction(Action):
    """A note to take."""

    text: str = Field(description="The note", examples=["Buy milk"])
    weight: float = Field(
        default=0.1, ge=0, le=1, description="Reward for each character of the note"
    )


class NoteObservation(Observation):
    """The note as it was taken."""

    text: str = Field(default="", description="The note, unchanged")
    length: int = Field(default=0, ge=0, description="Length of the note in Unicode code points")


class NotesState(State):
    """The episode so far."""

    characters: int = Field(default=0, description="Length of all notes of the episode")
