# SPDX-License-Identifier: BSD-3-Clause
"""The client and the actions of an environment, for Python code that uses it.

Packages of environments have their client in `client.py`. It is parsed, not imported: a server does
not load client code.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# The base classes of clients, and whether they are the framework's.
_BASES = {
    "SessionClient": False,
    "EnvClient": True,
    "MCPClientBase": True,
    "MCPToolClient": True,
}


def client_code(modules: Sequence[str], action_classes: Sequence[type]) -> dict[str, Any]:
    """`client` with its `name`, `module` and `isStock`, and `actions` as a module for each name.

    `modules` are those of the environment's classes. `client` is `None` when no package of theirs
    has a client.
    """
    names = [cls.__name__ for cls in action_classes]
    for package, folder in _packages(modules):
        client = _client(folder / "client.py", names)
        if client is not None:
            name, is_stock = client
            exported = _exported(folder / "__init__.py")
            home = package if name in exported else f"{package}.client"
            actions = {
                cls.__name__: package if cls.__name__ in exported else cls.__module__
                for cls in action_classes
            }
            found = {"name": name, "module": home, "isStock": is_stock}
            return {"client": found, "actions": actions}
    return {"client": None, "actions": {}}


def _packages(modules: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The packages that contain the modules, the innermost ones first, and their folders."""
    for module in modules:
        package = module.rpartition(".")[0]
        while package:
            for folder in getattr(sys.modules.get(package), "__path__", ()):
                yield package, Path(folder)
            package = package.rpartition(".")[0]


def _client(file: Path, actions: list[str]) -> tuple[str, bool] | None:
    """The client for one of the actions, else the first client; `None` if there is none."""
    known, clients = dict(_BASES), {}
    for node in _parsed(file):
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            named = base.value if isinstance(base, ast.Subscript) else base
            is_stock = known.get(ast.unparse(named).rpartition(".")[2])
            if is_stock is not None:
                known[node.name] = is_stock
                clients[node.name] = ast.unparse(base)
    if not clients:
        return None
    fitting = [name for name, base in clients.items() if any(each in base for each in actions)]
    name = (fitting or list(clients))[0]
    return name, known[name]


def _exported(file: Path) -> set[str]:
    """The names that a package imports or lists: it may do the first only when they are used."""
    names = set()
    for node in _parsed(file):
        for part in ast.walk(node):
            if isinstance(part, ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in part.names}
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                names.add(part.value)
    return names


def _parsed(file: Path) -> list[ast.stmt]:
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
