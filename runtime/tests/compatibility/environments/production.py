# SPDX-License-Identifier: BSD-3-Clause
"""Served in production mode, in which the routes that control episodes do not exist."""

import os
from typing import Any

from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation

from compatibility.environments.calculator_mcp import Calculator
from compatibility.served_by import create_app

os.environ["OPENENV_MODE"] = "production"
app: Any = create_app(Calculator, CallToolAction, CallToolObservation, "calculator", 8)
