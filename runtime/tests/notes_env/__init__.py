# SPDX-License-Identifier: BSD-3-Clause
"""The environment that the runtime's tests serve: it takes notes. It has typed fields of each kind."""

import stepwire  # noqa: F401 - first: it decides how everything below imports the framework
