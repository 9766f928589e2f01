# SPDX-License-Identifier: BSD-3-Clause
"""The server of `served_environments.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def environments(start_shared_server: Callable[..., Any]) -> Any:
    """Serves every application of `served_environments.py` below a path of its own."""
    return start_shared_server(application=Path(__file__).with_name("served_environments.py"))


@pytest.fixture
def connect_to(environments: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    """Opens raw WebSockets to one of these applications: `connect_to("counting")`."""

    def open_one(name: str, query: str = "") -> Any:
        base = environments.ws_url.removesuffix("/ws")
        return connect(f"{base}/{name}/ws{query}")

    return open_one
