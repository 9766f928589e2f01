# SPDX-License-Identifier: BSD-3-Clause
"""The servers that the conformance kit is run against."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parent
sys.path.append(str(_FOLDER))  # the tests import the modules beside them


@pytest.fixture(scope="session")
def broken_servers(start_shared_server: Callable[..., Any]) -> Any:
    """Our server below `/sound`, and with one defect for each check below the check's id."""
    return start_shared_server(application=_FOLDER / "broken_servers.py")


@pytest.fixture
def stock_server_that_fails(start_server: Callable[..., Any], stock_template: Path) -> Any:
    """The framework's server, with an action and a path at which the environment fails."""
    return start_server(
        application=_FOLDER / "stock_servers.py",
        cwd=stock_template,
        env={"PYTHONPATH": str(stock_template)},
    )
