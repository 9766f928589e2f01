# SPDX-License-Identifier: BSD-3-Clause
"""`notes_env`: the environment that the runtime's tests serve, with typed fields of each kind."""

import stepwire  # noqa: F401 - first: it decides how everything below imports the framework
