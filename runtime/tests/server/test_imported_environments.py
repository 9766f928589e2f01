# SPDX-License-Identifier: BSD-3-Clause
"""What `openenv import` of 0.10 makes of environments for ORS, beside the stock server."""

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import requests

pytestmark = [pytest.mark.slow]
try:
    version("openenv")
except PackageNotFoundError:
    pytestmark.append(pytest.mark.skip("openenv-core 0.3.0 imports no environments"))

_SOURCE = Path(__file__).with_name("imported")
_APP = """
import stepwire
from openenv.core.env_server import http_server
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from stepwire.server import create_app
from sums_env.server import sums_env_environment

(environment,) = [
    value
    for value in vars(sums_env_environment).values()
    if isinstance(value, type) and value.__module__ == sums_env_environment.__name__
]
arguments = (environment, CallToolAction, CallToolObservation, "sums_env", 1)
app = Starlette(
    routes=[
        Route("/health", lambda _: PlainTextResponse("healthy")),
        Mount("/ours", create_app(*arguments)),
        Mount("/stock", http_server.create_app(*arguments)),
    ]
)
"""


@pytest.fixture
def imported(
    tmp_path: Path,
    run: Callable[..., subprocess.CompletedProcess[str]],
    start_server: Callable[..., Any],
) -> Any:
    """Serves the environment that is made of `imported/`, twice."""
    command = ("-m", "openenv.cli", "import", _SOURCE, "--name", "sums_env")
    done = run(*command, "--output-dir", tmp_path, env={"UV_OFFLINE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "both_apps.py").write_text(_APP)
    return start_server(application=tmp_path / "both_apps.py")


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _call(value: int, name: str = "answer") -> dict[str, Any]:
    action = {"type": "call_tool", "tool_name": name, "arguments": {"value": value}}
    return {"type": "step", "data": action}


_REQUESTS: list[tuple[str, Any]] = [
    ("list_environments", None),
    ("sums_env/splits", None),
    ("sums_env/tasks", {"split": "train"}),
    ("sums_env/num_tasks", {"split": "test"}),
    ("sums_env/task", {"split": "test", "index": 0}),
    ("sums_env/task", {"split": "test", "index": 1}),
    ("sums_env/task_range", {"split": "train", "stop": 1}),
    ("reset", {"split": "train", "index": 1}),
    ("step", {"action": {"type": "list_tools"}}),
    ("mcp", _rpc("tools/list")),
]
_FRAMES = [
    {"type": "reset", "data": {"split": "test", "index": 0, "episode_id": "mine"}},
    {"type": "state"},
    {"type": "step", "data": {"type": "list_tools"}},
    {"type": "mcp", "data": _rpc("tools/list")},
    {"type": "mcp", "data": _rpc("tools/call", name="answer", arguments={"value": 7})},
    _call(6),
    _call(7),
    _call(7, name="guess"),
    {"type": "state"},
    {"type": "reset", "data": {"split": "test"}},
    {"type": "reset", "data": {"task_spec": {"sum": [1, 9]}}},
    _call(10),
]


def test_an_imported_environment_answers_as_on_the_stock_server(
    imported: Any, connect: Callable[..., Any]
) -> None:
    for route, body in _REQUESTS:
        ours, stock = (
            requests.request(
                "GET" if body is None else "POST",
                f"{imported.url}/{server}/{route}",
                json=body,
                timeout=60,
            )
            for server in ("ours", "stock")
        )
        answers = (ours.status_code, _same(ours.json())), (stock.status_code, stock.json())
        assert answers[0] == answers[1], route
    base = imported.ws_url.removesuffix("/ws")
    ours, stock = (connect(f"{base}/{server}/ws") for server in ("ours", "stock"))
    for frame in _FRAMES:
        assert _same(ours.ask(frame)) == stock.ask(frame), frame


def _same(answer: Any) -> Any:
    """Without the tools' schemas under the name that MCP has for them, which ours adds."""
    text = json.dumps(answer)
    return json.loads(
        text, object_hook=lambda item: {k: v for k, v in item.items() if k != "inputSchema"}
    )
