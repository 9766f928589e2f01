# SPDX-License-Identifier: BSD-3-Clause
"""`docs/upstream.md`: each fault is still there. Where a test fails, its workaround can go."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastmcp import FastMCP
from starlette.testclient import TestClient


def test_fastapi_fails_to_explain_a_number_that_json_has_not() -> None:
    app = FastAPI()

    @app.post("/")
    def post(text: dict[str, str]) -> None:
        """Is never called."""

    client = TestClient(app, raise_server_exceptions=False)
    headers = {"Content-Type": "application/json"}
    response = client.post("/", content=b'{"x":NaN}', headers=headers)
    assert (response.status_code, response.text) == (500, "Internal Server Error")


@pytest.fixture(scope="module")
def ask_fastmcp() -> Any:
    mcp: Any = FastMCP("upstream")

    @mcp.tool
    def stray() -> str:
        return "\ud800"

    app = mcp.http_app(path="/mcp", stateless_http=True, json_response=True)
    headers = {"Accept": "application/json, text/event-stream"}
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:

        def ask(request_id: Any, method: str, **params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
            return client.post("/mcp", json=request, headers=headers)

        yield ask


def test_fastmcp_fails_for_a_lone_surrogate_from_a_tool(ask_fastmcp: Any) -> None:
    assert ask_fastmcp(1, "tools/call", name="stray", arguments={}).status_code == 500


def test_mcp_takes_a_request_whose_id_is_null_for_a_notification(ask_fastmcp: Any) -> None:
    response = ask_fastmcp(None, "tools/list")
    assert (response.status_code, response.content) == (202, b"")
