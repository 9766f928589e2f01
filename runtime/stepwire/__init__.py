# SPDX-License-Identifier: BSD-3-Clause
"""The runtime of OpenEnv environments: server, client, conformance kit, integrations."""

from stepwire._interrupts import ended_by_signals

with ended_by_signals():
    # First: it decides how everything below imports the framework.
    from stepwire import _framework  # noqa: F401

__version__ = "0.1.0"
