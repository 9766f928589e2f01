# SPDX-License-Identifier: BSD-3-Clause
"""The quality gate: format, lint, types, tests with coverage. It stops at the first failure.

uv run --group check python tests/check.py [OPTION OF PYTEST …]
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

_ROOT = Path(__file__).resolve().parent.parent
_SCRIPTS = Path(sys.executable).parent
_GYMNASIUM = "gymnasium>=1.2"
_UV = os.environ.get("UV", "uv")  # `uv run` says where it is


def check_format() -> None:
    _run(_SCRIPTS / "ruff", "format", "--check", ".")


def check_lint() -> None:
    _run(_SCRIPTS / "ruff", "check", ".")


def check_types() -> None:
    """Check the installed wheel: of an editable flat package mypy sees nothing.

    `tests/typed_use.py` is checked with it: it fails once a class of the framework is `Any`.
    """
    with TemporaryDirectory(prefix="echo-env-types-") as folder:
        environment = Path(folder, "environment")
        _run(_UV, "build", "--quiet", "--out-dir", folder)
        _run(_UV, "venv", "--quiet", "--python", sys.executable, environment)
        install = (_UV, "pip", "install", "--quiet", "--no-deps", "--python", environment)
        _run(*install, "--requirements", "requirements.lock")
        _run(*install, *Path(folder).glob("*.whl"))
        # The pytest and the Gymnasium that parts of the package are for.
        others = ("--group", "dev", _GYMNASIUM)
        _run(_UV, "pip", "install", "--quiet", "--python", environment, *others)
        _run(
            *(_SCRIPTS / "mypy", "--cache-dir", os.devnull),
            *("--python-executable", environment / "bin" / "python"),
            *("-p", "echo_env", "-m", "typed_use"),
            MYPYPATH="tests",
        )


def check_tests() -> None:
    """Run the tests, servers included under coverage, and hold the floor of pyproject.toml."""
    with TemporaryDirectory(prefix="echo-env-coverage-") as folder:
        coverage, data_file = _SCRIPTS / "coverage", str(Path(folder, "data"))
        _run(coverage, "run", _SCRIPTS / "pytest", *sys.argv[1:], COVERAGE_FILE=data_file)
        _run(coverage, "combine", "--quiet", COVERAGE_FILE=data_file)
        _run(coverage, "report", COVERAGE_FILE=data_file)


def _run(*command: str | Path, **variables: str) -> None:
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=_ROOT, env=os.environ | variables, check=False)
    if done.returncode:
        raise SystemExit(f"FAILED (exit code {done.returncode}): {' '.join(arguments)}")


def main() -> None:
    checks: list[Callable[[], None]] = [check_format, check_lint, check_types, check_tests]
    for check in checks:
        started = time.monotonic()
        check()
        print(f"ok  {check.__name__} ({time.monotonic() - started:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
