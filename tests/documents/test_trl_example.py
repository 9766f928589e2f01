# SPDX-License-Identifier: BSD-3-Clause
"""`examples/trl_grpo.py`, with TRL, in an environment made by the lines of `examples/README.md`.

What is asserted of a run is the same everywhere: `_learned`. A run without learning, and one with
the client of the stock template, have to fail it.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import venv
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from document import ROOT, Document

pytestmark = pytest.mark.trainer

_STEPS = 30
_SEEDS = (1, 2, 3)
_PATIENCE_S = 900.0
_FRAMEWORK_0_10 = "openenv==0.10.0"


@pytest.fixture(scope="module")
def python(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter for which the installation's line of the README was run."""
    folder = tmp_path_factory.mktemp("trl")
    venv.create(folder, symlinks=True, with_pip=True)
    install = Document("examples/README.md").code("TRL, 1").splitlines()[0]
    assert install.startswith("pip install ./runtime . ")
    _run(folder / "bin" / "python", "-m", *install.split(), cwd=checkout)
    return folder / "bin" / "python"


def _run(*command: Any, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | variables,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class Run:
    """One run of the example, and what it left."""

    def __init__(self, python: Path, folder: Path, *options: str, **variables: str) -> None:
        folder.mkdir()
        example = ROOT / "examples" / "trl_grpo.py"
        command = (python, example, "--tiny", "--steps", str(_STEPS), *options)
        self.printed = _run(*command, cwd=folder, **variables)
        self.plot = folder / "trl_grpo" / "rewards.png"
        self.log: list[dict[str, float]] = json.loads(
            (folder / "trl_grpo/log.json").read_text("utf-8")
        )
        self.rewards = [step["reward"] for step in self.log]

    @property
    def weights_moved(self) -> bool:
        found = re.search(r"^Embeddings moved by up to (\S+)$", self.printed, re.MULTILINE)
        assert found
        return float(found[1]) > 0

    @property
    def failures(self) -> float:
        return max(step["tools/failure_frequency"] for step in self.log)


def _learned(run: Run) -> bool:
    """More than by chance: of ten steps' mean, the standard error is about 0.15."""
    return statistics.mean(run.rewards[-10:]) > statistics.mean(run.rewards[:10]) + 0.5


@pytest.fixture(scope="module")
def runs(
    python: Path, server: Any, stock_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, "Future[Run]"]:
    """All runs on the framework that the package depends on, two at a time."""
    folder = tmp_path_factory.mktemp("runs")
    stock = folder / "template"
    shutil.copytree(stock_template, stock / "echo_env")
    at_server = ("--env-url", server.url)
    options: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        **{f"seed {seed}": (("--seed", str(seed), *at_server), {}) for seed in _SEEDS},
        "frozen": (("--seed", "1", "--learning-rate", "0", "--steps", "20", *at_server), {}),
        "async": (("--use-async", "--steps", "3"), {}),  # on a server of its own
        "stock": (("--steps", "3", *at_server), {"PYTHONPATH": str(stock)}),
    }
    with ThreadPoolExecutor(2) as executor:
        return {
            name: executor.submit(Run, python, folder / name.replace(" ", "-"), *given, **variables)
            for name, (given, variables) in options.items()
        }


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_model_learns_to_send_longer_messages(runs: dict[str, Any], seed: int) -> None:
    run = runs[f"seed {seed}"].result()
    assert len(run.rewards) == _STEPS
    assert min(run.rewards) > 0  # which only the server gives
    assert run.failures == 0
    assert run.weights_moved
    assert _learned(run)
    assert run.plot.read_bytes().startswith(b"\x89PNG")


def test_without_learning_the_same_run_fails_that_test(runs: dict[str, Any]) -> None:
    run = runs["frozen"].result()
    assert min(run.rewards) > 0
    assert run.failures == 0
    assert not run.weights_moved
    assert not _learned(run)


def test_an_async_tool_on_a_server_that_the_example_starts(runs: dict[str, Any]) -> None:
    run = runs["async"].result()
    assert min(run.rewards) > 0
    assert run.failures == 0
    assert run.weights_moved


def test_with_the_stock_client_the_same_script_ends_well_and_learns_nothing(
    runs: dict[str, Any],
) -> None:
    run = runs["stock"].result()
    assert run.rewards == [0] * 3
    assert run.failures == 1
    ours = runs["seed 1"].result()
    print("Rewards of three steps; stock client:", run.rewards, "this one:", ours.rewards[:3])


def test_on_openenv_0_10(runs: dict[str, Any], python: Path, server: Any, tmp_path: Path) -> None:
    assert all(run.done() for run in runs.values())  # with the framework that is replaced here
    pip = (python, "-m", "pip")
    _run(*pip, "uninstall", "--quiet", "--yes", "openenv-core", cwd=tmp_path)
    _run(*pip, "install", "--quiet", _FRAMEWORK_0_10, cwd=tmp_path)
    with ThreadPoolExecutor(2) as executor:
        started = [
            executor.submit(Run, python, tmp_path / name, *options, "--steps", "3")
            for name, options in {
                "sync": ("--env-url", server.url),
                "async": ("--env-url", server.url, "--use-async"),
            }.items()
        ]
    for future in started:
        run = future.result()
        assert min(run.rewards) > 0
        assert run.failures == 0
        assert run.weights_moved
