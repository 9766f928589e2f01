# SPDX-License-Identifier: BSD-3-Clause
"""Draws the panels of `docs/monitoring/dashboard.json` from a real run: `dashboard.svg`.

    uv run python benchmarks/dashboard.py

It needs Prometheus and takes three minutes. Up to 32 users share a server with two workers and 24
places, so some of them are refused; some of their steps fail on purpose.
"""

import json
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
from lines import Panel, draw_lines

from echo_env import EchoAction, EchoEnv
from stepwire.client import EnvClientError
from stepwire.testing.servers import reserved_port, running_server, serving_command

_MONITORING = Path(__file__).resolve().parent.parent / "docs" / "monitoring"
_SECONDS = 150
_USERS = 32
_SETTINGS = {"MAX_CONCURRENT_ENVS": "24", "WORKERS": "2", "SCENARIOS": "on"}
# By Grafana's name for it: what is drawn, and how many of it that is.
_UNITS = {
    "s": ("ms", 1e3),
    "bytes": ("MB", 1e-6),
    "Bps": ("kB/s", 1e-3),
    "ops": ("1/s", 1),
    "percentunit": ("% of a core", 100),
    "short": ("", 1),
}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        reserved_port() as port,
        reserved_port() as prometheus_port,
    ):
        folder = Path(name)
        configuration = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {"job_name": "stepwire", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
        command = serving_command("echo_env.server.app", port)
        watching = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ]
        with (
            running_server(command, folder, port=port, env=_SETTINGS) as server,
            running_server(watching, folder, port=prometheus_port, health="/-/ready") as prometheus,
        ):
            began = time.time()
            _use(server.url)
            _draw(prometheus.url, began, time.time())


def _use(url: str) -> None:
    """More and more users, then fewer."""
    end = time.monotonic() + _SECONDS
    users = [
        threading.Thread(target=_play, args=(url, number, end - _SECONDS * 0.4 * number / _USERS))
        for number in range(_USERS)
    ]
    for user in users:
        user.start()
        time.sleep(_SECONDS * 0.5 / _USERS)
    for user in users:
        user.join()


def _play(url: str, number: int, end: float) -> None:
    draw = random.Random(number)
    while time.monotonic() < end:
        try:
            with EchoEnv(base_url=url) as env:
                env.reset(seed=number, scenario={"fail_rate": 0.02 if number % 8 == 0 else 0.0})
                for _ in range(draw.randrange(100, 400)):
                    try:
                        env.step(EchoAction(message="x" * draw.randrange(10, 2000)))
                    except EnvClientError:
                        time.sleep(0.05)
                    time.sleep(draw.uniform(0.01, 0.06))
        except EnvClientError:
            time.sleep(draw.uniform(0.5, 2.0))  # the server is full


def _draw(url: str, began: float, ended: float) -> None:
    drawn = []
    for panel in json.loads((_MONITORING / "dashboard.json").read_text("utf-8"))["panels"]:
        unit, factor = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
        lines = {}
        for target in panel["targets"]:
            for labels, points in _series(url, target["expr"], began, ended):
                name = target["legendFormat"].replace("{{instance}} ", "worker ")
                for key, value in labels.items():
                    name = name.replace("{{" + key + "}}", value)
                lines[name] = [(at - began, value * factor) for at, value in points]
        title = panel["title"] + (f" ({unit})" if unit else "")
        drawn.append(Panel(title, "seconds", lines))
    (_MONITORING / "dashboard.svg").write_text(draw_lines(drawn), "utf-8")


def _series(url: str, query: str, began: float, ended: float) -> list[tuple[Any, Any]]:
    """The labels and the points of each series that is not zero throughout."""
    query = query.replace("$instance", ".*").replace("$__rate_interval", "10s")
    parameters: dict[str, Any] = {"query": query, "start": began, "end": ended, "step": 2}
    answer = requests.get(f"{url}/api/v1/query_range", params=parameters, timeout=60).json()
    assert answer["status"] == "success", (query, answer)
    found = [
        (series["metric"], [(at, float(value)) for at, value in series["values"]])
        for series in answer["data"]["result"]
    ]
    return [(labels, points) for labels, points in found if any(value for _, value in points)]


if __name__ == "__main__":
    main()
