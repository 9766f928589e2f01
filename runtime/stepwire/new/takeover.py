# SPDX-License-Identifier: BSD-3-Clause
"""Converts a package of `openenv init`: `stepwire` serves it, the author's files stay.

`take_over` shows the changes and makes them if asked; `undo` brings back what was there.
"""

import ast
import difflib
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import TypedDict

from stepwire.new.names import NewEnvironmentError
from stepwire.new.package import Runtime
from stepwire.new.stepwire_files import packed_wheel

_RECORD = ".stepwire-new.json"  # what was there before; `openenv push` sends no such file
_MODULES = ("openenv.core.env_server", "openenv.core.env_server.http_server")
_NAMES = {"create_app", "create_fastapi_app", "HTTPEnvServer"}


class _Entry(TypedDict):
    """A file in the record."""

    before: str | None  # its text; None for a new file
    written: str  # the digest of what was written


def take_over(folder: Path, *, write: bool = False, runtime: Runtime = "wheel") -> str:
    """The changes as a diff; with `write`, they are made.

    Raises `NewEnvironmentError` if `folder` holds no such package, was taken over before, or cannot
    be written. Then nothing has changed.
    """
    if runtime == "vendor":
        raise NewEnvironmentError("--from works with the wheel or --from-index, not with --vendor")
    if (folder / _RECORD).exists():
        raise NewEnvironmentError(f"{folder} was taken over before; --undo {folder} undoes that")
    before, after = _changes(folder, runtime)
    wheel = {} if runtime == "index" else dict([packed_wheel()])
    for name in wheel:
        if (folder / "wheels" / name).exists():
            raise NewEnvironmentError(f"{folder}/wheels/{name} exists. Delete it first")
    shown = [_diff(path, before[path], after[path]) for path in after]
    shown += [f"new file: wheels/{name} ({len(content)} bytes)" for name, content in wheel.items()]
    if not write:
        return "\n".join([*shown, "", "Nothing is changed yet: add --write to make these changes."])
    files = {path: text.encode() for path, text in after.items()}
    files |= {f"wheels/{name}": content for name, content in wheel.items()}
    record: dict[str, _Entry] = {
        path: {"before": before.get(path), "written": _digest(content)}
        for path, content in files.items()
    }
    try:
        (folder / _RECORD).write_text(json.dumps(record, indent=1), "utf-8")
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        _restore(folder, record)
        raise NewEnvironmentError(f"{error}. Nothing is changed") from error
    quoted = shlex.quote(str(folder))
    return "\n".join(
        [
            *shown,
            "",
            f"Changed. Go on with `cd {quoted}`, and",
            "  uv lock                                       write the versions again",
            "  uv run server                                 serve it",
            f"  python -m stepwire.new --undo {quoted}     undo this",
        ]
    )


def undo(folder: Path) -> str:
    """Restore the files from before `take_over`, and return a message that says so.

    Raises `NewEnvironmentError` if nothing was taken over, if a file has changed since, or if one
    cannot be written. After that, `undo` can be called again.
    """
    try:
        record = json.loads((folder / _RECORD).read_text("utf-8"))
    except OSError as error:
        raise NewEnvironmentError(f"{folder} was not taken over: it has no {_RECORD}") from error
    for path, entry in record.items():
        file = folder / path
        if _content(file) != _before(entry) and _digest(_content(file) or b"") != entry["written"]:
            raise NewEnvironmentError(
                f"{file} has changed since. Revert that change first; nothing was undone"
            )
    try:
        _restore(folder, record)
    except OSError as error:
        raise NewEnvironmentError(f"{error}. Call --undo again when that is corrected") from error
    return f"{folder} is as it was before: {', '.join(record)}"


def _restore(folder: Path, record: dict[str, _Entry]) -> None:
    """Give each file that has changed its content from before; the record goes last."""
    for path, entry in record.items():
        file, before = folder / path, _before(entry)
        if _content(file) == before:
            continue
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
    if (folder / "wheels").is_dir() and not any((folder / "wheels").iterdir()):
        (folder / "wheels").rmdir()
    (folder / _RECORD).unlink(missing_ok=True)


def _before(entry: _Entry) -> bytes | None:
    return None if entry["before"] is None else entry["before"].encode()


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _changes(folder: Path, runtime: Runtime) -> tuple[dict[str, str], dict[str, str]]:
    """The texts before and after, by path."""
    manifest = _text(folder, "openenv.yaml")
    found = re.search(r"^app: *[\"']?([\w.]+):", manifest, re.MULTILINE)
    application = (found[1] if found else "server.app").replace(".", "/") + ".py"
    # Started as `maze.server.app` or, in the folder, as `server.app`: one of these runs first.
    first = {"__init__.py", Path(application).with_name("__init__.py").as_posix()}
    initializers = [path for path in sorted(first) if (folder / path).exists()]
    paths = (application, *initializers, "pyproject.toml")
    before = {path: _text(folder, path) for path in paths}
    after = {
        application: _imported_from_stepwire(application, before[application]),
        **{path: _stepwire_first(path, before[path]) for path in initializers},
        "pyproject.toml": _depending(before["pyproject.toml"], runtime),
    }
    return before, {path: text for path, text in after.items() if text != before[path]}


def _text(folder: Path, path: str) -> str:
    try:
        return (folder / path).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NewEnvironmentError(f"{folder} is no package of `openenv init`: {error}") from error


def _imported_from_stepwire(path: str, code: str) -> str:
    lines = code.splitlines(keepends=True)
    changed = False
    for node in reversed(list(ast.walk(_parsed(path, code)))):
        if not isinstance(node, ast.ImportFrom) or node.module not in _MODULES or node.level:
            continue
        ours = [name for name in node.names if name.name in _NAMES]
        others = [name for name in node.names if name.name not in _NAMES]
        if not ours:
            continue
        statements = [("stepwire.server", ours)]
        if others:
            statements.append((node.module, others))
        indent, end = " " * node.col_offset, node.end_lineno or node.lineno
        ending = "\r\n" if lines[end - 1].endswith("\r\n") else "\n"
        lines[node.lineno - 1 : end] = [
            f"{indent}from {module} import {', '.join(map(ast.unparse, names))}{ending}"
            for module, names in statements
        ]
        changed = True
    if not changed:
        raise NewEnvironmentError(
            f"{path} does not import {', '.join(sorted(_NAMES))} from the framework, so there is "
            "nothing to change"
        )
    return "".join(lines)


def _stepwire_first(path: str, code: str) -> str:
    """With `stepwire` imported before anything that imports the framework."""
    tree = _parsed(path, code)
    imports = [
        node
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    if not imports:
        return code
    lines = code.splitlines(keepends=True)
    first = "import stepwire  # noqa: F401 # first: it makes the import of the framework fast\n\n"
    lines.insert(imports[0].lineno - 1, first)
    return "".join(lines)


def _depending(project: str, runtime: Runtime) -> str:
    """`pyproject.toml` with the dependency on `stepwire`, and where uv finds it."""
    opening = re.search(r"^dependencies *= *\[(?=(\s*)(\]?))", project, re.MULTILINE)
    if opening is None:
        raise NewEnvironmentError("pyproject.toml has no line `dependencies = [`")
    inserted = '"stepwire>=0.1"' + ("" if opening[2] else ",")
    if "\n" in opening[1]:
        inserted = f"\n    {inserted}"
    elif not opening[2]:
        inserted += " "
    project = project[: opening.end()] + inserted + project[opening.end() :]
    if runtime == "index":
        return project
    source = f'stepwire = {{ path = "wheels/{packed_wheel()[0]}" }}\n'
    header = re.search(r"^\[tool\.uv\.sources\] *\n", project, re.MULTILINE)
    if header:
        return project[: header.end()] + source + project[header.end() :]
    return f"{project.rstrip()}\n\n[tool.uv.sources]\n{source}"


def _parsed(path: str, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        raise NewEnvironmentError(f"{path} is not valid Python: {error}") from error


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
    )
    return "\n".join(lines)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
