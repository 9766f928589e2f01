# SPDX-License-Identifier: BSD-3-Clause
"""Each environment, asked the same on the stock server and on ours, gives the same answers.

`docs/compatibility.md` has the results as a table, which these tests compare with what they see.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compatibility.asking import Answers
from compatibility.deviations import DEVIATIONS, STOCK_FAULTS, VERSION, Deviation, equalized
from compatibility.scripts import SCRIPTS
from stepwire.testing.servers import Server, reserved_port, wait_until_healthy, without_settings

Ask = Callable[..., Answers]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """`ask("stock", "plain")`: the answers of one server with one environment to its script."""
    folder = tmp_path_factory.mktemp("compatibility")
    with ExitStack() as stack:
        servers = {kind: _start(kind, folder, stack) for kind in ("stock", "stepwire")}

        def ask_one(kind: str, name: str, module: str = "", folder: Path = folder) -> Answers:
            process, log = servers[kind]
            port = stack.enter_context(reserved_port())
            module = module or f"compatibility.environments.{name}"
            assert process.stdin is not None
            process.stdin.write(f"{port} {module} {folder}\n".encode())
            process.stdin.flush()
            server = Server(port, process, log)
            wait_until_healthy(server)
            return [answer for item in SCRIPTS[name] for answer in item.ask(server.url)]

        yield ask_one


def _start(kind: str, folder: Path, stack: ExitStack) -> tuple[subprocess.Popen[bytes], Path]:
    path = os.pathsep.join(each for each in sys.path if each)
    log = folder / f"{kind}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "compatibility.processes"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=without_settings({"PYTHONPATH": path, "SERVED_BY": kind}),
        )
    stack.enter_context(process)  # closes stdin, which ends all servers, and waits
    return process, log


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_environment_gives_the_same_answers(
    ask: Ask, name: str, root: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    stock, ours = _answers(ask, name, run, tmp_path)
    assert [question for question, _ in stock] == [question for question, _ in ours]
    faults = [each for each in STOCK_FAULTS if each.environment == name]
    faults = [each for each in faults if VERSION in each.versions]
    for fault in faults:
        failed = [
            pair for pair in zip(stock, ours, strict=True) if re.search(fault.question, pair[0][0])
        ]
        assert _differences(failed, DEVIATIONS), f"stock no longer fails: {fault.reason}"
    compared = [
        pair
        for pair in zip(stock, ours, strict=True)
        if not any(re.search(each.question, pair[0][0]) for each in faults)
    ]
    assert "\n".join(_differences(compared, DEVIATIONS)) == ""

    needed = [
        each.name
        for each in DEVIATIONS
        if _differences(compared, [other for other in DEVIATIONS if other is not each])
    ]
    row = _table(root)[name]
    assert row[f"stock {VERSION}"] == ("; ".join(each.reason for each in faults) or "answers")
    same = f"same answers ({', '.join(needed)})" if needed else "same answers"
    assert row[f"stepwire with {VERSION}"] == same


def _answers(ask: Ask, name: str, run: Callable[..., Any], folder: Path) -> tuple[Answers, Answers]:
    """The answers of the stock server and of ours."""
    if name != "template":
        return ask("stock", name), ask("stepwire", name)
    done = run("-m", "openenv.cli", "init", "game_env", "-o", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    package = folder / "game_env"
    stock = ask("stock", name, module="server.app", folder=package)
    app = package / "server" / "app.py"
    theirs = "from openenv.core.env_server.http_server import create_app"
    assert theirs in app.read_text()
    app.write_text(app.read_text().replace(theirs, "from stepwire.server import create_app"))
    return stock, ask("stepwire", name, module="server.app", folder=package)


def test_the_table_has_each_environment_and_each_reason(root: Path) -> None:
    table = _table(root)
    assert list(table) == list(SCRIPTS)
    for name, row in table.items():
        assert row["What it is"] == _summary(name)
    page = " ".join((root / "docs" / "compatibility.md").read_text().split())
    for deviation in DEVIATIONS:
        assert f"- {deviation.name}: {deviation.reason}." in page


def _summary(name: str) -> str:
    """The first line of the docstring of the environment's module."""
    if name == "template":
        return "What `openenv init` writes."
    file = Path(__file__).parent / "environments" / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    assert docstring is not None
    return docstring.partition("\n")[0]


def _differences(pairs: Iterable[Any], but: Iterable[Deviation]) -> list[str]:
    """The questions whose answers differ, but for the deviations."""
    plain = partial(equalized, deviations=tuple(but))
    return [
        f"{question}\n  stock: {theirs!r:.600}\n  ours:  {own!r:.600}"
        for (question, theirs), (_, own) in pairs
        if plain(theirs) != plain(own)
    ]


def _table(root: Path) -> dict[str, dict[str, str]]:
    """The rows of the page's table, by the environment's name."""
    lines = (root / "docs" / "compatibility.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    head, _, *body = rows
    return {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in body}
