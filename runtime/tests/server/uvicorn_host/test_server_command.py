# SPDX-License-Identifier: BSD-3-Clause
"""Which environment the command `server` serves where several have a command of that name."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepwire.server.uvicorn_host.server_command import server_command_of_dependent


@pytest.fixture
def dependent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """The target of the command that takes over from `first`'s, where these are installed."""

    def find(command: str = "server", **requirements: list[str]) -> str | None:
        for name, required in requirements.items():
            info = tmp_path / f"{name}-1.0.dist-info"
            info.mkdir()
            lines = [f"Name: openenv-{name}", "Version: 1.0"]
            lines += [f"Requires-Dist: {requirement}" for requirement in required]
            (info / "METADATA").write_text("\n".join(lines) + "\n")
            (info / "entry_points.txt").write_text(
                f"[console_scripts]\nserver = {name}.server.app:main\n"
            )
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(sys, "argv", [f"/bin/{command}"])
        entry = server_command_of_dependent("first.server.app:app")
        return entry and entry.value

    return find


def test_the_only_environment_is_served(
    dependent: Callable[..., str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dependent(first=[]) is None
    assert capsys.readouterr().err == ""


def test_the_dependent_takes_over(dependent: Callable[..., str | None]) -> None:
    assert dependent(first=[], second=["Openenv_First>=1"]) == "second.server.app:main"


def test_the_required_one_does_not(
    dependent: Callable[..., str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dependent(first=["openenv-second"], second=[]) is None
    assert capsys.readouterr().err == ""


def test_an_unrelated_one_is_mentioned(
    dependent: Callable[..., str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dependent(first=[], second=["requests"]) is None
    assert capsys.readouterr().err == (
        "server: serving first. openenv-second has a command `server` as well: "
        "`python -m second.server.app` serves it\n"
    )


def test_a_module_or_another_command_never_hands_over(dependent: Callable[..., str | None]) -> None:
    assert dependent(command="first-server", first=[], second=["openenv-first"]) is None
