# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the runtime's tests: the server of the notes environment."""

import os
from pathlib import Path

from suite import suite_fixtures

pytest_plugins = ["pytester", "engine_turns", "peers", "proxies"]

_TESTS = Path(__file__).parent
# Servers that tests start find the environments of the tests as the tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(_TESTS), os.environ.get("PYTHONPATH")))
)


globals().update(suite_fixtures("notes_env.app"))
