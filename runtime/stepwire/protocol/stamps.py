# SPDX-License-Identifier: BSD-3-Clause
"""Whether a reply is the one to the request that was made, for scenarios with `stamp: true`."""

import hashlib
import json
from typing import Any

from openenv.core.client_types import StepResult
from openenv.core.env_server.types import Action


def verify_stamp(
    result: StepResult[Any],
    *,
    seed: int | None,
    episode_id: str | None,
    step: int,
    action: Action | None,
) -> bool:
    """Whether `result` answers just this step of just this episode of a scenario with `stamp`.

    False for another session's reply, a cached one, one that is off by one. `action` is `None` for
    the result of `reset()`, which is step 0. Raises `ValueError` for a result without a stamp.
    """
    stamp = (getattr(result.observation, "metadata", None) or {}).get("stamp")
    if stamp is None:
        raise ValueError(
            'There is no metadata["stamp"]: reset(scenario={"stamp": True}) asks for it'
        )
    fields = None if action is None else action.model_dump(mode="json", exclude={"metadata"})
    told = [seed, episode_id, step, fields]
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return bool(stamp == hashlib.sha256(text.encode()).hexdigest()[:32])
