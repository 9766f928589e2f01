# SPDX-License-Identifier: BSD-3-Clause
"""`python -m echo_env.demo`: what a newcomer sees when all is well, and when it is not."""

from typing import Any

import pytest

from echo_env.demo import SURFACES


@pytest.mark.parametrize(
    "columns", ["80", *(pytest.param(width, marks=pytest.mark.slow) for width in ("60", "200"))]
)
def test_an_episode_over_every_surface(run: Any, columns: str) -> None:
    done = run("-W", "error", "-m", "echo_env.demo", env={"COLUMNS": columns})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("✓") == len(SURFACES)
    assert done.stdout.count("'Final message', reward 1.3") == 3
    assert "64 replies in " in done.stdout
    assert "'Final message', length 13" in done.stdout
    assert "What to try next" in done.stdout


def test_a_surface_that_fails_is_named(run: Any) -> None:
    # The demo's own client takes the only place.
    done = run("-m", "echo_env.demo", env={"MAX_CONCURRENT_ENVS": "1"})
    assert done.returncode == 1
    assert "Does not work: Client, Client, async, Pool of 64" in done.stdout
    assert "CapacityReachedError" in done.stdout
    assert "What to try next" not in done.stdout


def test_the_package_says_what_can_be_run(run: Any) -> None:
    done = run("-m", "echo_env")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m echo_env.server.app" in done.stdout
    assert "python -m echo_env.demo" in done.stdout
