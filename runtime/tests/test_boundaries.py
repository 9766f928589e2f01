# SPDX-License-Identifier: BSD-3-Clause
"""What may import what in the runtime, whose insides it may use, and how large a module may be."""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from source_code import (
    circle,
    imports,
    javascript_imports,
    parsed,
    private_names,
    top_level_imports,
)

_ROOT = Path(__file__).resolve().parent.parent / "stepwire"
_MODULES = sorted(_ROOT.rglob("*.py"))
_SCRIPTS = sorted(_ROOT.rglob("*.js"))
_UVICORN_HOST = _ROOT / "server" / "uvicorn_host"

# Besides itself; everything may import these of the root, and nothing else of it.
_OF_THE_ROOT = {"_framework", "_interrupts"}
_MAY_IMPORT: dict[str, set[str]] = {
    "protocol": set(),
    "client": {"protocol"},
    "server": {"protocol"},
    "conformance": {"protocol"},
    "testing": {"conformance", "protocol", "server"},
    "deploy": set(),
    "integrations": {"client", "protocol"},
    "new": set(),
}
# What is installed with the runtime or, as `openenv` is, by the environment that depends on it.
_THIRD_PARTY = {
    "fastapi",
    "fastapi_offline",
    "fastmcp",
    "gradio",
    "gymnasium",
    "httptools",
    "itsdangerous",
    "jsonschema",
    "numpy",
    "openenv",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "pydantic_core",
    "pytest",
    "ray",
    "referencing",
    "requests",
    "rich",
    "starlette",
    "typing_extensions",
    "uvicorn",
    "uvloop",
    "websockets",
}


def _name(source: Path) -> str:
    parts = source.relative_to(_ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(source: Path) -> str:
    return _name(source) if source.name == "__init__.py" else _name(source).rpartition(".")[0]


_NAMES = {_name(source): source for source in _MODULES}


def _imported_modules(source: Path) -> set[str]:
    """The modules of the runtime that a module imports."""
    found = imports(source, _package(source)) & set(_NAMES)
    # `from stepwire.client import errors` imports a module, not its package's `__init__`.
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


# What Gymnasium's base class declares is no attribute of ours.
_OF_GYMNASIUM = {
    "action_space",
    "metadata",
    "num_envs",
    "observation_space",
    "single_action_space",
    "single_observation_space",
}

_each_module = pytest.mark.parametrize("source", _MODULES, ids=_name)


@_each_module
def test_the_runtime_knows_no_environment(source: Path) -> None:
    packages = {name.partition(".")[0] for name in imports(source, _package(source))}
    assert packages - sys.stdlib_module_names <= {"stepwire", *_THIRD_PARTY}
    assert not re.search(r"echo_?env|echoaction|notes_?env", source.read_text(), re.IGNORECASE)


@pytest.mark.parametrize("room", _MAY_IMPORT)
def test_a_part_imports_only_the_parts_it_may(room: str) -> None:
    imported = {
        name.split(".")[1]
        for source in (_ROOT / room).rglob("*.py")
        for name in _imported_modules(source)
        if name.count(".")
    }
    assert imported - {room} - _OF_THE_ROOT <= _MAY_IMPORT[room]


def test_every_part_is_listed_here() -> None:
    assert {path.parent.name for path in _ROOT.glob("*/__init__.py")} == set(_MAY_IMPORT)


@_each_module
def test_only_the_uvicorn_host_imports_uvicorn(source: Path) -> None:
    if source.parent == _UVICORN_HOST:
        return
    used = {name for name in imports(source) if name.partition(".")[0] == "uvicorn"}
    if source == _ROOT / "server" / "logs.py":
        used = {name for name in used if not name.startswith(("uvicorn.config", "uvicorn.logging"))}
    assert not used
    assert "uvicorn" not in top_level_imports(source)


@pytest.mark.parametrize("source", sorted(_UVICORN_HOST.glob("*.py")), ids=lambda p: p.stem)
def test_internals_of_uvicorn_are_in_one_file(source: Path) -> None:
    documented = {"uvicorn", "uvicorn.run", "uvicorn.Config", "uvicorn.Server"}
    used = {name for name in imports(source) if name.partition(".")[0] == "uvicorn"}
    assert source.name == "internals.py" or used <= documented


def test_an_application_is_built_without_uvicorn(execute: Callable[..., str]) -> None:
    code = """
import sys

class Refusing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refusing())

import asyncio
from notes_env.app import app

async def main():
    received = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive():
        return next(received)

    async def send(message):
        sent.append(message["type"])

    await app({"type": "lifespan", "state": {}}, receive, send)
    print(sent)

asyncio.run(main())
"""
    assert execute(code) == "['lifespan.startup.complete', 'lifespan.shutdown.complete']\n"


def test_the_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {_name(source): _imported_modules(source) for source in _MODULES}
    assert circle(graph) == []


def test_the_scripts_of_the_pages_do_not_import_each_other_in_a_circle() -> None:
    assert _SCRIPTS
    graph = {source.stem: javascript_imports(source) for source in _SCRIPTS}
    assert any(graph.values())
    assert circle(graph) == []


@_each_module
def test_no_module_uses_private_names_of_another(source: Path) -> None:
    allowed = {"stepwire._framework", "os._exit"}  # the second is documented
    if source == _ROOT / "server" / "pages" / "custom_page.py":
        # The framework gives them to an author's builder; `test_custom_page.py` compares them.
        allowed |= {"web_interface._extract_action_fields", "web_interface._is_chat_env"}
    assert private_names(source) - allowed == set()


@pytest.mark.parametrize(
    "source", [*_MODULES, *_SCRIPTS], ids=lambda path: str(path.relative_to(_ROOT))
)
def test_no_module_is_longer_than_400_lines(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 400


def _attributes(class_: ast.ClassDef) -> set[str]:
    """The instance attributes that its methods assign."""
    return {
        node.attr
        for node in ast.walk(class_)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    } - _OF_GYMNASIUM


@_each_module
def test_no_class_has_more_than_14_attributes(source: Path) -> None:
    classes = [node for node in ast.walk(parsed(source)) if isinstance(node, ast.ClassDef)]
    sizes: dict[str, Any] = {node.name: len(_attributes(node)) for node in classes}
    assert {name: size for name, size in sizes.items() if size > 14} == {}
