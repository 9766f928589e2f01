# SPDX-License-Identifier: BSD-3-Clause
"""The distribution that an environment is installed with: its name and version for users."""

import os.path
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata


@dataclass(frozen=True)
class EnvironmentDistribution:
    """What pip calls the environment, such as `openenv-echo-env 0.1.0`."""

    name: str
    version: str | None = None
    """`None` for a checkout that is not installed; `name` is then that of its package."""

    def __str__(self) -> str:
        return f"{self.name} {self.version or '(checkout, not installed)'}"


@cache
def distribution_of(module: str) -> EnvironmentDistribution:
    """The distribution that `module` belongs to, found by its top-level package.

    Takes a few milliseconds the first time: call it when the answer is shown, not at start-up.
    """
    package = module.partition(".")[0]
    installed = list(metadata.distributions())
    found = [entry for entry in installed if _declares(entry, package)]
    found = found or [entry for entry in installed if _contains(entry, package)]
    if not found:
        return EnvironmentDistribution(package)
    # Of equally close ones, this is the first on the path, which is also the one that is imported.
    best = max(found, key=lambda entry: _closeness(entry, module))
    return EnvironmentDistribution(best.name, best.version)


def metadata_of(environment: Environment[Any, Any, Any]) -> EnvironmentMetadata:
    """The environment's own metadata; without a `get_metadata`, its distribution's version."""
    described: EnvironmentMetadata = environment.get_metadata()
    if type(environment).get_metadata is Environment.get_metadata:
        described.version = distribution_of(type(environment).__module__).version
    return described


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
        readme_content=_readme(env_name),
    )


def _readme(env_name: str | None) -> str | None:
    candidates = [os.environ.get("ENV_README_PATH", "")]
    if env_name:
        candidates += [f"envs/{env_name}/README.md", f"src/envs/{env_name}/README.md"]
    for path in (*candidates, "/app/env/README.md", "/app/README.md"):
        with suppress(OSError, UnicodeDecodeError):
            return Path(path).read_text(encoding="utf-8")
    return None


# `packages_distributions()` parses the file list of everything installed, and misses the editable
# installs of some build backends.
def _declares(distribution: metadata.Distribution, package: str) -> bool:
    """Whether it names `package` as a top-level package or as the target of a command."""
    if package in (distribution.read_text("top_level.txt") or "").split():
        return True
    return any(target[0] == package for target in _targets(distribution))


def _contains(distribution: metadata.Distribution, package: str) -> bool:
    files = distribution.read_text("RECORD") or ""
    return files.startswith(f"{package}/") or f"\n{package}/" in files


def _closeness(distribution: metadata.Distribution, module: str) -> int:
    """How many parts of `module` a command shares: tells parts of a namespace package apart."""
    name = module.split(".")
    targets = _targets(distribution)
    return max((len(os.path.commonprefix([target, name])) for target in targets), default=0)


def _targets(distribution: metadata.Distribution) -> list[list[str]]:
    """The modules that its entry points name, each split at its dots."""
    return [entry.value.partition(":")[0].split(".") for entry in distribution.entry_points]
