# SPDX-License-Identifier: BSD-3-Clause
"""`stepwire.new` with this repository as its template: what it writes for echo, and the runtime.

`runtime/tests/new` tests names, refusals and marks; `tests/installing/test_new_environments.py`
runs what is written.
"""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stepwire
from stepwire.new import create_environment
from stepwire.new.stepwire_files import packed_wheel
from stepwire.new.template import FRAME, OWN_FILES, template_files

_FRAME = {name.format(package="echo_env") for name in FRAME}
_WHEEL = f"wheels/stepwire-{stepwire.__version__}-py3-none-any.whl"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_environment("echo", tmp_path_factory.mktemp("new"))


def test_echo_is_this_repository_byte_for_byte(echo: Path, root: Path) -> None:
    """All but the frame of a package, which in the repository is that of two."""
    written = _files(echo)
    assert set(written) == {*template_files(), _WHEEL}
    for name in set(written) - _FRAME - {_WHEEL}:
        assert written[name] == (root / name).read_bytes(), name


def test_each_module_of_echo_is_in_the_template(root: Path, committed: list[Path]) -> None:
    """So that a new one is either of every environment or of echo alone."""
    modules = {
        path.as_posix()
        for path in committed
        if path.suffix == ".py" and (len(path.parts) == 1 or path.parts[0] == "server")
    }
    assert modules - {"setup.py"} == {name for name in template_files() if _is_module(name)}


def _is_module(name: str) -> bool:
    return name.endswith(".py") and not name.startswith(("tests/", "validation/"))


def test_the_parts_that_are_marked_as_echos_are_only_in_files_of_every_environment(
    root: Path,
) -> None:
    for name, file in template_files().items():
        marked = re.search(r"# echo only", file.read_text("utf-8"), re.IGNORECASE)
        assert not marked or name not in {*OWN_FILES, *_FRAME}, name


def test_the_wheel_is_that_of_a_build(tmp_path: Path) -> None:
    name, content = packed_wheel()
    assert (name, content) == packed_wheel()  # of one date
    (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.testzip() is None
        names = set(wheel.namelist())
        information = f"stepwire-{stepwire.__version__}.dist-info"
        recorded = {
            row.split(",")[0] for row in wheel.read(f"{information}/RECORD").decode().split()
        }
        assert b"Name: stepwire\n" in wheel.read(f"{information}/METADATA")
    assert recorded == names
    assert {f"{information}/{file}" for file in ("WHEEL", "entry_points.txt")} <= names
    assert {"stepwire/py.typed", "stepwire/new/packed_template/LICENSE"} <= names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow  # it compiles the copy
def test_a_copy_inside_the_package_imports_nothing_from_outside(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    folder = create_environment("maze_env", tmp_path, runtime="vendor")
    for path in folder.rglob("*.py"):
        outside = re.search(r"^\s*(from|import) stepwire\b", path.read_text("utf-8"), re.MULTILINE)
        assert outside is None, path
    code = """
import sys

class Refusing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("stepwire", "echo_env"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refusing())
import maze_env.server.app, maze_env.stepwire.testing, maze_env.stepwire.conformance.runner
from maze_env import MazeAction, MazeEnv

with MazeEnv.from_local() as env:
    print(env.step(MazeAction(message="Hi")).reward, type(env).__mro__[1].__module__)
"""
    done = run("-W", "error", "-c", code, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout == "0.2 maze_env.stepwire.client.session_client\n", done.stderr
