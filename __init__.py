# SPDX-License-Identifier: BSD-3-Clause
"""The reference environment for OpenEnv: it echoes, on every surface of the protocol."""

import sys
from importlib.util import find_spec
from pathlib import Path

# A clone and a wheel hold a copy of `stepwire`, for where none is installed. An uninstalled one may
# have left its folder behind: that is found, but has no origin.
if getattr(find_spec("stepwire"), "origin", None) is None:
    sys.path.append(str(Path(__file__).resolve().parent / "runtime"))

# isort: split
import stepwire.client

if tuple(map(int, stepwire.__version__.split(".")[:2])) < (0, 1):
    raise ImportError(
        f"echo_env needs stepwire 0.1 or later, but stepwire {stepwire.__version__} is installed. "
        "Upgrade it, or uninstall it: echo_env then uses its own copy."
    )

from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction

from echo_env.client import EchoEnv, EchoEnvPool
from echo_env.models import EchoAction, EchoObservation
from stepwire.client import errors, verify_stamp
from stepwire.client.errors import *  # noqa: F403

__version__ = "0.1.0"
__all__ = ["CallToolAction", "EchoAction", "EchoEnv", "EchoEnvPool", "EchoObservation"]
__all__ += ["ListToolsAction", "verify_stamp"]
__all__ += errors.__all__
