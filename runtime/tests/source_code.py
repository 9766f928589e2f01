# SPDX-License-Identifier: BSD-3-Clause
"""What the source code of a package imports and uses, for tests of its boundaries."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def imports(source: Path, package: str = "") -> set[str]:
    """The absolute names that a module imports, wherever in it: modules and what is in them.

    Imports for type checkers alone are left out. `package` is what relative imports start from.
    """
    found: set[str] = set()
    for node in _executed(parsed(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: package.count(".") + 2 - node.level]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def top_level_imports(source: Path) -> set[str]:
    """The names of the packages that are imported when the module is, and not later."""
    found: set[str] = set()
    for node in parsed(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def private_names(source: Path) -> set[str]:
    """Names with a leading underscore that a module uses and does not define itself."""
    used: set[tuple[str, str]] = set()
    defined: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            used |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            own = owner in ("self", "cls", "super()")
            if own and isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
            elif not own:
                used.add((owner, node.attr))
    private = {(owner, name) for owner, name in used if re.match("_[^_]", name)}
    return {f"{owner}.{name}" for owner, name in private if name not in defined}


def javascript_imports(source: Path) -> set[str]:
    return set(re.findall(r'(?:from|import)\s+"\./(\w+)\.js"', source.read_text(encoding="utf-8")))


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One import circle of `graph`, the names in the order of their imports; empty without any."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for imported in sorted(graph.get(name, ())):
            if found := search(imported, [*path, name]):
                return found
        done.add(name)
        return []

    return next(filter(None, (search(name, []) for name in sorted(graph))), [])


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """`ast.walk` without the blocks for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)
