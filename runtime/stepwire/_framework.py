# SPDX-License-Identifier: BSD-3-Clause
"""How this package imports the OpenEnv framework: only the modules it uses, from one distribution.

`import openenv.core.env_server.types` first runs two package initialisers that load a web
framework for user interfaces and an MCP implementation: seconds of CPU and about 100 MB that
neither our client nor our server uses. Here those two packages are registered unexecuted; whoever
asks one of them for a name it does not have yet (`openenv.core.EnvClient`) runs its initialiser
then, whole and unchanged. Nothing is lost, only postponed.
"""

import importlib.util
import sys
import threading
import warnings
from importlib import metadata
from types import ModuleType
from typing import Any

_POSTPONED_PACKAGES = ("openenv.core", "openenv.core.env_server")
_DISTRIBUTIONS = ("openenv-core", "openenv")


class PostponedPackage(ModuleType):
    """A package whose submodules import as usual and whose `__init__` runs when first needed."""

    def __getattr__(self, name: str) -> Any:
        # Dunder look-ups are how tools inspect modules (`__file__`, `__wrapped__`), not a use of
        # the package; `__all__` is the exception, it is what `import *` asks for.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        state = self.__dict__
        with state["__init_lock__"]:
            if self.__class__ is PostponedPackage:
                # Before running it: the initialiser reads itself.
                self.__class__ = ModuleType  # type: ignore[assignment]
                try:
                    self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                except BaseException:
                    self.__class__ = PostponedPackage
                    raise
        return getattr(self, name)


def postpone(package: str) -> None:
    """Register `package` without running its `__init__`; does nothing where it already ran."""
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
    module.__dict__["__init_lock__"] = threading.RLock()
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    setattr(sys.modules[parent], child, module)


def warn_if_both_distributions_are_installed() -> None:
    """Warn when `openenv-core` and `openenv` share an environment: each overwrote the other."""
    installed = []
    for name in _DISTRIBUTIONS:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if len(installed) > 1:
        warnings.warn(
            f"{' and '.join(installed)} are both installed; they overwrite each other's files, so "
            "what is imported is a mixture. Keep one: `pip uninstall -y openenv openenv-core`, "
            "then `pip install openenv-core` (or `pip install openenv`).",
            RuntimeWarning,
            stacklevel=2,
        )


warn_if_both_distributions_are_installed()
for _package in _POSTPONED_PACKAGES:
    postpone(_package)
