# SPDX-License-Identifier: BSD-3-Clause
"""What `uv run` makes in a clone is understood by editors, and follows the files of the clone.

Needs npm, for Pyright.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(
    root: Path,
    committed: list[Path],
    uv: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A clone under another name, after its first `uv run`."""
    folder = tmp_path_factory.mktemp("clones") / "any-name"
    for path in committed:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    if (root / "uv.lock").exists():  # as `uv run` wrote it: saves asking the package index again
        shutil.copy(root / "uv.lock", folder)
    uv("run", "--quiet", "true", cwd=folder, env=_IN_THE_CLONE)
    return folder


_IN_THE_CLONE = {"UV_PROJECT_ENVIRONMENT": ".venv", "VIRTUAL_ENV": "", "PYTHONPATH": ""}


def _python(clone: Path, code: str) -> str:
    done = subprocess.run(
        [os.environ.get("UV", "uv"), "run", "--quiet", "python", "-c", code],
        cwd=clone,
        env=os.environ | _IN_THE_CLONE,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout or done.stderr


def test_pyright_resolves_both_packages(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run(["npm", "install", "--silent", "pyright"], cwd=folder, check=True)
    done = subprocess.run(
        [folder / "node_modules" / ".bin" / "pyright", "--outputjson"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 100
    unresolved = {
        found["message"]
        for found in report["generalDiagnostics"]
        if found.get("rule") in {"reportMissingImports", "reportMissingModuleSource"}
    }
    own = ("echo_env", "stepwire", "notes_env")
    assert not {message for message in unresolved if any(name in message for name in own)}


def test_mypy_resolves_both_packages(clone: Path, uv: Callable[..., str]) -> None:
    command = ("run", "--quiet", "--with", "mypy", "mypy", "-p", "echo_env")
    checked = uv(*command, cwd=clone, env=_IN_THE_CLONE)
    assert checked.startswith("Success")


def test_a_new_module_is_there_and_a_deleted_one_is_not(clone: Path) -> None:
    names = ("extra", "server.extra")
    code = "import importlib, sys; print(importlib.import_module(f'echo_env.{name}').NAME)"
    for name in names:
        (clone / f"{name.replace('.', '/')}.py").write_text(f"NAME = {name!r}\n")
    for name in names:
        assert _python(clone, f"name = {name!r}; {code}") == f"{name}\n"
    for name in names:
        (clone / f"{name.replace('.', '/')}.py").unlink()
    for name in names:
        assert "ModuleNotFoundError" in _python(clone, f"name = {name!r}; {code}")


def test_the_folder_of_links_comes_back(clone: Path) -> None:
    shutil.rmtree(clone / "__pycache__" / "build")
    assert _python(clone, "import echo_env; print(echo_env.__name__)") == "echo_env\n"


def test_the_clone_holds_no_links_that_openenv_validate_refuses(clone: Path) -> None:
    # That of 0.10 looks into every folder but these.
    passed_over = {".git", ".venv", "__pycache__"}
    links = [path for path in clone.rglob("*") if path.is_symlink()]
    assert links
    assert not [path for path in links if not passed_over & {*path.relative_to(clone).parts}]
