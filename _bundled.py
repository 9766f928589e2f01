# SPDX-License-Identifier: BSD-3-Clause
"""Finds `stepwire`: a clone and a wheel hold a copy, for where none is installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

# Uninstalling can leave an empty folder behind. It is found, but has no origin.
if getattr(find_spec("stepwire"), "origin", None) is None:
    sys.path.append(str(Path(__file__).resolve().parent / "runtime"))

# isort: split
import stepwire

if tuple(map(int, stepwire.__version__.split(".")[:2])) < (0, 1):
    raise ImportError(
        f"echo_env needs stepwire 0.1 or later, but stepwire {stepwire.__version__} is installed. "
        "Upgrade it, or uninstall it: echo_env then uses its own copy."
    )
