# SPDX-License-Identifier: BSD-3-Clause
"""The client of the echo environment."""


class EchoEnv:
    """Placeholder until the transport lands."""
