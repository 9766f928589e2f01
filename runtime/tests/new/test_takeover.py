# SPDX-License-Identifier: BSD-3-Clause
"""`--from`: a package of `openenv init` is served with `stepwire`, and that can be undone."""

import re
import shutil
from pathlib import Path

import openenv
import pytest

from stepwire.new import NewEnvironmentError
from stepwire.new.__main__ import main
from stepwire.new.stepwire_files import packed_wheel
from stepwire.new.takeover import take_over, undo

_TEMPLATE = Path(openenv.__path__[0]) / "cli" / "templates" / "openenv_env"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What `openenv init maze` of the installed framework writes."""
    folder = Path(shutil.copytree(_TEMPLATE, tmp_path / "maze"))
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.suffix == ".pyc":
            path.unlink()
            continue
        text = path.read_text("utf-8").replace("__ENV_NAME__", "maze")
        path.write_text(text.replace("__ENV_CLASS_NAME__", "Maze"), "utf-8")
        path.rename(path.with_name(path.name.replace("__ENV_NAME__", "maze")))
    return folder


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_changes_are_shown_first(package: Path) -> None:
    before = _files(package)
    shown = take_over(package, runtime="index")
    assert _files(package) == before
    assert shown.endswith("Nothing is changed yet: add --write to make these changes.")
    changed = re.findall(r"^[+-](?![+-]).*$", shown, re.MULTILINE)
    assert sorted(changed) == [
        "+",
        "+",
        '+    "stepwire>=0.1",',
        "+    from stepwire.server import create_app",
        "+import stepwire  # noqa: F401 # first: it makes the import of the framework fast",
        "+import stepwire  # noqa: F401 # first: it makes the import of the framework fast",
        "-    from openenv.core.env_server.http_server import create_app",
    ]


def test_they_are_made_and_undone(package: Path) -> None:
    before = _files(package)
    take_over(package, write=True, runtime="index")
    changed = {path for path, content in _files(package).items() if before.get(path) != content}
    assert changed == {
        package / path
        for path in (
            *("__init__.py", "pyproject.toml", "server/__init__.py", "server/app.py"),
            ".stepwire-new.json",
        )
    }
    with pytest.raises(NewEnvironmentError, match="was taken over before"):
        take_over(package, runtime="index")
    assert "is as it was before: server/app.py" in undo(package)
    assert _files(package) == before
    with pytest.raises(NewEnvironmentError, match="was not taken over"):
        undo(package)


def test_what_the_author_has_changed_since_is_not_undone(package: Path) -> None:
    take_over(package, write=True, runtime="index")
    application = package / "server" / "app.py"
    application.write_text(application.read_text() + "# mine\n")
    before = _files(package)
    with pytest.raises(NewEnvironmentError, match=r"app\.py has changed since"):
        undo(package)
    assert _files(package) == before


def test_a_folder_that_cannot_be_written_stays_as_it_is(package: Path) -> None:
    (package / "wheels").write_text("a file where a folder is needed")
    before = _files(package)
    with pytest.raises(NewEnvironmentError, match=r"wheels.*Nothing is changed"):
        take_over(package, write=True)
    assert _files(package) == before


def test_an_undo_that_was_interrupted_can_be_finished(package: Path) -> None:
    before = _files(package)
    take_over(package, write=True)
    (package / "server" / "app.py").write_bytes(before[package / "server" / "app.py"])
    next((package / "wheels").iterdir()).unlink()
    undo(package)
    assert _files(package) == before


def test_a_wheel_that_is_there_already_is_not_replaced(package: Path) -> None:
    wheel = package / "wheels" / packed_wheel()[0]
    wheel.parent.mkdir()
    wheel.write_bytes(b"of the author")
    with pytest.raises(NewEnvironmentError, match=r"\.whl exists"):
        take_over(package, write=True)
    assert wheel.read_bytes() == b"of the author"


@pytest.mark.parametrize(
    "arguments",
    [
        ["maze", "--write"],
        ["--from", "maze", "other"],
        ["--from", "maze", "--like", "openenv"],
        ["--undo", "maze", "--vendor"],
    ],
)
def test_arguments_without_an_effect_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_the_folder_in_the_next_command_is_quoted(package: Path) -> None:
    folder = package.rename(package.with_name("my maze"))
    assert f"cd '{folder}'" in take_over(folder, write=True, runtime="index")


def test_other_imports_of_the_same_line_stay(package: Path) -> None:
    (package / "server" / "app.py").write_text(
        "from openenv.core.env_server import (\n    Environment,\n    create_app as make,\n)\n"
        "from openenv.core.env_server.http_server import HTTPEnvServer, create_fastapi_app\n"
    )
    take_over(package, write=True, runtime="index")
    assert (package / "server" / "app.py").read_text() == (
        "from stepwire.server import create_app as make\n"
        "from openenv.core.env_server import Environment\n"
        "from stepwire.server import HTTPEnvServer, create_fastapi_app\n"
    )


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("server/app.py", "app = None\n", "does not import HTTPEnvServer, create_app"),
        ("server/app.py", "app = (\n", "is not valid Python"),
        ("pyproject.toml", "[project]\n", "has no line `dependencies"),
        ("openenv.yaml", None, "is no package of `openenv init`"),
    ],
)
def test_another_kind_of_package_is_refused(
    file: str, text: str | None, problem: str, package: Path
) -> None:
    if text is None:
        (package / file).unlink()
    else:
        (package / file).write_text(text)
    before = _files(package)
    with pytest.raises(NewEnvironmentError, match=problem):
        take_over(package, write=True, runtime="index")
    assert _files(package) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dependencies = []\n", 'dependencies = ["stepwire>=0.1"]\n'),
        ('dependencies = ["a"]\n', 'dependencies = ["stepwire>=0.1", "a"]\n'),
        (
            'dependencies = [\n    "a",\n]\n',
            'dependencies = [\n    "stepwire>=0.1",\n    "a",\n]\n',
        ),
    ],
)
def test_the_dependency_is_added_to_any_list(before: str, after: str, package: Path) -> None:
    (package / "pyproject.toml").write_text(f"[project]\n{before}")
    take_over(package, write=True, runtime="index")
    assert (package / "pyproject.toml").read_text() == f"[project]\n{after}"
