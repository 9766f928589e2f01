# SPDX-License-Identifier: BSD-3-Clause
"""An author's own Gradio page in a browser: beside the inspector, and behind a path prefix."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_PAGES = Path(__file__).parent.parent / "server" / "pages" / "guessing_pages.py"
_LOADS_S = 60


@pytest.fixture(scope="module")
def pages(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application=_PAGES)


@pytest.fixture(autouse=True)
def what_gradio_misses(expected_in_console: list[str]) -> None:
    """The browser asks for an icon at `/`, where these pages are not."""
    expected_in_console += ["status of 404"]


def _reset(page: Page) -> None:
    page.get_by_role("button", name="Reset").click(timeout=_LOADS_S * 1000)
    expect(page.get_by_text('"Guess a number from 0 to 100"')).to_be_visible()


def _screenshot(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_tabs_lead_from_the_inspector_to_the_page_and_back(
    pages: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(pages.url + "/beside")
    assert page.url == pages.url + "/beside/web/"
    expect(page.locator("#status")).to_have_text("Connected")
    _screenshot(page, "custom-inspector")
    page.get_by_role("link", name="Play & guess").click()
    _reset(page)
    expect(page).to_have_title("OpenEnv Agentic Environment: guessing")
    _screenshot(page, "custom-beside")
    page.get_by_role("link", name="Inspector").click()
    expect(page.locator("#status")).to_have_text("Connected")


def test_the_page_comes_first(pages: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(pages.url + "/first")
    _reset(page)
    expect(page).to_have_title("Guess it!")
    _screenshot(page, "custom-first")
    page.get_by_role("link", name="Inspector").click()
    expect(page.locator("#status")).to_have_text("Connected")
    page.get_by_role("link", name="Custom").click()
    _reset(page)


def test_the_page_alone(pages: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(pages.url + "/alone")
    _reset(page)
    expect(page.get_by_role("link", name="Inspector")).to_have_count(0)
    _screenshot(page, "custom-alone")


def test_a_path_prefix_is_passed_to_the_server(
    start_server: Callable[..., Any],
    serve_below_prefix: Callable[..., str],
    open_page: Callable[..., Page],
) -> None:
    """Gradio needs it, unlike our own pages."""
    server = start_server("--root-path", "/some/prefix", application=_PAGES)
    page = open_page(serve_below_prefix(server, "/some/prefix") + "/beside/web")
    page.get_by_role("link", name="Play & guess").click()
    _reset(page)
