# SPDX-License-Identifier: BSD-3-Clause
"""From nothing to the first step that a new environment serves, beside `openenv init`.

    uv run python benchmarks/first_steps.py

Both generations of the framework are installed for it. The packages come from uv's cache, if it has
them: run it twice. Prints a table in Markdown.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stepwire.testing.servers import reserved_port, without_settings

_NEW = [sys.executable, "-m", "stepwire.new", "maze"]
_ENVIRONMENTS = {
    "`openenv init`, 0.3.0": ["openenv-core==0.3.0"],
    "`openenv init`, 0.10.0": ["openenv==0.10.0"],
    "`stepwire.new`": _NEW,
    "`stepwire.new --like openenv`": [*_NEW, "--like", "openenv"],
}
_ROUNDS = 3
_UV = os.environ.get("UV") or shutil.which("uv") or "uv"
_SETTINGS = without_settings({"VIRTUAL_ENV": "", "UV_PROJECT_ENVIRONMENT": ".venv"})


class Result(NamedTuple):
    files: int
    lines: int
    written_s: float
    first_step_s: float
    cpu_s: float


def main() -> None:
    print("| | files | lines | written (s) | first step (s) | start-up, CPU (s) |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, command in _ENVIRONMENTS.items():
        with tempfile.TemporaryDirectory() as folder:
            result = _measure(command, Path(folder))
        print(
            f"| {name} | {result.files} | {result.lines} | {result.written_s:.1f} "
            f"| {result.first_step_s:.1f} | {result.cpu_s:.2f} |",
            flush=True,
        )


def _measure(command: list[str], folder: Path) -> Result:
    is_stock = len(command) == 1
    if is_stock:
        subprocess.run([_UV, "venv", "--quiet", "cli"], cwd=folder, check=True)
        install = [_UV, "pip", "install", "--quiet", "--python", "cli/bin/python", *command]
        subprocess.run(install, cwd=folder, check=True)
        command = ["cli/bin/openenv", "init", "maze"]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=_SETTINGS, stdout=subprocess.DEVNULL, check=True)
    written = time.perf_counter() - started
    package = folder / "maze"
    texts = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".whl"]
    texts = [path for path in texts if path.name != "uv.lock"]
    # The stock `server` command takes no port.
    serve = ["uvicorn", "maze.server.app:app"] if is_stock else ["server"]
    with _first_step([_UV, "run", *serve], package) as (first_step, _):
        pass
    cpu = []
    for _ in range(_ROUNDS):
        own = [package / ".venv" / "bin" / "python", "-m", *serve]
        own = own if is_stock else [*own[:2], "maze.server.app"]
        with _first_step(list(map(str, own)), package) as (_, process):
            cpu.append(_cpu_s(process.pid))
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in texts)
    return Result(len(texts), lines, written, first_step, min(cpu))


@contextmanager
def _first_step(
    command: list[str], folder: Path
) -> Iterator[tuple[float, subprocess.Popen[bytes]]]:
    """Seconds from the start of a server to the answer of its first step, and its process."""
    with reserved_port() as port:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=_SETTINGS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _step(f"http://127.0.0.1:{port}/step", process)
            yield time.perf_counter() - started, process
        finally:
            process.terminate()
            process.wait()


def _step(url: str, process: subprocess.Popen[bytes]) -> None:
    body = json.dumps({"action": {"message": "Hi"}}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    while process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.load(answer)["observation"]["echoed_message"] == "Hi"
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{process.args!r} ended with {process.returncode}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
