# SPDX-License-Identifier: BSD-3-Clause
"""All checks, one module for each part of the contract; importing this registers them."""

from stepwire.conformance.checks import (  # noqa: F401 - imported to register
    http_routes,
    limits,
    operation,
    refusals,
    schemas,
    sessions,
    tools,
)
