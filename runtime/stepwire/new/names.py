# SPDX-License-Identifier: BSD-3-Clause
"""The name of an environment: which ones are refused, and its other forms."""

import importlib.util
import keyword
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_NAME = 50
_EMOJI = "🎮🎯🎲🧩🎨🚀🌟🔭🧪🧭🎹🎸🏀⚽🎾🏹🎣🐢🦊🐙🌵🍀🍄🔑"
_COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
# Modules and folders of the package itself, what it is built on, and what its tools import.
_RESERVED = {
    *("client", "models", "server", "wheels"),
    *("stepwire", "conftest", "setup"),
}


class NewEnvironmentError(ValueError):
    """A name, an option or a folder is wrong; the message says what to do. Nothing was written."""


@dataclass(frozen=True)
class Names:
    """The forms of an environment's name: `Names("guess_number")`."""

    package: str

    @property
    def short(self) -> str:
        """Without the ending `_env`: the framework finds the environment by this name."""
        return self.package.removesuffix("_env")

    @property
    def dashed(self) -> str:
        """`guess-number`, as images, commands and distributions are called."""
        return self.package.replace("_", "-")

    @property
    def pascal(self) -> str:
        """`GuessNumber`, the first part of the names of its classes."""
        return "".join(word.capitalize() for word in self.short.split("_"))

    @property
    def words(self) -> str:
        """`guess number`, in sentences."""
        return self.short.replace("_", " ")

    @property
    def title(self) -> str:
        """`Guess Number`, in titles."""
        return self.words.title()

    @property
    def emoji(self) -> str:
        """The emoji of the Space: always the same for a name, different for most names."""
        return _EMOJI[self._number % len(_EMOJI)]

    @property
    def colors(self) -> tuple[str, str]:
        """The two different colours of the Space."""
        first = self._number // len(_EMOJI) % len(_COLORS)
        second = first + 1 + self._number // 1000 % (len(_COLORS) - 1)
        return _COLORS[first], _COLORS[second % len(_COLORS)]

    @property
    def _number(self) -> int:
        return zlib.crc32(self.package.encode())


def check_name(name: str, folder: Path) -> None:
    """Raises `NewEnvironmentError`, with another name, unless a package may be called `name`.

    `folder` is where it will be written. A package found there does not count as installed.
    """
    problem = _problem(name, folder)
    if problem:
        other = next(other for other in _suggestions(name) if not _problem(other, folder))
        raise NewEnvironmentError(f"{name!r:.80} {problem}. Choose another name, such as {other!r}")


def _problem(name: str, folder: Path) -> str:
    """Why a package cannot be called `name`; empty if it can."""
    if not name:
        return "is empty"
    if len(name) > LONGEST_NAME:
        return f"has {len(name)} characters, and at most {LONGEST_NAME} are possible"
    if keyword.iskeyword(name):
        return "is a keyword of Python"
    if name in sys.stdlib_module_names:
        return "is a module of the standard library"
    if name.startswith("test"):
        return "starts with `test`, so pytest would take its classes for tests"
    if name in _RESERVED:
        return "is the name of something that each environment has or needs"
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name, re.ASCII):
        return (
            "is not snake_case: lower-case letters, digits and single underscores, a letter first"
        )
    if "_env" in name.removesuffix("_env") or "openenv" in name:
        return "has `_env` or `openenv` inside, which the framework's AutoEnv leaves out of names"
    if _is_installed(name, folder):
        return "is an installed package, which the new one would hide"
    return ""


def _is_installed(name: str, folder: Path) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True  # something has the name, even if it cannot be imported
    if spec is None or spec.origin is None:  # the second is a folder without `__init__.py`
        return False
    # Python also searches the working folder, which may hold the environment of an earlier call.
    here = Path.cwd()
    return Path(spec.origin).resolve().parent not in (folder.resolve(), here, here / name)


def _suggestions(name: str) -> Iterator[str]:
    """Names like `name`; one of the last ones is always accepted."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    words = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    words = re.sub(r"openenv|_env(?=.)", "_", words)
    words = re.sub(r"_+", "_", words).strip("_")
    words = words[: LONGEST_NAME - len("game__env")].strip("_")
    if words[:1].isdigit():
        words = f"game_{words}"
    yield words
    yield f"{words.removesuffix('_env')}_env"
    yield f"my_{words}"
    yield "my_env"
    yield from (f"game_{number}_env" for number in range(1_000_000))
