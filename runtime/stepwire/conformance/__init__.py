# SPDX-License-Identifier: BSD-3-Clause
"""Does a server speak OpenEnv? The contract, checks of any server, and exact frames of it.

python -m stepwire.conformance http://localhost:8000     a running server
pytest --openenv-url http://localhost:8000               the same, as tests
class TestMine(EnvironmentConformance): …                an environment, in its author's tests
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwire.testing.conformance import EnvironmentConformance

__all__ = ["EnvironmentConformance"]


def __getattr__(name: str) -> Any:
    # Later: pytest loads a module of this package in every run.
    if name in __all__:
        from stepwire.testing import conformance as environment

        return getattr(environment, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
