# SPDX-License-Identifier: BSD-3-Clause
"""Addresses of servers."""

import re


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment."""
    return re.sub(r"//[^/]*@", "//", re.sub("[?#].*", "", url))
