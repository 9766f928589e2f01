# SPDX-License-Identifier: BSD-3-Clause
"""The kit's verdicts on environments with the manners of public ones, and on broken twins.

Each is served by our server and by the stock one. The verdicts are those of a careful person: no
MUST fails for what the environment may do, and no message names a cause that is not established.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shapes import SHAPES

from stepwire.conformance.actions import example_actions
from stepwire.conformance.contract import Level
from stepwire.conformance.registry import CHECKS
from stepwire.conformance.runner import Result, Verdict, is_incomplete, run, selected
from stepwire.conformance.server_under_test import Options, ServerUnderTest

pytestmark = pytest.mark.slow

_FOLDER = Path(__file__).parent
# The server would load FastMCP for this one, which takes seconds.
_WITHOUT = {"mcp-handshake"}

# Checks that a stock server fails by itself, whatever the environment is.
_BY_SERVER = {
    check.id for check in CHECKS.values() if any(cell != "✓" for cell in check.row.stock.values())
} - {"ws-episode-id"}
# The rows that an environment breaks itself, whatever serves it.
_NO_ID = {"ws-episode-id"}
_AFTER_RESET = {"ws-step-first"}
_WARNED = {
    "repl": _AFTER_RESET,
    "walker": _NO_ID | _AFTER_RESET,
    "carla": _NO_ID | _AFTER_RESET,
    "wildfire": _NO_ID | _AFTER_RESET,
    "snake": _NO_ID | _AFTER_RESET,
    "chess": _NO_ID,
    "clock": {"ws-seed"},
    "bandit": _NO_ID,
    "tools": set[str](),
    "obliging": _AFTER_RESET,
    "shared-repl": set[str](),
    "shared-chess": _NO_ID,
    "double-snake": _NO_ID | _AFTER_RESET,
    "untyped-walker": _NO_ID | _AFTER_RESET,
    "uncounted-fire": _NO_ID | _AFTER_RESET,
    "leaky-clock": {"ws-seed"},
}
_FAILED = {
    "chess": {"ws-step-count"},
    "shared-repl": {"ws-isolation", "http-isolation"},
    "shared-chess": {"ws-isolation", "ws-step-count", "http-isolation"},
    "double-snake": {"ws-step-count"},
    "untyped-walker": {"schema-observation"},
    "uncounted-fire": {"ws-step-count"},
    "leaky-clock": {"ws-isolation", "ws-step-count", "http-isolation"},
}
# Over HTTP each request gets a new environment, which these do not want to step or to show.
_STEP_AFTER_RESET = {"http-step"}
_STATE_AFTER_RESET = _STEP_AFTER_RESET | {"http-state"}
_NOT_APPLICABLE = {
    "repl": _STATE_AFTER_RESET,
    "walker": _STEP_AFTER_RESET,
    "carla": _STEP_AFTER_RESET,
    "wildfire": _STATE_AFTER_RESET,
    "snake": _STEP_AFTER_RESET,
    "obliging": _STATE_AFTER_RESET,
    "double-snake": _STEP_AFTER_RESET,
    "untyped-walker": _STEP_AFTER_RESET,
    "uncounted-fire": _STATE_AFTER_RESET,
    "shared-repl": set[str](),
}
_ACTIONS: dict[str, Any] = {"chess": ({"move": "e2e4"}, {"move": "d2d4"})}
_NEEDS_ACTIONS = {"picky": ({"code": "open"}, {"code": "close"})}


@pytest.fixture(
    scope="module", params=["ours", pytest.param("stock", marks=pytest.mark.slow)], name="shapes"
)
def serve_shapes(request: Any, start_shared_server: Callable[..., Any]) -> str:
    """The address below which all shapes are served, by our server or by the stock one."""
    env = {"SERVED_BY": request.param}
    return str(start_shared_server(application=_FOLDER / "shapes.py", env=env).url)


def _results(url: str, **options: Any) -> list[Result]:
    server = ServerUnderTest(url, Options(timeout_s=60, capacity=4, **options))
    return run(server, [each for each in selected(server.options) if each.id not in _WITHOUT])


def _ids(results: list[Result], *verdicts: Verdict) -> set[str]:
    return {result.check.id for result in results if result.verdict in verdicts}


def _own(results: list[Result], verdict: Verdict) -> set[str]:
    """The checks with this verdict that no stock server fails by itself."""
    return {
        result.check.id
        for result in results
        if result.verdict is verdict and result.check.id not in _BY_SERVER
    }


def test_each_shape_has_its_verdicts() -> None:
    assert set(SHAPES) == {*_WARNED, *_NEEDS_ACTIONS, "stuck-carla"}


@pytest.mark.parametrize("name", _WARNED)
def test_the_verdicts_are_those_of_a_careful_person(shapes: str, name: str) -> None:
    results = _results(f"{shapes}/{name}", actions=_ACTIONS.get(name, ()))
    assert _ids(results, Verdict.FAILED) == _FAILED.get(name, set())
    assert _own(results, Verdict.WARNED) == _WARNED[name]
    assert _own(results, Verdict.NOT_APPLICABLE) == _NOT_APPLICABLE.get(name, set())
    assert not _ids(results, Verdict.NOT_CHECKED)
    # An error of the environment is not taken for a fault that a check is about.
    misled = {result.check.id for result in results if "EXECUTION_ERROR" in result.message}
    assert misled - _BY_SERVER <= {"ws-step-first"}


def test_actions_that_only_the_author_knows_are_asked_for(shapes: str) -> None:
    for name in (*_NEEDS_ACTIONS, "stuck-carla"):
        results = _results(f"{shapes}/{name}")
        assert not _ids(results, Verdict.FAILED)
        assert "ws-step" in _ids(results, Verdict.NOT_CHECKED)
        assert is_incomplete(results)
        (reason,) = {each.message for each in results if each.verdict is Verdict.NOT_CHECKED}
        assert "actions that were made from /schema. Either it wants others, or its steps" in reason
        assert "Likely cause" not in reason
    for name, actions in _NEEDS_ACTIONS.items():
        results = _results(f"{shapes}/{name}", actions=actions)
        assert not _ids(results, Verdict.FAILED, Verdict.NOT_CHECKED)


def test_a_step_that_fails_with_the_authors_action_is_a_failure(shapes: str) -> None:
    results = _results(f"{shapes}/stuck-carla", actions=({"action_type": "observe"},))
    (step,) = [result for result in results if result.check.id == "ws-step"]
    assert step.verdict is Verdict.FAILED
    assert "EXECUTION_ERROR" in step.message
    assert "Likely cause" not in step.message
    assert _ids(results, Verdict.FAILED) == {"ws-step", "http-step"}


def test_moves_that_are_made_up_prove_nothing(shapes: str) -> None:
    results = _results(f"{shapes}/chess")
    (count,) = [result for result in results if result.check.id == "ws-step-count"]
    # The constructor, and each reset, may have played a move.
    if count.verdict is Verdict.NOT_CHECKED:
        assert "changed neither the observation nor the step count" in count.message
    else:
        assert count.verdict is Verdict.FAILED
        assert "got (1, " in count.message or "got (0, " in count.message
    others = [each for each in results if each is not count and each.check.level is Level.MUST]
    assert _ids(others, Verdict.FAILED) == set()


def test_a_server_with_room_for_one_session_is_checked_like_others(shapes: str) -> None:
    server = ServerUnderTest(f"{shapes}/alone", Options(timeout_s=60, capacity=1))
    checks = [each for each in selected(server.options) if each.id not in _WITHOUT]
    results = run(server, checks)
    assert not _ids(results, Verdict.FAILED, Verdict.NOT_CHECKED)


def test_actions_of_a_fixed_length_are_found(shapes: str) -> None:
    server = ServerUnderTest(f"{shapes}/walker", Options(timeout_s=60))
    assert {len(server.action(number)["values"]) for number in range(3)} == {6}
    assert example_actions(server.schemas()["action"]) == [{"values": []}] * 3
