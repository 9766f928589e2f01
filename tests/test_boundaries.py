# SPDX-License-Identifier: BSD-3-Clause
"""What echo's modules may import, how large they may grow, and which names are taken."""

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from source_code import imports, private_names

_ROOT = Path(__file__).resolve().parent.parent
_MODULES = sorted({*_ROOT.glob("*.py"), *(_ROOT / "server").rglob("*.py")} - {_ROOT / "setup.py"})
_PUBLIC = {"stepwire.client", "stepwire.client.errors", "stepwire.server", "stepwire.testing"}


def _id(source: Path) -> str:
    return str(source.relative_to(_ROOT))


def _imported(source: Path) -> set[str]:
    return imports(source, ".".join(["echo_env", *source.relative_to(_ROOT).parent.parts]))


def _is_module(name: str) -> bool:
    """Whether this name of the runtime is one of a module, not of something in it."""
    path = _ROOT / "runtime" / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _own(source: Path) -> set[str]:
    """The modules of echo that a module imports, without the names of things inside them."""
    names = {name for name in _imported(source) if name.startswith(("echo_env", "_checkout"))}
    return {name for name in names if name.rpartition(".")[2].islower()}


def test_the_models_and_the_tasks_stand_alone() -> None:
    assert _own(_ROOT / "models.py") == _own(_ROOT / "tasks.py") == set()


def test_the_environment_imports_only_its_models_and_tasks() -> None:
    environment = _ROOT / "server" / "echo_env_environment.py"
    assert _own(environment) == {"_checkout", "echo_env.models", "echo_env.tasks"}


@pytest.mark.parametrize("source", _MODULES, ids=_id)
def test_only_the_public_packages_of_the_runtime_are_imported(source: Path) -> None:
    runtime = {name for name in _imported(source) if name.partition(".")[0] == "stepwire"}
    modules = {name for name in runtime if _is_module(name)}
    assert modules <= {"stepwire", *_PUBLIC}


@pytest.mark.parametrize("source", _MODULES, ids=_id)
def test_no_module_uses_private_names_of_another(source: Path) -> None:
    assert private_names(source) <= {"None._checkout", "echo_env._bundled"}


@pytest.mark.parametrize("source", [*(_ROOT / "server").rglob("*.py")], ids=_id)
def test_the_server_does_not_import_the_client(source: Path) -> None:
    assert not {name for name in _own(source) if name.startswith("echo_env.client")}


def test_the_client_does_not_import_the_server() -> None:
    assert not {name for name in _own(_ROOT / "client.py") if name.startswith("echo_env.server")}


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("server/echo_env_environment.py", 115),
        ("models.py", 60),
        ("tasks.py", 60),
        ("server/app.py", 40),
        ("README.md", 150),
    ],
)
def test_what_an_author_reads_first_stays_small(file: str, lines: int) -> None:
    assert len((_ROOT / file).read_text(encoding="utf-8").splitlines()) <= lines


def test_echo_is_small() -> None:
    assert sum(len(p.read_text(encoding="utf-8").splitlines()) for p in _MODULES) <= 450


# The root and `server/` are on the path of `uvicorn server.app:app` and `python server/….py`, where
# `models` and `client` are the names that the framework's tools look for.
def test_no_module_is_named_like_one_of_the_standard_library_or_a_dependency() -> None:
    own = {path.stem for path in _MODULES if not re.fullmatch("__.*__", path.stem)}
    taken = set(sys.stdlib_module_names)
    taken |= {
        name
        for name, distributions in metadata.packages_distributions().items()
        if "openenv-echo-env" not in distributions
    }
    assert not own & taken
