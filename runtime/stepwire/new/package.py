# SPDX-License-Identifier: BSD-3-Clause
"""`create_environment` writes the template under another name, completely or not at all."""

import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Literal

from stepwire.new.names import Names, NewEnvironmentError, check_name
from stepwire.new.stepwire_files import packed_wheel, requirements, vendored, vendored_text
from stepwire.new.template import (
    OWN_FILES,
    MissingTemplateError,
    package_name,
    template_files,
    without_own_parts,
)

Framework = Literal["openenv-core", "openenv"]
Runtime = Literal["wheel", "index", "vendor"]
FRAMEWORKS: dict[str, str] = {"openenv-core": "openenv-core>=0.3.0", "openenv": "openenv>=0.10"}


def create_environment(
    name: str | Path,
    directory: str | Path = ".",
    *,
    like: Framework = "openenv-core",
    runtime: Runtime = "wheel",
) -> Path:
    """Write the package of a new environment into a folder of its own, and return that folder.

    The folder is `directory / name`; `name` may be a path. `like` is the framework's distribution
    that it depends on. `runtime` is where it gets `stepwire`: from a `wheel` in the folder, from
    the package `index`, or from a copy inside the package (`vendor`).

    Raises `NewEnvironmentError` for a name that a package cannot have and for a folder that holds
    something. After any error, nothing was written.
    """
    folder = Path(directory, name)
    files = environment_files(Path(name).name or str(name), folder, like=like, runtime=runtime)
    _write(files, folder)
    return folder


def environment_files(
    name: str, folder: Path, *, like: Framework, runtime: Runtime
) -> dict[str, bytes]:
    """The content of each file of the environment, by its path in `folder`."""
    if like not in FRAMEWORKS or runtime not in ("wheel", "index", "vendor"):
        raise NewEnvironmentError(
            f"like must be one of {[*FRAMEWORKS]} and runtime 'wheel', 'index' or 'vendor', not "
            f"{like!r:.40} and {runtime!r:.40}"
        )
    check_name(name, folder)
    try:
        template = template_files()
    except MissingTemplateError as error:
        raise NewEnvironmentError(str(error)) from error
    owner = Names(package_name(template["openenv.yaml"].read_text("utf-8")))
    # The template's own name gives the template as it is.
    names = owner if name == owner.short else Names(name)
    texts = {
        _renamed(path, owner, names): _written(path, source.read_text("utf-8"), owner, names)
        for path, source in template.items()
        if names == owner or path not in OWN_FILES
    }
    texts["pyproject.toml"] = texts["pyproject.toml"].replace(
        FRAMEWORKS["openenv-core"], FRAMEWORKS[like]
    )
    if runtime == "vendor":
        return _with_copy(texts, names.package)
    files = {path: text.encode() for path, text in texts.items()}
    if runtime == "index":
        return files | {"pyproject.toml": _without_source(texts["pyproject.toml"]).encode()}
    wheel, content = packed_wheel()
    project = texts["pyproject.toml"].replace("wheels/stepwire.whl", f"wheels/{wheel}")
    return files | {"pyproject.toml": project.encode(), f"wheels/{wheel}": content}


def _written(path: str, text: str, owner: Names, names: Names) -> str:
    if names == owner:
        return text
    text = _renamed(without_own_parts(text, owner.short), owner, names)
    if path != "README.md":
        return text
    for key, value in (
        ("emoji", names.emoji),
        ("colorFrom", names.colors[0]),
        ("colorTo", names.colors[1]),
    ):
        text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, count=1, flags=re.MULTILINE)
    return text


def _renamed(text: str, owner: Names, names: Names) -> str:
    """`text` with each form of the owner's name replaced by the same form of another."""
    forms = {
        owner.package: names.package,
        owner.dashed: names.dashed,
        f"{owner.title} Environment": f"{names.title} Environment",
        f"{owner.words} environment": f"{names.words} environment",
        f"{owner.words.capitalize()} environment": f"{names.words.capitalize()} environment",
        owner.pascal: names.pascal,  # before another word: a class
    }
    pattern = "|".join(map(re.escape, list(forms)[:-1])) + rf"|{owner.pascal}(?=[A-Z])"
    return re.sub(pattern, lambda found: forms[found[0]], text)


def _without_source(project: str) -> str:
    """`pyproject.toml` that takes `stepwire` from the package index."""
    return re.sub(r"^\[tool\.uv\.sources\]\n(?:.+\n)+\n", "", project, flags=re.MULTILINE)


def _with_copy(texts: dict[str, str], package: str) -> dict[str, bytes]:
    """The files of an environment that has a copy of `stepwire` inside."""
    copies = vendored(package)
    folders = {Path(path).parent for path in copies if path.endswith("/__init__.py")}
    packages = ["", "server", *sorted(folder.as_posix() for folder in folders)]
    listed = "".join(f'    "{".".join([package, *Path(p).parts])}",\n' for p in packages)
    quoted = [text.replace('"', "'") for text in requirements()]
    needed = "".join(f'    "{text}",\n' for text in quoted)
    project = _without_source(texts["pyproject.toml"])
    project = re.sub(r'^    "stepwire.*\n', lambda _: needed, project, flags=re.MULTILINE)
    project = re.sub(
        r"^packages = .*$", lambda _: f"packages = [\n{listed}]", project, flags=re.MULTILINE
    )
    project = project.replace('["openenv.yaml"]', '["openenv.yaml", "stepwire/**/*"]')
    own = {
        path: vendored_text(text, package) if path.endswith((".py", "Dockerfile")) else text
        for path, text in texts.items()
    }
    files = {path: text.encode() for path, text in (own | {"pyproject.toml": project}).items()}
    return files | copies


def _write(files: dict[str, bytes], folder: Path) -> None:
    """Write into a folder beside `folder`, which then gets its name."""
    unfinished = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise NewEnvironmentError(
                f"{folder} exists and is not an empty folder. Choose another one"
            )
        if not folder.parent.is_dir():
            raise NewEnvironmentError(f"{folder.parent} is not a folder. Make it first")
        for path, content in files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_bytes(content)
        if os.name == "nt" and folder.exists():
            folder.rmdir()  # on Windows, a folder cannot replace an empty one
        unfinished.rename(folder)
    except OSError as error:
        raise NewEnvironmentError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
