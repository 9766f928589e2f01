# SPDX-License-Identifier: BSD-3-Clause
"""`docs/conformance.md`: a server is checked, an environment is tested."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from document import ADDRESS, Document
from stepwire.testing import EnvironmentConformance

page = Document("docs/conformance.md")


@pytest.mark.slow  # see `runtime/tests/conformance/test_command.py`
@page.tests("Check a server, 1")
def test_a_server_is_checked(server: Any, run_shell: Callable[..., str]) -> None:
    printed = run_shell(page.code("Check a server, 1").replace(ADDRESS, server.url))
    assert re.search(r"^\d+ passed$", printed, re.MULTILINE)


def test_its_options_exist(run: Any) -> None:
    help_text = run("-m", "stepwire.conformance", "--help").stdout
    for option in set(re.findall(r"`(--[\w-]+)`", page.section("Check a server"))):
        assert option in help_text


@page.tests("Test an environment, 1")
def test_an_environment_is_tested() -> None:
    namespace: dict[str, Any] = {}
    exec(page.code("Test an environment, 1"), namespace)
    tests = namespace["TestEchoEnvironment"]()
    assert isinstance(tests, EnvironmentConformance)
    for name in filter(lambda name: name.startswith("test_"), dir(tests)):
        getattr(tests, name)()


test_blocks = page.test_the_other_blocks()
