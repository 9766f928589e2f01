# SPDX-License-Identifier: BSD-3-Clause
"""Traces: one rollout is one trace across client, server and environment."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from waiting import wait_until

from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.client.traces import with_span
from stepwire.server import create_app
from stepwire.server.observing.traces import take_carrier
from stepwire.testing.servers import Server, running_server, without_settings

_HERE = Path(__file__).parent
_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_NOTES = """
from opentelemetry import trace
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app
from stepwire.server.observing import traces

assert hasattr(traces, "_LAST_S")
traces._LAST_S = 60.0  # a busy machine may need more to send what is left

class Notes(NotesEnvironment):
    BLOCKING = {blocking}
    seen = []

    def reset(self, seed=None, episode_id=None, **kwargs):
        assert "metadata" not in kwargs, kwargs
        return super().reset(seed, episode_id)

    def step(self, action, timeout_s=None, **kwargs):
        assert "traceparent" not in action.metadata, action.metadata
        with trace.get_tracer("notes").start_as_current_span("write"):
            if action.text == "fail":
                raise ValueError("as asked")
            return super().step(action)

app = create_app(Notes, NoteAction, NoteObservation)
"""
_TRAINER = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from notes_env.client import NotesEnv
from notes_env.models import NoteAction
from stepwire.client import ServerError

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("trainer")
with NotesEnv(base_url=sys.argv[1]) as env:
    with tracer.start_as_current_span("rollout"):
        env.reset(seed=1)
        env.step(NoteAction(text="Hi"))
        with tracer.start_as_current_span("turn"):
            env.step(NoteAction(text="again", metadata={"kept": 1}))
    env.reset(seed=2)
    try:
        env.step(NoteAction(text="fail"))
    except ServerError as error:
        print(error)
provider.shutdown()
"""


@pytest.fixture
def collector(free_port: int, tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("opentelemetry.sdk", reason="needs the OpenTelemetry SDK")
    command = [sys.executable, str(_HERE / "otlp_collector.py"), str(free_port)]
    with running_server(command, tmp_path, port=free_port) as server:
        yield server


def _spans(collector: Server) -> list[dict[str, Any]]:
    lines = collector.log.splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be a part


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False], ids=["in a thread", "on the event loop"])
def test_one_rollout_is_one_trace(
    collector: Server, start_server: Callable[..., Any], tmp_path: Path, blocking: bool
) -> None:
    application = tmp_path / "traced_notes.py"
    application.write_text(_NOTES.format(blocking=blocking))
    exported = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    exported["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60"  # spans whose time is up are sent once more
    server = start_server(
        application=application, env={**exported, "TRACES": "on", "OTEL_SERVICE_NAME": "server"}
    )
    done = subprocess.run(
        [sys.executable, "-c", _TRAINER, server.url],
        env=without_settings({**exported, "OTEL_SERVICE_NAME": "trainer"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A client of another kind has its span in the headers of the handshake, or of the request.
    with server.connect(additional_headers={"traceparent": _PARENT}) as session:
        assert session.ask({"type": "step", "data": {"text": "Hi"}})["type"] == "observation"
    step = {"action": {"text": "Hi"}}
    headers = {"traceparent": _PARENT}
    assert requests.post(f"{server.url}/step", json=step, headers=headers, timeout=60).ok
    nowhere, refused = (_PARENT.replace("af", other) for other in ("b0", "b1"))
    headers = {"traceparent": nowhere}
    assert requests.post(f"{server.url}/no/such", headers=headers, timeout=60).status_code == 404
    headers = {"traceparent": refused, "Host": "evil.example"}
    assert not requests.post(f"{server.url}/step", json=step, headers=headers, timeout=60).ok
    server.process.terminate()
    server.process.wait(60)  # which sends what is left
    wait_until(lambda: len(_spans(collector)) >= 22)

    spans = _spans(collector)
    by_id = {span["id"]: span for span in spans}

    def path(span: dict[str, Any]) -> str:
        parent = by_id.get(span["parent"])
        return f"{path(parent)} > {span['name']}" if parent else span["name"]

    def paths(trace: str) -> Counter[str]:
        return Counter(path(span) for span in spans if span["trace"] == trace)

    (rollout,) = (span for span in spans if span["name"] == "rollout")
    assert paths(rollout["trace"]) == {
        "rollout": 1,
        "rollout > reset": 1,
        "rollout > reset > Notes.reset": 1,
        "rollout > step": 1,
        "rollout > step > Notes.step": 1,
        "rollout > step > Notes.step > write": 1,
        "rollout > turn": 1,
        "rollout > turn > step": 1,
        "rollout > turn > step > Notes.step": 1,
        "rollout > turn > step > Notes.step > write": 1,
    }
    failed = {span["name"] for span in spans if span["failed"]}
    assert failed == {"step", "Notes.step", "write"}
    assert paths(_PARENT.split("-")[1]) == {
        "step": 1,
        "step > Notes.step": 1,
        "step > Notes.step > write": 1,
        "POST /step": 1,
        "POST /step > Notes.step": 1,
        "POST /step > Notes.step > write": 1,
    }
    assert paths(nowhere.split("-")[1]) == {"POST": 1}
    assert not paths(refused.split("-")[1])
    assert {span["service"] for span in spans} == {"server", "trainer"}


def test_nothing_is_imported_while_traces_are_off() -> None:
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None
from fastapi.testclient import TestClient
from notes_env.app import app
from stepwire.server.observing import traces
import notes_env.client
with TestClient(app, base_url="http://localhost") as client, client.websocket_connect("/ws") as ws:
    ws.send_json({"type": "step", "data": {"text": "Hi"}})
    assert ws.receive_json()["type"] == "observation"
print(traces.tracing, [name for name in sys.modules if name.startswith("opentelemetry.exporter")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "None []\n"), done.stderr


def test_traces_without_their_packages_are_one_line() -> None:
    program = "import sys; sys.modules['opentelemetry.sdk'] = None; import notes_env.app"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=without_settings({"TRACES": "on"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "server: error: TRACES=on needs OpenTelemetry: pip install 'stepwire[traces]'\n"
    )


def test_the_span_in_metadata_is_not_the_environments() -> None:
    metadata = {"traceparent": _PARENT, "tracestate": "a=b", "kept": 1}
    assert take_carrier(metadata) == {"traceparent": _PARENT, "tracestate": "a=b"}
    assert metadata == {"kept": 1}
    assert take_carrier({"traceparent": 7}) == {}
    assert take_carrier(None) == {}


def test_the_span_of_a_reset_is_not_the_environments_while_traces_are_off() -> None:
    seen = []

    class Seeing(NotesEnvironment):
        def reset(
            self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any
        ) -> NoteObservation:
            seen.append(kwargs)
            return super().reset(seed, episode_id)

    app = create_app(Seeing, NoteAction, NoteObservation)
    with (
        TestClient(app, base_url="http://localhost") as client,
        client.websocket_connect("/ws") as session,
    ):
        for more in ({}, {"kept": 1}):
            metadata = {"traceparent": _PARENT, **more}
            session.send_json({"type": "reset", "data": {"metadata": metadata}})
            assert session.receive_json()["type"] == "observation"
    assert seen[-2:] == [{}, {"metadata": {"kept": 1}}]


def test_a_client_leaves_metadata_that_is_no_object_to_the_server() -> None:
    trace = pytest.importorskip("opentelemetry.trace", reason="needs OpenTelemetry")
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, True, trace.TraceFlags(1)))
    with trace.use_span(span):
        assert with_span({"metadata": "x"}) == {"metadata": "x"}
        headers = {"traceparent": f"00-{1:032x}-{2:016x}-01"}
        assert with_span({"seed": 1}) == {"seed": 1, "metadata": headers}
