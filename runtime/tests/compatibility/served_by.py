# SPDX-License-Identifier: BSD-3-Clause
"""`create_app` of the server under test: the only line that differs for an environment."""

import os

if os.environ.get("SERVED_BY") == "stock":
    from openenv.core.env_server.http_server import create_app
else:
    from stepwire.server import create_app

__all__ = ["create_app"]
