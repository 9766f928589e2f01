# SPDX-License-Identifier: BSD-3-Clause
"""What code imports to use an environment is read from its package; nothing is imported."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from stepwire.server.pages.client_code import client_code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., type]:
    """Writes a package with a client; returns an action class of its `models`."""

    def write(client: str | None, init: str = "") -> type:
        folder = tmp_path / "made_env"
        folder.mkdir()
        (folder / "__init__.py").write_text(init)
        if client is not None:
            (folder / "client.py").write_text(client)
        module = ModuleType("made_env")
        module.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, "made_env", module)
        return type("Move", (), {"__module__": "made_env.models"})

    return write


@pytest.mark.parametrize(
    ("client", "name", "is_stock"),
    [
        ("class Made(SessionClient[Move, Seen, State]): pass", "Made", False),
        ("class Made(EnvClient[Move, Seen, State]): pass", "Made", True),
        ("class Made(core.MCPToolClient): pass", "Made", True),
        (
            "class Other(EnvClient[A, B, C]): pass\nclass Made(EnvClient[Move, B, C]): pass",
            "Made",
            True,
        ),
        (
            "class Base(SessionClient[M, S, T]): pass\nclass Made(Base[Move, S, T]): pass",
            "Made",
            False,
        ),
    ],
)
def test_the_client_is_the_one_that_takes_the_action(
    package: Callable[..., type], client: str, name: str, is_stock: bool
) -> None:
    action = package(f"raise SystemExit\n{client}")  # it is not imported
    assert client_code(["made_env.models"], [action]) == {
        "client": {"name": name, "module": "made_env.client", "isStock": is_stock},
        "actions": {"Move": "made_env.models"},
    }


def test_names_that_the_package_exports_are_imported_from_it(package: Callable[..., type]) -> None:
    action = package("class Made(EnvClient): pass", 'from .models import Move\n__all__ = ["Made"]')
    found = client_code(["made_env.server.environment"], [action])
    assert found["client"]["module"] == "made_env"
    assert found["actions"] == {"Move": "made_env"}


@pytest.mark.parametrize("client", [None, "", "class Made: pass", "class Made(", "\0"])
def test_without_a_client_none_is_named(package: Callable[..., type], client: str | None) -> None:
    assert client_code(["made_env.models"], [package(client)])["client"] is None


def test_a_module_outside_of_packages_has_no_client() -> None:
    assert client_code(["models"], [type("Move", (), {})]) == {"client": None, "actions": {}}
