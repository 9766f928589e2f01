# SPDX-License-Identifier: BSD-3-Clause
"""The checks, a module for each part of the contract; importing this registers all of them."""

from stepwire.conformance.checks import (  # noqa: F401 - imported to register
    http_routes,
    limits,
    operation,
    refusals,
    schemas,
    sessions,
    tools,
)
