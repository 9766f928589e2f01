# SPDX-License-Identifier: BSD-3-Clause
"""`CONTRIBUTING.md`: its tree is the repository's, its marks and commands exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from document import ROOT, Document

page = Document("CONTRIBUTING.md")
_TREE = "Two packages, 1"


def _documented_tree() -> set[str]:
    paths: set[str] = set()
    folders: list[str] = []
    for line in page.code(_TREE).splitlines()[1:]:
        match = re.match(r"([│ ]*)[├└]── (\S+)", line)
        assert match, line
        folders[len(match[1]) // 4 :] = [match[2].rstrip("/")]
        paths.add("/".join(folders) + ("/" if match[2].endswith("/") else ""))
    return paths


def _own_files() -> Iterator[str]:
    """What is in git; where git does not know, everything that is not made by tools."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "ls-files"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        yield from (path for path in listed.stdout.splitlines() if (ROOT / path).exists())
        return
    made = re.compile(
        r"(^|/)(\.git|\.venv[^/]*|__pycache__|\.\w+_cache|[^/]+\.egg-info|build|dist)/"
        r"|^(\.coverage[^/]*|uv\.lock)$|\.pyc$"
    )
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT).as_posix()
        if path.is_file() and not made.search(relative):
            yield relative


@page.tests(_TREE)
def test_the_tree_is_the_repositorys() -> None:
    documented = _documented_tree()
    for path in documented:
        assert (ROOT / path).exists(), f"{path} is in CONTRIBUTING.md only"
    for path in _own_files():
        assert _is_covered(path, documented), f"{path} is not in CONTRIBUTING.md"


def _is_covered(path: str, documented: set[str]) -> bool:
    """A folder stands for all in it, or for its files where only folders in it are listed."""
    if path in documented:
        return True
    folder = path.rpartition("/")[0]
    while folder and f"{folder}/" not in documented:
        folder = folder.rpartition("/")[0]
    listed = [
        other for other in documented if other.startswith(f"{folder}/") and other != f"{folder}/"
    ]
    is_file_of_it = path.rpartition("/")[0] == folder
    return bool(folder) and (not listed or (is_file_of_it and all(o.endswith("/") for o in listed)))


def test_the_marks_are_those_of_pytest() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    chosen = re.findall(r"-m not \(([\w ]+)\)", project)[0].split(" or ")
    rows = page.table("From a clone to green")
    assert {mark.strip("`") for mark, *_ in rows} == set(chosen)
    for mark, _, command in rows:
        assert f"pytest -m {mark.strip('`')}" in command
        for group in re.findall(r"--(?:group|extra) (\w+)", command):
            assert f"\n{group} = [" in project


@page.tests(*(f"From a clone to green, {place}" for place in (1, 2, 3)), "Dependencies, 1")
def test_the_commands_are_those_of_ci() -> None:
    """Running them here would run this test again, or change the lock."""
    commands = page.code("From a clone to green, 1").splitlines()
    assert " && ".join(commands) == Document("README.md").code("Run it, 2").strip()
    (check,) = page.code("From a clone to green, 2").splitlines()
    assert (ROOT / re.findall(r"scripts/\w+", check)[0]).exists()
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    for pruned in re.findall(r"--prune ([\w-]+)", page.code("Dependencies, 1")):
        assert not re.search(rf"^{pruned}==", lock, re.MULTILINE)


@page.tests("From a clone to green, 4")
def test_the_benchmarks_are_there() -> None:
    for file in re.findall(r"benchmarks/\w+\.py", page.code("From a clone to green, 4")):
        assert (ROOT / file).exists()


test_blocks = page.test_the_other_blocks()
