# SPDX-License-Identifier: BSD-3-Clause
"""`python -m echo_env.demo`: what a newcomer sees when all is well, and when it is not."""

from typing import Any

from echo_env import demo

_SURFACES = ["Client", "Client, async", "Pool of 64", "HTTP", "MCP"]


def test_an_episode_over_every_surface(run: Any) -> None:
    done = run("-W", "error", "-m", "echo_env.demo", "--pause", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("✓") == len(_SURFACES)
    assert done.stdout.count("'Final message', reward 1.3") == 3
    assert "64 replies in " in done.stdout
    assert "'Final message', length 13" in done.stdout
    assert "What to try next" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_does_not_work_is_named(run: Any) -> None:
    # The demo's own client takes the only place.
    done = run("-m", "echo_env.demo", "--pause", "0", env={"MAX_CONCURRENT_ENVS": "1"})
    assert done.returncode == 1
    assert "Does not work: Client, Client, async, Pool of 64" in done.stdout
    assert "CapacityReachedError" in done.stdout
    assert "What to try next" not in done.stdout


def test_every_surface_has_a_row() -> None:
    assert [row.name for row in demo._rows()] == _SURFACES
