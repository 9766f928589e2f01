# SPDX-License-Identifier: BSD-3-Clause
"""Each environment, asked the same on the stock server and on ours, gives the same answers."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from compatibility.asking import Answers
from compatibility.deviations import (
    DEVIATIONS,
    IS_0_10,
    SINCE_0_10,
    STOCK_FAULTS,
    Deviation,
    equalized,
)
from compatibility.scripts import SCRIPTS
from stepwire.testing.servers import Server, reserved_port, wait_until_healthy, without_settings

Ask = Callable[[str, str], Answers]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """`ask("stock", "plain")`: the answers of one server with one environment to its script."""
    folder = tmp_path_factory.mktemp("compatibility")
    with ExitStack() as stack:
        servers = {kind: _start(kind, folder, stack) for kind in ("stock", "stepwire")}

        def ask_one(kind: str, name: str) -> Answers:
            process, log = servers[kind]
            port = stack.enter_context(reserved_port())
            assert process.stdin is not None
            process.stdin.write(f"compatibility.environments.{name} {port}\n".encode())
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


NOT_YET = {
    "plain": "tools/list without tools",
    "hooks": "start-up hooks",
    "production": "production mode",
}


def _environments() -> Iterator[Any]:
    for name in SCRIPTS:
        marks = []
        if NOT_YET.get(name):
            marks.append(pytest.mark.xfail(reason=NOT_YET[name], strict=True))
        if not IS_0_10 and name in SINCE_0_10:
            marks.append(pytest.mark.skip(SINCE_0_10[name]))
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [*_environments()])
def test_an_environment_gives_the_same_answers(ask: Ask, name: str) -> None:
    stock, ours = ask("stock", name), ask("stepwire", name)
    assert [question for question, _ in stock] == [question for question, _ in ours]
    differences = _differences(name, stock, ours, DEVIATIONS)
    assert "\n".join(differences) == ""


def _differences(name: str, stock: Answers, ours: Answers, but: tuple[Deviation, ...]) -> list[str]:
    """The questions whose answers differ, but for the deviations."""
    faults = [part for environment, part in STOCK_FAULTS if environment == name]
    return [
        f"{question}\n  stock: {theirs!r:.600}\n  ours:  {own!r:.600}"
        for (question, theirs), (_, own) in zip(stock, ours, strict=True)
        if equalized(theirs, but) != equalized(own, but)
        and not any(part in question for part in faults)
    ]
