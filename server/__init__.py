# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment, and a server of the OpenEnv protocol for it and any other environment."""

from . import _checkout  # noqa: F401
