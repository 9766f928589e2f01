# SPDX-License-Identifier: BSD-3-Clause
"""`/web` in a browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_a_message_comes_back(server: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(server.url + "/web")
    page.get_by_label("Message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator("#echo")).to_have_text("Hello")


def test_the_page_works_below_a_prefix(
    server: Any, serve_below_prefix: Callable[..., str], open_page: Callable[..., Page]
) -> None:
    page = open_page(serve_below_prefix(server, "/some/prefix") + "/web")
    page.get_by_label("Message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator("#echo")).to_have_text("Hello")


def test_the_page_works_behind_nginx(
    server: Any, behind_nginx: Callable[[Any], str], open_page: Callable[..., Page]
) -> None:
    page = open_page(behind_nginx(server) + "/web")
    page.get_by_label("Message").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator("#echo")).to_have_text("Hello")
