# SPDX-License-Identifier: BSD-3-Clause
"""Imports of the OpenEnv framework: only the modules in use, from one distribution.

`import openenv.core.env_server.types` would first run the initialisers of two packages. They load a
web framework for user interfaces and an MCP implementation: seconds of CPU and about 100 MB that
neither our client nor our server uses. So the two packages are registered here without running
their initialisers. Each runs, whole and unchanged, as soon as a name is missing in its package
(`openenv.core.EnvClient`).
"""

import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

_POSTPONED_PACKAGES = ("openenv.core", "openenv.core.env_server")
_DISTRIBUTIONS = ("openenv-core", "openenv")


# One for all packages, as one initialiser may run another.
_lock = threading.RLock()
_initialising: set[str] = set()


class PostponedPackage(ModuleType):
    """A package whose submodules import as usual and whose `__init__` runs when first needed."""

    def __getattr__(self, name: str) -> Any:
        # Tools read dunder names to inspect modules (`__file__`, `__wrapped__`), which must not run
        # the initialiser. The exception is `__all__`, which `import *` reads.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _lock:  # other threads wait here until the package is whole
            _initialise(self)
        return ModuleType.__getattribute__(self, name)


def _initialise(package: ModuleType) -> None:
    """Run `__init__`, unless that is done or this thread is doing it: `__init__` reads itself."""
    name = package.__name__
    if type(package) is not PostponedPackage or name in _initialising:
        return
    _initialising.add(name)
    try:
        package.__spec__.loader.exec_module(package)  # type: ignore[union-attr]
        package.__class__ = ModuleType  # type: ignore[assignment] # other threads wait until here
    finally:
        _initialising.remove(name)


def postpone(package: str) -> None:
    """Register `package` without running its `__init__`. Does nothing if it is imported already."""
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    module = PostponedPackage(package)
    module.__spec__ = spec
    module.__file__ = spec.origin
    module.__loader__ = spec.loader
    module.__package__ = package
    module.__path__ = spec.submodule_search_locations  # type: ignore[assignment]
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    setattr(sys.modules[parent], child, module)


def warn_if_both_distributions_are_installed() -> None:
    """Warn when both `openenv-core` and `openenv` are installed: each overwrites the other."""
    installed = []
    for name in _DISTRIBUTIONS:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if len(installed) > 1:
        warnings.warn(
            f"{' and '.join(installed)} are both installed. They overwrite each other's files, so "
            "the framework is now a mixture of both. Keep one: "
            "`pip uninstall -y openenv openenv-core`, then `pip install openenv-core` (or "
            "`pip install openenv`).",
            RuntimeWarning,
            stacklevel=4,  # the line that imports `stepwire`
        )


class _Later(ModuleType):
    """Stands for a module in those that import it, and imports it when it is first used."""

    def __getattr__(self, name: str) -> Any:
        _remove(self)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def imported_later(name: str) -> Iterator[None]:
    """Within the block, `import name` costs nothing; all other code gets the module itself."""
    later = _Later(name)
    sys.modules.setdefault(name, later)
    try:
        yield
    finally:
        _remove(later)


def _remove(later: _Later) -> None:
    if sys.modules.get(later.__name__) is later:
        del sys.modules[later.__name__]


warn_if_both_distributions_are_installed()
for _package in _POSTPONED_PACKAGES:
    postpone(_package)
