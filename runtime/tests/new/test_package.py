# SPDX-License-Identifier: BSD-3-Clause
"""`create_environment`: what it writes, what it refuses, and that a failure leaves nothing."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stepwire.new import NewEnvironmentError, create_environment
from stepwire.new.template import FILES, FRAME


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that takes `stepwire` from the package index."""
    folder = tmp_path_factory.mktemp("new")
    return create_environment("guess_number", folder, runtime="index")


def _files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_has_the_files_of_a_package_and_no_others(made: Path) -> None:
    assert made.name == "guess_number"
    assert set(_files(made)) == {name.format(package="guess_number") for name in (*FILES, *FRAME)}


def test_nothing_of_the_template_shows(made: Path) -> None:
    for path, text in _files(made).items():
        found = re.search(r".*(echo_env|echo-env|Echo[A-Z]|[Ee]cho [Ee]nv|[Ee]cho only).*", text)
        assert found is None, f"{path}: {found[0]}"


def test_every_module_is_python_with_the_names_of_the_environment(made: Path) -> None:
    classes = set()
    for path in made.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        classes |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    prefix = "GuessNumber"
    assert classes == {
        *(f"{prefix}{kind}" for kind in ("Action", "Observation", "Env", "EnvPool", "Environment")),
        f"Test{prefix}Environment",
    }


def test_the_manifest_and_the_front_matter_name_it(made: Path) -> None:
    manifest = yaml.safe_load((made / "openenv.yaml").read_text("utf-8"))
    assert (manifest["name"], manifest["app"]) == ("guess_number", "server.app:app")
    assert set(manifest["validation"]["capabilities"]) == {"verifier"}
    matter = yaml.safe_load((made / "README.md").read_text("utf-8").split("---\n")[1])
    assert (matter["title"], matter["sdk"]) == ("Guess Number Environment", "docker")
    assert matter["base_path"] == "/web"


def test_the_name_may_be_a_path(tmp_path: Path) -> None:
    folder = create_environment(tmp_path / "maze_env", runtime="index")
    assert folder == tmp_path / "maze_env"
    assert "class MazeEnvironment(" in (folder / "server/maze_env_environment.py").read_text()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "maze").mkdir()
    assert (create_environment("maze", tmp_path, runtime="index") / "client.py").is_file()


def test_the_framework_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    texts = [
        (
            create_environment(name, tmp_path, like=like, runtime="index") / "pyproject.toml"
        ).read_text()
        for name, like in (("one", "openenv-core"), ("two", "openenv"))
    ]
    assert [re.findall(r'^    "openenv.*', text, re.MULTILINE) for text in texts] == [
        ['    "openenv-core>=0.3.0",'],
        ['    "openenv>=0.10",'],
    ]


class TestNothingIsWritten:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Any:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "kept.txt").write_text("kept")
        (tmp_path / "file").write_text("kept")
        yield
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept.txt", "there"]

    @pytest.mark.parametrize("name", ["there", "file"])
    def test_where_something_is(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(NewEnvironmentError, match="exists and is not an empty folder"):
            create_environment(name, tmp_path, runtime="index")

    @pytest.mark.parametrize("directory", ["missing", "file"])
    def test_where_there_is_no_folder(self, directory: str, tmp_path: Path) -> None:
        with pytest.raises(NewEnvironmentError, match="is not a folder"):
            create_environment("maze", tmp_path / directory, runtime="index")

    @pytest.mark.parametrize("name", ["", "class", "ma-ze"])
    def test_with_a_bad_name(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(NewEnvironmentError, match="Choose another name"):
            create_environment(name, tmp_path, runtime="index")

    def test_with_an_unknown_option(self, tmp_path: Path) -> None:
        with pytest.raises(NewEnvironmentError, match="not 'gym' and 'index'"):
            create_environment("maze", tmp_path, like="gym", runtime="index")  # type: ignore[arg-type]

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    def test_when_writing_fails(
        self, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = Path.write_bytes

        def fail(path: Path, content: bytes) -> int:
            if path.name == "app.py":
                raise error
            return write(path, content)

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises((NewEnvironmentError, KeyboardInterrupt)):
            create_environment("maze", tmp_path, runtime="index")

    def test_when_another_one_was_faster(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def taken(path: Path, target: Path) -> None:
            raise OSError(39, "Directory not empty")

        monkeypatch.setattr(Path, "rename", taken)
        with pytest.raises(NewEnvironmentError, match=r"cannot write .*maze: .*not empty"):
            create_environment("maze", tmp_path, runtime="index")


class TestCommand:
    @pytest.fixture
    def new(self, run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
        def call(*arguments: str) -> Any:
            return run("-m", "stepwire.new", *arguments, "--from-index", cwd=tmp_path)

        return call

    def test_it_says_what_was_made_and_what_to_try(
        self, new: Callable[..., Any], tmp_path: Path
    ) -> None:
        done = new("maze")
        assert (done.returncode, done.stderr) == (0, "")
        made, commands = done.stdout.split("\n\n")
        listed = {line.strip() for line in made.splitlines()[1:]}
        assert listed == set(_files(tmp_path / "maze"))
        assert [line.strip().split("  ")[0] for line in commands.splitlines()[1:]] == [
            "uv run server",
            "uv run pytest",
            "uv lock && uv run openenv validate",
        ]

    def test_a_fault_is_one_line(self, new: Callable[..., Any], tmp_path: Path) -> None:
        done = new("2048")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("python -m stepwire.new: error: '2048' is not snake_case")
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no pseudo-terminals")
    def test_in_a_terminal_it_asks_for_the_name(self, tmp_path: Path) -> None:
        terminal, end = os.openpty()
        os.write(terminal, b"maze\n")
        command = [sys.executable, "-m", "stepwire.new", "--from-index"]
        done = subprocess.run(
            command, cwd=tmp_path, stdin=end, capture_output=True, text=True, check=True
        )
        os.close(terminal)
        os.close(end)
        assert "Name of the environment, in snake_case: " in done.stdout
        assert (tmp_path / "maze" / "client.py").is_file()

    def test_without_a_terminal_it_does_not_ask_for_the_name(self, new: Callable[..., Any]) -> None:
        done = new()
        assert done.returncode == 2
        assert done.stderr.endswith("error: the name of the environment is missing\n")
