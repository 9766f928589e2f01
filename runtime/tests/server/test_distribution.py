# SPDX-License-Identifier: BSD-3-Clause
"""The distribution of an environment is found by its package, however it is installed."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from stepwire.server.distribution import distribution_of


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts the metadata of a distribution on the path: `install("my-env", "1.2", RECORD=…)`."""
    monkeypatch.syspath_prepend(tmp_path)
    distribution_of.cache_clear()

    def install_one(name: str, version: str, **files: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        header = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(header)
        for file, text in files.items():
            (folder / file.replace("_txt", ".txt")).write_text(text)

    return install_one


def _server(module: str) -> str:
    return f"[console_scripts]\nserver = {module}:main\n"


def test_a_distribution_names_its_top_level_packages(install: Callable[..., None]) -> None:
    install("a-guessing-env", "3.1", top_level_txt="guessing_tests\nguessing\n")
    assert str(distribution_of("guessing.server.environment")) == "a-guessing-env 3.1"


def test_an_editable_install_may_name_only_its_command(install: Callable[..., None]) -> None:
    record = "_editable_impl_guessing.pth,,\na_guessing_env-3.1.dist-info/METADATA,,\n"
    commands = _server("guessing.server.app")
    install("a-guessing-env", "3.1", RECORD=record, entry_points_txt=commands)
    assert str(distribution_of("guessing.server.environment")) == "a-guessing-env 3.1"


def test_a_distribution_may_only_list_its_files(install: Callable[..., None]) -> None:
    install("unrelated", "1.0", RECORD="guessing_tests/__init__.py,,\n")
    install("a-guessing-env", "3.1", RECORD="LICENSE,,\nguessing/__init__.py,,\n")
    assert str(distribution_of("guessing.server.environment")) == "a-guessing-env 3.1"


def test_of_several_with_one_package_the_closest_command_decides(
    install: Callable[..., None],
) -> None:
    for game in ("chess", "go", "shogi"):
        commands = _server(f"boardgames.{game}.server.app")
        install(f"game-{game}", "1.0", top_level_txt="boardgames", entry_points_txt=commands)
    assert distribution_of("boardgames.go.server.environment").name == "game-go"


def test_a_checkout_that_is_not_installed_has_no_version(install: Callable[..., None]) -> None:
    install("unrelated", "1.0", top_level_txt="unrelated", entry_points_txt="[empty]\n")
    found = distribution_of("guessing.server.environment")
    assert (found.name, found.version) == ("guessing", None)
    assert str(found) == "guessing (checkout, not installed)"


def test_this_installation_is_found() -> None:
    version = metadata.version("openenv-echo-env")
    assert str(distribution_of("echo_env.server.app")) == f"openenv-echo-env {version}"
