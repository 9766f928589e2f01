# SPDX-License-Identifier: BSD-3-Clause
"""`/metrics`: what it counts, over one worker and several."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from waiting import wait_until
from websockets.exceptions import InvalidStatus

_STEP = {"type": "step", "data": {"text": "Hi"}}
_TOKEN = "a-token-of-16-characters"
# An environment that is called in a thread, and takes 20 ms for each step.
_SLOW = """
import time
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app

class Slow(NotesEnvironment):
    BLOCKING = True

    def step(self, action, timeout_s=None, **kwargs):
        time.sleep(0.02)
        return super().step(action)

app = create_app(Slow, NoteAction, NoteObservation)
"""
_WITHOUT = """
import sys
sys.modules["prometheus_client"] = None
from fastapi.testclient import TestClient
from notes_env.app import app
from stepwire.server.observing.metrics import ENABLED, encoding_times
with TestClient(app, base_url="http://localhost") as client, client.websocket_connect("/ws") as ws:
    ws.send_json({"type": "step", "data": {"text": "Hi"}})
    assert ws.receive_json()["type"] == "observation"
    answer = client.get("/metrics")
assert not ENABLED and not any(encoding_times)
assert "stepwire.server.observing.exposition" not in sys.modules
print(answer.status_code, answer.json()["detail"])
"""


def scrape(server: Any, **options: Any) -> dict[str, float]:
    """The samples, by name and labels."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus_client")
    answer = requests.get(f"{server.url}/metrics", timeout=60, **options)
    assert answer.ok, answer.text
    return {
        sample.name + "".join(f"[{value}]" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in parser.text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_everything_is_counted(start_server: Callable[..., Any]) -> None:
    server = start_server(env={"MAX_CONCURRENT_ENVS": "1", "API_TOKEN": _TOKEN})
    refusal = requests.get(f"{server.url}/metrics", timeout=60)
    assert refusal.status_code == 401
    allowed = {"Authorization": f"Bearer {_TOKEN}"}
    with server.connect(additional_headers=allowed) as session:
        session.ask({"type": "reset"})
        for _ in range(3):
            assert session.ask(_STEP)["type"] == "observation"
        assert session.ask({"type": "step", "data": {}})["data"]["code"] == "VALIDATION_ERROR"
        assert session.ask({"type": "dance"})["data"]["code"] == "UNKNOWN_TYPE"
        with server.connect(additional_headers=allowed) as refused:
            assert refused.receive()["data"]["code"] == "CAPACITY_REACHED"
        before = scrape(server, headers=allowed)
        for path, body in (("reset", {}), ("step", {"action": {"text": "Hi"}}), ("step", {})):
            requests.post(f"{server.url}/{path}", json=body, headers=allowed, timeout=60)
        found = scrape(server, headers=allowed)
    assert found["stepwire_sessions_open"] == 1
    assert found["stepwire_sessions_max"] == 1
    assert found["stepwire_sessions_opened_total"] == 1
    assert found["stepwire_sessions_refused_total[capacity]"] == 1
    assert found["stepwire_sessions_refused_total[factory]"] == 0
    assert before["stepwire_steps_total"] == 3
    assert found["stepwire_steps_total"] == 4
    assert found["stepwire_episodes_total"] == 2
    assert found["stepwire_errors_total[VALIDATION_ERROR]"] == 2
    assert found["stepwire_errors_total[UNKNOWN_TYPE]"] == 1
    assert found["stepwire_errors_total[CAPACITY_REACHED]"] == 1
    for part in ("waiting", "environment", "encoding"):
        assert found[f"stepwire_step_seconds_count[{part}]"] == 4
        assert found[f"stepwire_step_seconds_bucket[+Inf][{part}]"] == 4
        assert found[f"stepwire_step_seconds_sum[{part}]"] > 0
    assert found["stepwire_received_bytes_total"] > before["stepwire_received_bytes_total"] > 100
    assert found["stepwire_sent_bytes_total"] > before["stepwire_sent_bytes_total"] > 100
    assert found["stepwire_workers"] == 1
    assert found["process_resident_memory_bytes[0]"] > 1_000_000
    assert found["process_cpu_seconds_total[0]"] > 0
    for version in ("1.0.0", "none", "9.9"):
        accepted = {"Accept": f"application/openmetrics-text; version={version}"}
        text = requests.get(f"{server.url}/metrics", headers={**allowed, **accepted}, timeout=60)
        assert text.headers["content-type"].startswith("application/openmetrics-text; version=1")
        assert text.text.endswith("# EOF\n")


def test_sessions_that_a_stopping_server_refuses_are_counted(
    start_server: Callable[..., Any],
) -> None:
    server = start_server(env={"SHUTDOWN_GRACE_S": "60"})
    with server.connect() as session:
        session.ask({"type": "reset", "data": {"scenario": {"delay_s": 50}}})
        before = scrape(server)["stepwire_received_bytes_total"]
        session.send(_STEP)
        wait_until(lambda: scrape(server)["stepwire_received_bytes_total"] > before)
        server.process.terminate()
        wait_until(lambda: requests.get(f"{server.url}/ready", timeout=60).status_code == 503)
        with pytest.raises(InvalidStatus), server.connect():
            pass
        assert scrape(server)["stepwire_sessions_refused_total[stopping]"] == 1
        server.process.kill()


def test_the_time_in_a_thread_is_the_environments(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    application = tmp_path / "slow_notes.py"
    application.write_text(_SLOW)
    server = start_server(application=application)
    with server.connect() as session:
        for _ in range(3):
            session.ask(_STEP)
    found = scrape(server)
    assert found["stepwire_step_seconds_sum[environment]"] >= 0.06
    assert found["stepwire_step_seconds_bucket[0.016777216][environment]"] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers share nothing elsewhere")
def test_any_worker_tells_of_all_and_a_dead_one_still_counts(
    start_server: Callable[..., Any],
) -> None:
    server = start_server("--workers", "2")
    wait_until(lambda: scrape(server)["stepwire_workers"] == 2)
    episodes = steps = 0

    def play() -> None:
        """Episodes in both workers, at the same time."""
        nonlocal episodes, steps
        with ExitStack() as stack:
            sessions = [stack.enter_context(server.connect()) for _ in range(8)]
            for number, session in enumerate(sessions):
                session.ask({"type": "reset"})
                for _ in range(number):
                    session.ask(_STEP)
        episodes += 8
        steps += sum(range(8))

    def are_counted() -> bool:
        found = scrape(server)
        shown = found["stepwire_steps_total"], found["stepwire_episodes_total"]
        assert shown <= (steps, episodes)
        return shown == (steps, episodes)

    play()
    for _ in range(6):  # whichever answers
        wait_until(are_counted)
    before = scrape(server)
    assert before["stepwire_sessions_max"] == 1000
    pids = _workers(server)
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: len(_workers(server)) == 2 and pids[0] not in _workers(server))
    wait_until(lambda: scrape(server)["stepwire_workers"] == 2)
    after = scrape(server)
    assert after["stepwire_workers"] == 2
    assert after["stepwire_sessions_max"] == 1000
    for name, value in before.items():
        if name.startswith("stepwire_") and name != "stepwire_sessions_open":
            assert after[name] >= value, name
    play()
    wait_until(are_counted)


def test_without_the_package_nothing_is_counted_and_the_answer_says_how_to_get_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == [
        "501",
        "Metrics need the package prometheus_client: pip install 'stepwire[metrics]'\n",
    ]


def _workers(server: Any) -> list[int]:
    """The processes of the workers."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(server.process.pid), "-o", "pid=", "-o", "args="],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]
