# SPDX-License-Identifier: BSD-3-Clause
"""`docs/coming-from-stock.md`: installing with `openenv` 0.10, and a session needs no thread."""

import re
import subprocess
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import requests

from document import Document
from stepwire.server import create_app

page = Document("docs/coming-from-stock.md")

_LIST_FRAMEWORKS = """
from importlib.metadata import distributions
for name, version in sorted((d.name, d.version) for d in distributions()):
    if name in ("openenv", "openenv-core"):
        print(name, version)
"""


@pytest.mark.slow
@page.tests("With `openenv` 0.10, 1")
def test_wheels_without_dependencies_serve_on_openenv_0_10(
    run_shell: Callable[..., str], serve_block: Callable[..., str], clone: Path, free_port: int
) -> None:
    run_shell(page.code("With `openenv` 0.10, 1"))
    assert "`../openenv-venv/bin/server` serves" in page.text
    python = clone.parent / "openenv-venv" / "bin" / "python"
    listing = [python, "-c", _LIST_FRAMEWORKS]
    printed = subprocess.run(listing, capture_output=True, text=True, check=True, cwd="/").stdout
    assert re.fullmatch(r"openenv 0\.1\d\.\d+\n", printed)
    url = serve_block("../openenv-venv/bin/server", free_port, PORT=str(free_port))
    answer = requests.post(f"{url}/step", json={"action": {"message": "Hi"}}, timeout=60).json()
    assert answer["observation"]["metadata"]["step"] == 1


def test_a_session_of_an_environment_that_returns_at_once_needs_no_thread(
    start_server: Any, connect: Any
) -> None:
    assert "none with `BLOCKING = False`" in page.text
    server = start_server()
    threads = Path(f"/proc/{server.process.pid}/task")
    if not threads.exists():
        pytest.skip("counting another process's threads needs /proc")
    sessions = [connect(server.ws_url) for _ in range(2)]
    before = len(list(threads.iterdir()))
    sessions += [connect(server.ws_url) for _ in range(50)]
    for session in sessions:
        assert session.step(message="Hi")["data"]["observation"]["message_length"] == 2
    assert len(list(threads.iterdir())) == before


def test_create_app_takes_the_arguments_of_the_framework_in_the_same_order() -> None:
    from openenv.core.env_server import http_server

    assert "the arguments of `openenv` 0.10, in the same order" in page.text
    stock = list(signature(http_server.create_app).parameters)
    assert list(signature(create_app).parameters)[: len(stock)] == stock


test_blocks = page.test_the_other_blocks()
