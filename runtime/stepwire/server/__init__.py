# SPDX-License-Identifier: BSD-3-Clause
"""A server of the OpenEnv protocol for any environment."""

from stepwire._interrupts import ended_by_signals

with ended_by_signals():
    from stepwire.server.application import create_app, create_fastapi_app
    from stepwire.server.http_env_server import HTTPEnvServer
    from stepwire.server.settings import Settings
    from stepwire.server.uvicorn_host.command_line import serve

__all__ = ["HTTPEnvServer", "Settings", "create_app", "create_fastapi_app", "serve"]
