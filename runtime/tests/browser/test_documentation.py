# SPDX-License-Identifier: BSD-3-Clause
"""`/docs` in a browser that reaches no other machine."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Response, expect

pytestmark = pytest.mark.browser


def _operation(page: Page, path: str) -> Locator:
    """Open an operation of Swagger UI."""
    operation = page.locator(".opblock", has=page.locator(f'[data-path="{path}"]'))
    operation.locator(".opblock-summary-control").click()
    return operation


def _execute(operation: Locator) -> Response:
    """Click "Execute"; returns the answer, which must be a 200."""
    with operation.page.expect_response(lambda response: "openapi" not in response.url) as response:
        operation.get_by_role("button", name="Execute").click()
    assert response.value.status == 200
    shown = operation.locator(".live-responses-table tbody .response-col_status")
    expect(shown).to_contain_text("200")
    return response.value


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_execute_continues_one_episode(
    server: Any,
    serve_below_prefix: Callable[..., str],
    open_page: Callable[..., Page],
    prefix: str,
) -> None:
    base = serve_below_prefix(server, prefix) if prefix else server.url
    page = open_page(base + "/docs")
    _execute(_operation(page, "/reset"))
    step = _operation(page, "/step")
    assert [_execute(step).json()["metadata"]["step"] for _ in range(2)] == [1, 2]
    expected = {"episode_id": "demo", "step_count": 2, "characters": 16, "seed": 7}
    assert _execute(_operation(page, "/state")).json() == expected


def test_every_prefilled_request_succeeds(server: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(server.url + "/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    paths = [each.get_attribute("data-path") for each in page.locator("[data-path]").all()]
    assert "/mcp" in paths
    for path in paths:
        assert path is not None
        _execute(_operation(page, path))


def test_the_frames_of_the_websocket_are_described(
    server: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(server.url + "/docs")
    expect(page.get_by_role("cell", name='{"type": "state"}')).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_dark_colours_where_they_are_asked_for(
    server: Any, open_page: Callable[..., Page], scheme: str
) -> None:
    page = open_page(server.url + "/docs", color_scheme=scheme)
    expect(page.locator(".opblock").first).to_be_visible()
    assert page.locator("html.dark-mode").count() == (scheme == "dark")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html.dark-mode")).to_have_count(1)


@pytest.fixture(scope="module")
def forms(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application="form_environments:app")


@pytest.mark.parametrize("name", ["kinds", "orders", "tools"])
def test_the_prefilled_step_of_any_environment_succeeds(
    forms: Any, open_page: Callable[..., Page], name: str
) -> None:
    page = open_page(f"{forms.url}/{name}/docs")
    assert _execute(_operation(page, "/step")).json()["done"] is False
    assert "additionalProp1" not in page.locator("body").inner_text()
