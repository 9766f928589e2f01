# SPDX-License-Identifier: BSD-3-Clause
"""The client of the notes environment."""

from typing import Any

from openenv.core.client_types import StepResult

from notes_env.models import NoteAction, NoteObservation
from stepwire.client.results import AwaitableState
from stepwire.client.session_client import SessionClient
from stepwire.client.session_pool import SessionPool


class NotesEnv(SessionClient[NoteAction, NoteObservation, AwaitableState]):
    """One session with a notes server."""

    server_module = "notes_env.app"

    def _step_payload(self, action: NoteAction) -> dict[str, Any]:
        payload = action.model_dump(mode="json", exclude={"metadata"})
        if action.metadata:
            payload["metadata"] = action.metadata
        return payload

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[NoteObservation]:
        observation = NoteObservation(
            **payload["observation"], reward=payload["reward"], done=payload["done"]
        )
        return StepResult(observation=observation, reward=payload["reward"], done=payload["done"])

    def _parse_state(self, payload: dict[str, Any]) -> AwaitableState:
        return AwaitableState(**payload)


class NotesEnvPool(SessionPool[NoteAction, NoteObservation]):
    """`num_envs` sessions with a notes server, stepped together."""

    def __init__(self, base_url: str, num_envs: int, **client_options: Any) -> None:
        super().__init__(NotesEnv, base_url, num_envs, **client_options)
