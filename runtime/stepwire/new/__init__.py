# SPDX-License-Identifier: BSD-3-Clause
"""`python -m stepwire.new NAME` writes the package of a new environment.

python -m stepwire.new guess_number              in the folder guess_number
python -m stepwire.new --from DIRECTORY          takes a package of `openenv init` over

`create_environment` does the same from Python.
"""

from stepwire.new.names import NewEnvironmentError
from stepwire.new.package import create_environment

__all__ = ["NewEnvironmentError", "create_environment"]
