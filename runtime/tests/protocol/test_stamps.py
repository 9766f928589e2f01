# SPDX-License-Identifier: BSD-3-Clause
"""`verify_stamp`: one assertion that catches crossed, cached and shifted replies."""

from typing import Any

import pytest

from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.protocol.stamps import verify_stamp

_HI = NoteAction(text="Hi")
_RIGHT: dict[str, Any] = {"seed": 7, "episode_id": "e", "step": 1, "action": _HI}


@pytest.fixture(scope="module")
def stamped(server: Any) -> Any:
    with NotesEnv(server.url) as env:
        env.reset(seed=7, episode_id="e", scenario={"stamp": True})
        return env.step(_HI)


def test_it_holds_for_the_reply_to_this_very_step(stamped: Any) -> None:
    assert verify_stamp(stamped, **_RIGHT)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("seed", 8),
        ("seed", None),
        ("episode_id", "another"),
        ("step", 2),
        ("action", NoteAction(text="Ho")),
        ("action", None),
    ],
)
def test_it_fails_for_any_other(stamped: Any, what: str, wrong: Any) -> None:
    assert not verify_stamp(stamped, **{**_RIGHT, what: wrong})


def test_the_first_observation_is_step_0_without_an_action(server: Any) -> None:
    with NotesEnv(server.url) as env:
        first = env.reset(seed=7, episode_id="é😀", scenario={"stamp": True})
    assert verify_stamp(first, seed=7, episode_id="é😀", step=0, action=None)


def test_a_result_without_a_stamp_says_how_to_get_one(server: Any) -> None:
    with NotesEnv(server.url) as env:
        result = env.step(_HI)
    with pytest.raises(ValueError, match=r'reset\(scenario={"stamp": True}\) asks for it'):
        verify_stamp(result, **_RIGHT)
