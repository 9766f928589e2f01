# SPDX-License-Identifier: BSD-3-Clause
"""The template: the environment at the root of the repository, and other files of a package.

The root gives what an environment is (`FILES`), `runtime/template` what only a package of its own
needs (`FRAME`). `runtime/setup.py` packs both into one folder of the wheel of `stepwire`.

Parts that only the root's environment has are marked there with its name: a line that ends with the
comment `# NAME only`, and the block below a comment that starts with `# NAME only`. All other
environments are written without them.

This module imports nothing of `stepwire`, because `runtime/setup.py` runs it before that is built.
"""

import re
from collections.abc import Iterator
from pathlib import Path

# Files of every environment. `{package}` is the name of the package.
FILES = (
    "__init__.py",
    "models.py",
    "client.py",
    "openenv.yaml",
    "LICENSE",
    ".gitignore",
    ".dockerignore",
    "server/__init__.py",
    "server/app.py",
    "server/{package}_environment.py",
    "server/Dockerfile",
)
FRAME = ("pyproject.toml", "README.md", "tests/test_{package}.py")
# Files that only the root's environment has.
OWN_FILES = (
    "__main__.py",
    "_bundled.py",
    "demo.py",
    "py.typed",
    "tasks.py",
    "server/_checkout.py",
    "validation/canary.json",
    "validation/oracle.py",
    "validation/runtime.json",
)

_HERE = Path(__file__).resolve().parent


class MissingTemplateError(RuntimeError):
    """This installation of `stepwire` has no template."""


def template_files() -> dict[str, Path]:
    """Where each file of the template is, by its path in a package.

    Raises `MissingTemplateError` where not all of them are: in an image, and in the copy that the
    wheel of an environment carries.
    """
    packed = _HERE / "packed_template"
    if packed.is_dir():
        return _found([packed])
    runtime = _HERE.parent.parent
    return _found([runtime / "template", runtime.parent])


def package_name(manifest: str) -> str:
    """The name in an `openenv.yaml`."""
    name = re.search(r"^name: *([\w-]+) *$", manifest, re.MULTILINE)
    if name is None:
        raise MissingTemplateError("openenv.yaml has no line `name: …`")
    return name[1]


def _found(folders: list[Path]) -> dict[str, Path]:
    manifest = _first("openenv.yaml", folders)
    package = package_name(manifest.read_text("utf-8"))
    files = [name.format(package=package) for name in (*FRAME, *FILES, *OWN_FILES)]
    return {name: _first(name, folders) for name in files}


def _first(name: str, folders: list[Path]) -> Path:
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise MissingTemplateError(
        f"this installation of stepwire has no template (no {name}): install stepwire from its "
        "repository, with `pip install ./runtime` in a clone, or from its wheel"
    )


def without_own_parts(text: str, owner: str) -> str:
    """`text` without what is marked as `owner`'s only."""
    return "".join(_kept_lines(text.splitlines(keepends=True), owner)).rstrip("\n") + "\n"


def _kept_lines(lines: list[str], owner: str) -> Iterator[str]:
    # Quotes are excluded, so that a string is not taken for a comment.
    mark = re.compile(rf"(.*?)#[^#\"']*?\b{owner} only\b[^\"']*$", re.IGNORECASE)
    position, blank = 0, 2  # blank lines just before
    while position < len(lines):
        found = mark.match(lines[position])
        if found is None:
            yield lines[position]
            blank = blank + 1 if not lines[position].strip() else 0
            position += 1
            continue
        position += 1
        if not found[1].strip():
            position = _end_of_block(lines, position, indent=len(found[1]))
        for _ in range(blank):  # keep one of the two gaps around the block
            if position < len(lines) and not lines[position].strip():
                position += 1


def _end_of_block(lines: list[str], position: int, indent: int) -> int:
    """Where the block that starts at `position` ends.

    It ends before a line that is indented less, and before a gap that no deeper line follows.
    """
    while position < len(lines):
        following = position
        while following < len(lines) and not lines[following].strip():
            following += 1
        if following == len(lines):
            return position
        depth = len(lines[following]) - len(lines[following].lstrip())
        if depth < indent or (following > position and depth <= indent):
            return position
        position = following + 1
    return position
