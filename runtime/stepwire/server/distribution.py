# SPDX-License-Identifier: BSD-3-Clause
"""The distribution that an environment is installed with, and its metadata for users."""

import os.path
from dataclasses import dataclass, field
from email.utils import parseaddr
from functools import cache
from importlib import metadata


@dataclass(frozen=True)
class EnvironmentDistribution:
    """What pip calls the environment, such as `openenv-echo-env 0.1.0`."""

    name: str
    version: str | None = None
    """`None` for a checkout that is not installed; `name` is then that of its package."""

    author: str | None = None
    documentation_url: str | None = None
    readme: str | None = field(default=None, repr=False)

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
    return EnvironmentDistribution(
        best.name, best.version, _author(best), _documentation_url(best), _readme(best)
    )


def _author(distribution: metadata.Distribution) -> str | None:
    author, *_ = distribution.metadata.get_all("Author") or [""]
    if not author:  # the author may be in the address: `The Authors <authors@example.org>`
        addressed, *_ = distribution.metadata.get_all("Author-email") or [""]
        author = next(filter(None, parseaddr(addressed)), "")
    return author or None


def _documentation_url(distribution: metadata.Distribution) -> str | None:
    urls = {"home-page": (distribution.metadata.get_all("Home-page") or [""])[0]}
    for entry in distribution.metadata.get_all("Project-URL") or []:
        label, _, url = entry.partition(",")
        urls[label.strip().lower()] = url.strip()
    preferred = ("documentation", "docs", "homepage", "home-page", "repository", "source")
    return next((urls[label] for label in preferred if urls.get(label)), None)


def _readme(distribution: metadata.Distribution) -> str | None:
    text = str(distribution.metadata.json.get("description", ""))
    return text if text.strip() else None


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
