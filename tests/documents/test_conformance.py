# SPDX-License-Identifier: BSD-3-Clause
"""`docs/conformance.md`: a server is checked, an environment is tested."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from document import ADDRESS, Document
from stepwire.testing import EnvironmentConformance

page = Document("docs/conformance.md")


@page.tests("Check a server, 1")
def test_a_server_is_checked(server: Any, run_shell: Callable[..., str]) -> None:
    printed = run_shell(page.code("Check a server, 1").replace(ADDRESS, server.url))
    assert re.search(r"^\d+ passed$", printed, re.MULTILINE)


def test_its_options_exist(run: Any) -> None:
    help_text = run("-m", "stepwire.conformance", "--help").stdout
    for option in set(re.findall(r"`(--[\w-]+)`", page.section("Check a server"))):
        assert option in help_text


@page.tests("Test an environment, 1")
def test_an_environment_is_tested(run: Any, tmp_path: Path) -> None:
    (tmp_path / "test_environment.py").write_text(page.code("Test an environment, 1"))
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    tests = sum(name.startswith("test_") for name in dir(EnvironmentConformance))
    assert (done.returncode, f"{tests} passed" in done.stdout) == (0, True), done.stdout


test_blocks = page.test_the_other_blocks()
