# SPDX-License-Identifier: BSD-3-Clause
"""Our image beside the stock template's: size, builds, how soon it is healthy, how soon it is gone.

    tests/engine.sh --base-image uv run python benchmarks/image.py [--rounds 5]

Or without `tests/engine.sh` where Docker runs. The stock side is what `openenv init` of the
installed framework writes. The rounds interleave the two, and the table shows medians; on a shared
machine only the ratios mean something. A second table is what our image consists of.
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

from echo_env import EchoEnv

_ROOT = Path(__file__).resolve().parent.parent
_OURS, _STOCK = "echo-env:benchmark", "stock-echo:benchmark"


class Figure(NamedTuple):
    """One row of the table."""

    label: str
    name: str
    places: int
    target: str


_FIGURES = [
    Figure("size with the base image (MB)", "size_mb", 0, "ours ≤ 450"),
    Figure("first build (s)", "build_s", 0, ""),
    Figure("build after a change of the code (s)", "rebuild_s", 1, ""),
    Figure("start until healthy (s)", "healthy_s", 2, "ratio ≤ 0.4"),
    Figure("close, or stop and remove (s)", "close_s", 2, "ours ≤ 3"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    figures: dict[str, dict[str, list[float]]] = {_OURS: {}, _STOCK: {}}
    with tempfile.TemporaryDirectory() as folder:
        sources = {_OURS: _copy_ours(Path(folder)), _STOCK: _write_stock(Path(folder))}
        for image, source in sources.items():
            figures[image]["build_s"] = [_build(image, source, "--no-cache")]
            application = source / "server" / "app.py"
            application.write_text(f"{application.read_text()}# changed\n")
            figures[image]["rebuild_s"] = [_build(image, source)]
            size = int(_docker("image", "inspect", "--format={{.Size}}", image))
            figures[image]["size_mb"] = [size / 1e6]
    for _ in track(range(rounds), "Starting and stopping"):
        for image in (_OURS, _STOCK):
            figures[image].setdefault("healthy_s", []).append(_time_until_healthy(image))
        figures[_OURS].setdefault("close_s", []).append(_time_to_close())
        figures[_STOCK].setdefault("close_s", []).append(_time_to_stop(_STOCK))
    _print_table(figures)
    _print_contents()


def _docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def _copy_ours(folder: Path) -> Path:
    unwanted = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "tests")
    return Path(shutil.copytree(_ROOT, folder / "ours", ignore=unwanted))


def _write_stock(folder: Path) -> Path:
    framework = importlib.util.find_spec("openenv")
    assert framework is not None
    assert framework.submodule_search_locations is not None
    template = Path(framework.submodule_search_locations[0], "cli", "templates", "openenv_env")
    stock = Path(shutil.copytree(template, folder / "stock"))
    for file in [path for path in stock.rglob("*") if path.is_file() and path.suffix != ".pyc"]:
        text = file.read_text()
        for name, value in (("CLASS", "Echo"), ("TITLE", "Echo"), ("RANDOM", "🔊")):
            text = text.replace(f"__ENV_{name}_NAME__", value)
        file.write_text(text.replace("__ENV_NAME__", "echo"))
        file.rename(file.with_name(file.name.replace("__ENV_NAME__", "echo")))
    return stock


def _build(image: str, source: Path, *options: str) -> float:
    started = time.monotonic()
    _docker(
        "build", "--quiet", "-t", image, "-f", f"{source}/server/Dockerfile", *options, f"{source}"
    )
    return time.monotonic() - started


def _start(image: str) -> tuple[str, float]:
    """A container that is healthy, and how long that took."""
    started = time.monotonic()
    container = _docker("run", "--detach", "--publish=127.0.0.1::8000", image)
    details = json.loads(_docker("inspect", container))[0]
    port = details["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
            return container, time.monotonic() - started
        except OSError:
            time.sleep(0.02)


def _time_until_healthy(image: str) -> float:
    container, seconds = _start(image)
    _docker("rm", "--force", container)
    return seconds


def _time_to_close() -> float:
    client = EchoEnv.from_docker_image(_OURS)
    client.reset()
    started = time.monotonic()
    client.close()
    return time.monotonic() - started


def _time_to_stop(image: str) -> float:
    """As the framework's client does it, whose own call gives up after ten seconds."""
    container, _ = _start(image)
    started = time.monotonic()
    _docker("stop", container)
    _docker("rm", container)
    return time.monotonic() - started


def _print_table(figures: dict[str, dict[str, list[float]]]) -> None:
    table = Table("", "stock", "ours", "ratio", "target", title="Image, medians")
    for row in _FIGURES:
        stock, ours = (statistics.median(figures[side][row.name]) for side in (_STOCK, _OURS))
        cells = (f"{stock:.{row.places}f}", f"{ours:.{row.places}f}", f"{ours / stock:.2f}")
        table.add_row(row.label, *cells, row.target)
    Console().print(table)


def _print_contents() -> None:
    layers = _docker("history", "--human=false", "--format={{.Size}}", _OURS).splitlines()
    table = Table("", "MB", title="What our image consists of")
    table.add_row("the base image, its largest layer", f"{max(map(int, layers)) / 1e6:.1f}")
    list_sizes = "du -sk --apparent-size /app/.venv/lib/python*/site-packages/*"
    listed = _docker("run", "--rm", "--user=0", _OURS, "sh", "-c", list_sizes).splitlines()
    sizes: dict[str, int] = {}
    for line in listed:
        kilobytes, path = line.split(maxsplit=1)
        name = Path(path).name if int(kilobytes) >= 1000 else "all others"
        sizes[name] = sizes.get(name, 0) + int(kilobytes)
    for name, kilobytes in sorted(sizes.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{kilobytes / 1000:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
