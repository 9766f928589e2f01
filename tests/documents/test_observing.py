# SPDX-License-Identifier: BSD-3-Clause
"""`docs/observing.md`, with a real Prometheus (marked `operating`) and a collector process."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from waiting import wait_until

from document import ADDRESS, ROOT, Document
from echo_env import EchoAction, EchoEnv
from stepwire.testing.servers import (
    Server,
    reserved_port,
    running_server,
    without_settings,
)

page = Document("docs/observing.md")
_MONITORING = ROOT / "docs" / "monitoring"
_COLLECTOR = ROOT / "runtime/tests/server/observing/otlp_collector.py"
_TOKEN = "a-token-of-16-characters"
_OF_HISTOGRAMS = ("_bucket", "_count", "_sum", "_created")


def _documented() -> dict[str, tuple[str, str]]:
    """Type and label of each metric."""
    rows = page.table("Metrics")
    return {
        name: (kind, label.strip("`"))
        for names, kind, label, _ in rows
        for name in re.findall(r"`(\w+)`", names)
    }


def _dashboard_queries() -> dict[str, str]:
    panels = json.loads((_MONITORING / "dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']}: {target['legendFormat']}": (
            target["expr"].replace("$instance", ".*").replace("$__rate_interval", "1m")
        )
        for panel in panels
        for target in panel["targets"]
    }


def _alert_queries() -> dict[str, str]:
    groups = yaml.safe_load((_MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.mark.skipif(sys.platform != "linux", reason="process figures are those of Linux")
def test_the_table_is_what_metrics_shows(server: Any) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    text = requests.get(f"{server.url}/metrics", timeout=60).text
    shown = {}
    for family in parser.text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {key for sample in family.samples for key in sample.labels} - {"le"}
        shown[name] = (family.type, "".join(labels))
    expected = {
        name: (kind or shown[name][0], label) for name, (kind, label) in _documented().items()
    }
    assert shown == expected


def test_dashboard_and_alerts_use_only_what_metrics_shows() -> None:
    known = {*_documented(), "up"}
    for name, query in {**_dashboard_queries(), **_alert_queries()}.items():
        used = set(re.findall(r"\b(?:stepwire|process)_\w+|\bup\b", query))
        assert used, name
        for metric in used - known:
            assert metric.removesuffix("_bucket") in known or any(
                metric == f"{histogram}{suffix}" for histogram in known for suffix in _OF_HISTOGRAMS
            ), (name, metric)


@pytest.fixture
def prometheus(start_server: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    """Prometheus with the configuration of the page, which scrapes a server with a token."""
    server = start_server("--workers", "2", env={"API_TOKEN": _TOKEN})
    configuration = page.code("Metrics, 1")
    assert "scrape_interval: 15s" in configuration
    for documented, used in {
        "scrape_interval: 15s": "scrape_interval: 1s\n  evaluation_interval: 1s",
        "/etc/prometheus/stepwire-token": str(tmp_path / "token"),
        '"10.0.0.1:8000", "10.0.0.2:8000"': f'"127.0.0.1:{server.port}"',
    }.items():
        assert documented in configuration
        configuration = configuration.replace(documented, used)
    (tmp_path / "token").write_text(_TOKEN)
    (tmp_path / "prometheus.yml").write_text(configuration)
    (tmp_path / "alerts.yml").write_bytes((_MONITORING / "alerts.yml").read_bytes())
    with ExitStack() as running:
        port = running.enter_context(reserved_port())
        command = [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        found = running.enter_context(
            running_server(command, tmp_path, port=port, health="/-/ready")
        )
        with EchoEnv(base_url=server.url, token=_TOKEN) as env:
            env.reset()

            def has_rate() -> bool:
                """Whether Prometheus has two samples; it takes one each second."""
                env.step(EchoAction(message="Hi"))
                return _query(found, "sum(rate(stepwire_steps_total[1m]))") not in ([], [0.0])

            wait_until(has_rate)
            yield found


def _query(prometheus: Server, expression: str) -> list[float]:
    answer = requests.get(
        f"{prometheus.url}/api/v1/query", params={"query": expression}, timeout=60
    ).json()
    assert answer["status"] == "success", (expression, answer)
    return [float(series["value"][1]) for series in answer["data"]["result"]]


@page.tests("Metrics, 1")
@pytest.mark.operating
def test_prometheus_scrapes_a_server(prometheus: Server, tmp_path: Path) -> None:
    for checked in (
        ["check", "config", str(tmp_path / "prometheus.yml")],
        ["check", "rules", str(_MONITORING / "alerts.yml")],
    ):
        done = subprocess.run(["promtool", *checked], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    # A busy server may miss a scrape, which waits for a second: the next one has the figures.
    for query, value in (
        ('up{job="stepwire"}', 1.0),
        ("stepwire_workers", 2.0),
        ("stepwire_sessions_open", 1.0),
    ):
        wait_until(partial(_has_value, prometheus, query, value))
    for query in _dashboard_queries().values():
        wait_until(partial(_query, prometheus, query))
    assert set(_alert_states(prometheus)) == set(_alert_queries())
    wait_until(lambda: set(_alert_states(prometheus).values()) == {"inactive"})


def _has_value(prometheus: Server, query: str, value: float) -> bool:
    return _query(prometheus, query) == [value]


def _alert_states(prometheus: Server) -> dict[str, str]:
    answer = requests.get(f"{prometheus.url}/api/v1/rules", timeout=60).json()
    groups = answer["data"]["groups"]
    return {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("opentelemetry.sdk")
    with reserved_port() as port:
        command = [sys.executable, str(_COLLECTOR), str(port)]
        with running_server(command, tmp_path, port=port) as server:
            yield server


@page.tests("Traces, 1", "Traces, 2", "Traces, 3")
@pytest.mark.slow
def test_one_rollout_is_one_trace(
    collector: Server, serve_block: Callable[..., str], free_port: int
) -> None:
    code = page.code("Traces, 1")
    assert "http://localhost:4318" in code
    code = code.replace("http://localhost:4318", collector.url)
    more = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
    url = serve_block(code, free_port, PORT=str(free_port), **more)
    assert ADDRESS in page.code("Traces, 3")
    subprocess.run(
        [sys.executable, "-c", page.code("Traces, 3").replace(ADDRESS, url)],
        env=without_settings({**more, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}),
        check=True,
    )
    frame = json.loads(page.code("Traces, 2"))
    _, documented, parent, _ = frame["data"]["metadata"]["traceparent"].split("-")
    with Server(free_port, collector.process, collector.log_file).connect() as session:
        assert session.ask(frame)["type"] == "observation"

    def spans() -> list[dict[str, Any]]:
        return [json.loads(line) for line in collector.log.splitlines()]

    wait_until(lambda: len(spans()) >= 7)
    assert {span["parent"] for span in spans() if span["trace"] == documented} >= {parent}
    (rollout,) = {span["trace"] for span in spans()} - {documented}
    assert sorted(span["name"] for span in spans() if span["trace"] == rollout) == [
        "EchoEnvironment.reset",
        "EchoEnvironment.step",
        "reset",
        "rollout",
        "step",
    ]


test_blocks = page.test_the_other_blocks()
