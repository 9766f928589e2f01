# SPDX-License-Identifier: BSD-3-Clause
"""Fixture of both test suites: what removes the containers of all clients waits for other tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def engine_turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """`@pytest.mark.engine(alone=True)`: no other test that needs the engine runs meanwhile."""
    engine = request.node.get_closest_marker("engine")
    if engine is None:
        yield
        return
    from fcntl import LOCK_EX, LOCK_SH, flock  # the systems that these tests run on have it

    with open(__file__) as file:  # any file that all processes of this run have
        flock(file, LOCK_EX if engine.kwargs.get("alone") else LOCK_SH)
        yield
