# SPDX-License-Identifier: BSD-3-Clause
"""A server of the OpenEnv protocol for any environment."""

from stepwire.server.application import create_app
from stepwire.server.settings import Settings
from stepwire.server.uvicorn_host.command_line import serve

__all__ = ["Settings", "create_app", "serve"]
