# SPDX-License-Identifier: BSD-3-Clause
"""Stamps: whether a reply is the one to the request, for scenarios with `stamp: true`."""

import hashlib
import json
from typing import Any

from openenv.core.client_types import StepResult
from openenv.core.env_server.types import Action


def make_stamp(seed: int | None, episode_id: str | None, step: int, action: Action | None) -> str:
    """The first 32 hexadecimal digits of the SHA-256 digest of `[seed, episode_id, step, action]`.

    The list is compact JSON in UTF-8 with sorted keys. `action` is without its `metadata`, and null
    for the observation of a reset, which is step 0.
    """
    fields = None if action is None else action.model_dump(mode="json", exclude={"metadata"})
    text = json.dumps(
        [seed, episode_id, step, fields], ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def verify_stamp(
    result: StepResult[Any],
    *,
    seed: int | None,
    episode_id: str | None,
    step: int,
    action: Action | None,
) -> bool:
    """Whether `result` answers this step of this episode, in a scenario with `stamp`.

    False for a reply of another session, a cached reply and one that is off by one step. `action`
    is `None` for the result of `reset()`, which is step 0. Raises `ValueError` for a result without
    a stamp.
    """
    stamp = (getattr(result.observation, "metadata", None) or {}).get("stamp")
    if stamp is None:
        raise ValueError(
            'There is no metadata["stamp"]: reset(scenario={"stamp": True}) asks for it'
        )
    return bool(stamp == make_stamp(seed, episode_id, step, action))
