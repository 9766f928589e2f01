# SPDX-License-Identifier: BSD-3-Clause
"""An environment's description for users: the metadata of `/metadata` and of the pages.

An author's `get_metadata` comes first. What it leaves out is found in the environment's docstring,
its distribution and its README.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

from stepwire.server.distribution import distribution_of

_PROJECT_FILES = ("pyproject.toml", "openenv.yaml")


def metadata_of(
    environment: Environment[Any, Any, Any], env_name: str | None = None
) -> EnvironmentMetadata:
    """The environment's metadata, complete; `env_name` may lead to its README."""
    described = metadata_of_class(type(environment), env_name)
    if described is not None:
        return described
    described = environment.get_metadata()
    return _completed(described, type(environment), env_name)


def metadata_of_class(cls: Any, env_name: str | None = None) -> EnvironmentMetadata | None:
    """The same without an environment; `None` for a class with a `get_metadata` of its own."""
    if getattr(cls, "get_metadata", None) is not Environment.get_metadata:
        return None
    name = cls.__name__
    paragraph = inspect.cleandoc(vars(cls).get("__doc__") or "").partition("\n\n")[0]
    description = " ".join(paragraph.split()) or f"{name} environment"
    return _completed(EnvironmentMetadata(name=name, description=description), cls, env_name)


def metadata_of_factory(
    make: Callable[[], Environment[Any, Any, Any]], env_name: str | None
) -> EnvironmentMetadata:
    """Metadata for the framework's pages: the name, and the README if one is found.

    No environment is made. These are the values of the framework's `load_environment_metadata`,
    whose module imports Gradio.
    """
    function = make.func if isinstance(make, partial) else make
    name = str(getattr(function, "__name__", type(function).__name__))
    described = name if isinstance(function, type) else env_name or name
    return EnvironmentMetadata(
        name=env_name or name,
        description=f"{described} environment",
        version="1.0.0",
        readme_content=_first(_framework_readmes(env_name)),
    )


def _completed(
    described: EnvironmentMetadata, cls: type, env_name: str | None
) -> EnvironmentMetadata:
    distribution = distribution_of(cls.__module__)
    found = {
        "version": distribution.version,
        "author": distribution.author,
        "documentation_url": distribution.documentation_url,
        "readme_content": readme_of(cls.__module__, env_name) or distribution.readme,
    }
    missing = {name: value for name, value in found.items() if getattr(described, name) is None}
    completed: EnvironmentMetadata = described.model_copy(update=missing)
    return completed


@cache
def readme_of(module: str, env_name: str | None) -> str | None:
    """The README that the framework finds, else the one beside the environment."""
    return _first([*_framework_readmes(env_name), *_readmes_beside(module)])


def _framework_readmes(env_name: str | None) -> list[Path]:
    candidates = [os.environ.get("ENV_README_PATH", "")]
    if env_name:
        candidates += [f"envs/{env_name}/README.md", f"src/envs/{env_name}/README.md"]
    return [Path(path) for path in (*candidates, "/app/env/README.md", "/app/README.md")]


def _readmes_beside(module: str) -> Iterator[Path]:
    """The folders of the packages around the module, innermost first, then the project's."""
    top = Path(getattr(sys.modules.get(module), "__file__", None) or "/").resolve().parent
    package = module.rpartition(".")[0]
    while package:
        for folder in getattr(sys.modules.get(package), "__path__", ()):
            yield Path(folder) / "README.md"
            top = Path(folder).resolve().parent
        package = package.rpartition(".")[0]
    if any((top / file).is_file() for file in _PROJECT_FILES):
        yield top / "README.md"


def _first(paths: list[Path]) -> str | None:
    for path in paths:
        with suppress(OSError, UnicodeDecodeError):
            return path.read_text(encoding="utf-8")
    return None
