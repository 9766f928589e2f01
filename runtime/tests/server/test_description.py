# SPDX-License-Identifier: BSD-3-Clause
"""`/metadata` says what an environment is, whether its author wrote a `get_metadata` or not."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from openenv.core.env_server.types import EnvironmentMetadata

from notes_env.environment import NotesEnvironment
from stepwire.server.description import metadata_of, metadata_of_class, readme_of
from stepwire.server.distribution import distribution_of

Write = Callable[..., type[NotesEnvironment]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a package `project_env` with the files; returns its environment class."""
    monkeypatch.syspath_prepend(tmp_path)
    distribution_of.cache_clear()
    readme_of.cache_clear()

    def write_files(**files: str) -> type[NotesEnvironment]:
        folder = tmp_path / "project_env" / "server"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        (folder / "environment.py").write_text(
            "from notes_env.environment import NotesEnvironment\n"
            "class Project(NotesEnvironment):\n"
            '    """Does this\n    and that.\n\n    Not this."""\n'
        )
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/").replace("_md", ".md").replace(
                "_toml", ".toml"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for module in [name for name in sys.modules if name.startswith("project_env")]:
            monkeypatch.delitem(sys.modules, module)
        from project_env.server.environment import Project  # type: ignore[import-not-found]

        return Project  # type: ignore[no-any-return]

    return write_files


def _readme(cls: type[NotesEnvironment]) -> str | None:
    described = metadata_of_class(cls, "no such name")
    assert described is not None
    readme: str | None = described.readme_content
    return readme


def test_the_first_paragraph_of_the_docstring_describes_it(write: Write) -> None:
    described = metadata_of_class(write())
    assert described is not None
    assert (described.name, described.description) == ("Project", "Does this and that.")
    assert (described.author, described.version, described.readme_content) == (None, None, None)


def test_without_a_docstring_of_its_own_the_name_describes_it() -> None:
    cls = type("Bare", (NotesEnvironment,), {})
    described = metadata_of_class(cls)
    assert described is not None
    assert described.description == "Bare environment"


@pytest.mark.parametrize(
    ("files", "readme"),
    [
        ({"project_env__README_md": "# Package"}, "# Package"),
        ({"project_env__server__README_md": "# Server", "project_env__README_md": "#"}, "# Server"),
        ({"README_md": "# Project", "pyproject_toml": ""}, "# Project"),
        ({"README_md": "# Of something else"}, None),
    ],
)
def test_the_readme_is_the_one_of_the_package_or_its_project(
    write: Write, files: dict[str, str], readme: str | None
) -> None:
    assert _readme(write(**files)) == readme


def test_what_an_installed_distribution_says_of_itself(write: Write, tmp_path: Path) -> None:
    cls = write()
    folder = tmp_path / "project_env-3.1.dist-info"
    folder.mkdir()
    (folder / "top_level.txt").write_text("project_env\n")
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: project-env\nVersion: 3.1\n"
        'Author-email: "The Authors" <authors@example.org>\n'
        "Project-URL: Source, https://example.org/source\n"
        "Project-URL: Documentation, https://example.org/docs\n\n# The long description\n"
    )
    described = metadata_of(cls())
    assert (described.version, described.author) == ("3.1", "The Authors")
    assert described.documentation_url == "https://example.org/docs"
    assert (described.readme_content or "").strip() == "# The long description"


def test_an_authors_own_metadata_is_completed_and_not_changed(write: Write) -> None:
    cls = write(project_env__README_md="# Package")

    class Own(cls):  # type: ignore[misc, valid-type]
        def get_metadata(self) -> EnvironmentMetadata:
            return EnvironmentMetadata(name="Own", description="Mine", version="9")

    Own.__module__ = cls.__module__
    assert metadata_of_class(Own) is None  # it takes an environment
    described = metadata_of(Own())
    assert (described.name, described.description, described.version) == ("Own", "Mine", "9")
    assert described.readme_content == "# Package"


def test_no_environment_is_made_where_the_class_says_it_all(server: Any) -> None:
    described = requests.get(server.url + "/metadata", timeout=60).json()
    assert described["name"] == "NotesEnvironment"
    assert described["description"] == (NotesEnvironment.__doc__ or "").split("\n\n")[0]
