# SPDX-License-Identifier: BSD-3-Clause
"""The framework's command line, with a Hugging Face Hub that only keeps what it receives.

UPLOADS=FOLDER python tests/stand_in_hub.py push …

The first upload becomes `FOLDER/0`; `FOLDER/0.json` has the Space's name, visibility and variables.
The real client's own filter chooses the files.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import echo_env  # noqa: F401 - first: postpones imports of the framework that `push` does not use

# isort: split
from huggingface_hub.utils import filter_repo_objects
from openenv.cli.__main__ import main
from openenv.cli.commands import push


class StandInForTheHub:
    """The methods of `HfApi` that `push` calls."""

    def create_repo(self, **options: Any) -> None:
        self._private = options["private"]

    def upload_folder(self, **options: Any) -> None:
        folder, kept = Path(options["folder_path"]), Path(os.environ["UPLOADS"])
        number = len(list(kept.glob("*.json")))
        files = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        for file in filter_repo_objects(files, ignore_patterns=options["ignore_patterns"]):
            copy = kept / str(number) / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, copy)
        told = {"repo_id": options["repo_id"], "private": self._private, "variables": {}}
        self._told_in = kept / f"{number}.json"
        self._told_in.write_text(json.dumps(told))

    def add_space_variable(self, key: str, value: str, **_: Any) -> None:
        told = json.loads(self._told_in.read_text())
        told["variables"][key] = value
        self._told_in.write_text(json.dumps(told))


push.HfApi = StandInForTheHub
push.whoami = lambda: {"name": "me"}
main()
