# SPDX-License-Identifier: BSD-3-Clause
"""What may import what, how large the core may grow, and which names are taken."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_SERVER = sorted((_ROOT / "server").rglob("*.py"))
_CLIENT_SIDE = [_ROOT / "client.py", *sorted((_ROOT / "transport").rglob("*.py"))]
_KIT = sorted((_ROOT / "conformance").rglob("*.py"))
_KNOWS_ECHO = {"app.py", "echo_env_environment.py"}


def _imports(source: Path) -> set[str]:
    """The absolute names of all modules that `source` imports of this package."""
    package = ["echo_env", *source.relative_to(_ROOT).parent.parts]
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, node.module] if node.module else parents)
            imported |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in imported if name.split(".")[0] in {"echo_env", "_checkout"}}


def _modules(names: set[str]) -> set[str]:
    """`names` without those of things inside a module, such as classes."""
    return {name for name in names if name.rpartition(".")[2].islower()}


def test_the_models_stand_alone() -> None:
    assert _imports(_ROOT / "models.py") == set()


def test_the_environment_imports_only_its_models() -> None:
    imported = _modules(_imports(_ROOT / "server" / "echo_env_environment.py"))
    assert imported == {"_checkout", "echo_env.models"}


@pytest.mark.parametrize(
    "source", [p for p in _SERVER if p.name not in _KNOWS_ECHO], ids=lambda p: p.name
)
def test_the_server_does_not_know_which_environment_it_serves(source: Path) -> None:
    assert not re.search(r"EchoEnvironment|EchoAction|EchoObservation", source.read_text())
    for name in _imports(source):
        assert not name.startswith(("echo_env.models", "echo_env.server.echo_env_environment"))


@pytest.mark.parametrize("source", _SERVER, ids=lambda p: p.name)
def test_the_server_does_not_import_the_client(source: Path) -> None:
    assert not {n for n in _imports(source) if n.startswith(("echo_env.client", "echo_env.trans"))}


@pytest.mark.parametrize("source", _CLIENT_SIDE, ids=lambda p: p.stem)
def test_the_client_does_not_import_the_server(source: Path) -> None:
    assert not {name for name in _imports(source) if name.startswith("echo_env.server")}


@pytest.mark.parametrize("source", [*_SERVER, *_CLIENT_SIDE], ids=lambda p: p.name)
def test_nothing_imports_the_conformance_kit_or_an_integration(source: Path) -> None:
    later = ("stepwire.conformance", "stepwire.integrations")
    assert not {name for name in _imports(source) if name.startswith(later)}


@pytest.mark.parametrize("source", _KIT, ids=lambda p: p.stem)
def test_the_conformance_kit_does_not_know_which_environment_it_checks(source: Path) -> None:
    assert {name.split(".")[1] for name in _imports(source) if "." in name} <= {"conformance"}


@pytest.mark.parametrize(
    ("file", "lines"),
    [("server/echo_env_environment.py", 100), ("models.py", 60), ("server/app.py", 80)],
)
def test_what_an_author_reads_first_stays_small(file: str, lines: int) -> None:
    assert len((_ROOT / file).read_text().splitlines()) <= lines


# The root and `server/` are on the path of `uvicorn server.app:app` and `python server/….py`, where
# `models` and `client` are the names that the framework's tools look for.
def test_no_module_is_named_like_one_of_the_standard_library_or_a_dependency() -> None:
    modules = [path for folder in (_ROOT, _ROOT / "server") for path in folder.glob("*.py")]
    folders = [path.parent for path in (_ROOT / "server").glob("*/*") if "__" not in path.parts[-2]]
    own = {path.stem for path in modules} - {"__init__"} | {path.name for path in folders}
    taken = set(sys.stdlib_module_names)
    taken |= {
        name
        for name, distributions in metadata.packages_distributions().items()
        if "openenv-echo-env" not in distributions
    }
    assert not own & taken
