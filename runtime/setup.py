# SPDX-License-Identifier: BSD-3-Clause
"""Packs the template of `stepwire.new` into the distribution; pyproject.toml has the rest."""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_PACKED = Path("stepwire", "new", "packed_template")
_TEMPLATE = runpy.run_path(str(Path(__file__).resolve().parent / "stepwire/new/template.py"))


def _pack(folder: Path) -> None:
    try:
        files = _TEMPLATE["template_files"]()
    except _TEMPLATE["MissingTemplateError"]:
        return  # an image is built from part of the repository and needs no template
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


class BuildPy(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            _pack(Path(self.build_lib) / _PACKED)


class Sdist(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        _pack(Path(base_dir) / _PACKED)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
