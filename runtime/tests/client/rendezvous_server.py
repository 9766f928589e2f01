# SPDX-License-Identifier: BSD-3-Clause
"""A notes environment whose steps wait for each other, so that tests of overlap need no timing."""

import asyncio
from collections import Counter, defaultdict
from typing import Any

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server.application import create_app

_meetings: Counter[str] = Counter()
_met: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
_held: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
_released: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
_journal: dict[str, list[str]] = defaultdict(list)


class Rendezvous(NotesEnvironment):
    """Takes a note when what its text asks for has happened.

    `meet 8 NAME`    eight steps wait with the same text
    `hold NAME`      another session has sent `release NAME`
    `held NAME`      another session waits in `hold NAME`
    `journal ID`     nothing; returns the texts of episode ID, in order
    `fail TEXT`      nothing; raises `ValueError(TEXT)`
    """

    async def step_async(self, action: NoteAction, **kwargs: Any) -> NoteObservation:
        observation = self.step(action)
        verb, _, name = action.text.partition(" ")
        if verb == "journal":
            return NoteObservation(text=" ".join(_journal[name]))
        _journal[self._episode["episode_id"]].append(action.text)
        match verb:
            case "meet":
                _meetings[name] += 1
                if _meetings[name] == int(name.split()[0]):
                    _met[name].set()
                await _met[name].wait()
            case "hold":
                _held[name].set()
                await _released[name].wait()
            case "held":
                await _held[name].wait()
            case "release":
                _released[name].set()
            case "fail":
                raise ValueError(name)
        return observation


app = create_app(Rendezvous, NoteAction, NoteObservation)
