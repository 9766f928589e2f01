# SPDX-License-Identifier: BSD-3-Clause
"""The echo environment and its server."""

from . import _checkout  # noqa: F401 # echo only
