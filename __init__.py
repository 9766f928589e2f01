# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment for OpenEnv: its client and its models."""

from echo_env import _bundled  # noqa: F401 # echo only

# Echo only: in this order.
# isort: split

import stepwire  # noqa: F401 # first: it makes the import of the framework fast

# Echo only.
# isort: split

from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction  # echo only

from echo_env.client import EchoEnv, EchoEnvPool
from echo_env.models import EchoAction, EchoObservation
from stepwire.client import errors, verify_stamp  # echo only
from stepwire.client.errors import *  # noqa: F403 # echo only

__version__ = "0.1.0"
__all__ = ["EchoAction", "EchoEnv", "EchoEnvPool", "EchoObservation"]
__all__ += ["CallToolAction", "ListToolsAction", "verify_stamp"]  # echo only
__all__ += errors.__all__  # echo only
