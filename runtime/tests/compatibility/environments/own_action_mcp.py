# SPDX-License-Identifier: BSD-3-Clause
"""An `MCPEnvironment` served with an action class of its own: tools are called over MCP."""

from typing import Any

from compatibility.environments.mode_tools_mcp import Shout, Voice, Volume
from compatibility.served_by import create_app

app: Any = create_app(Voice, Shout, Volume, max_concurrent_envs=8)
