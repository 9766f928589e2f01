# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the runtime's tests: the server of the notes environment."""

import os
from pathlib import Path

import pytest

from suite import suite_fixtures

pytest_plugins = ["pytester", "peers"]

_TESTS = Path(__file__).parent
# Servers that tests start find the environments of the tests as the tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(_TESTS), os.environ.get("PYTHONPATH")))
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a folder alone whose tests are not asked for: it imports what only they need."""
    marker = {_TESTS / "browser": "browser", _TESTS / "integrations": "trainer"}
    asked = str(config.getoption("markexpr")).strip()
    unwanted = asked.startswith("not") or marker.get(collection_path, "") not in asked
    return True if collection_path in marker and unwanted else None


globals().update(suite_fixtures("notes_env.app"))
