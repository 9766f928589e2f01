# SPDX-License-Identifier: BSD-3-Clause
"""HTTP episodes in a browser: the cookie in our page, opened directly or embedded elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Frame, Page

pytestmark = pytest.mark.browser

_STEP = """async () => {
    const answer = await fetch("../step", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ action: { text: "Hi" } }),
    });
    return (await answer.json()).metadata.step;
}"""


@pytest.fixture
def context(new_context: Callable[..., BrowserContext]) -> BrowserContext:
    return new_context(ignore_https_errors=True)  # the certificate is the tests' own


def _embedded(page: Page, address: str, serve_page: Callable[[str], str]) -> Frame:
    """Embeds `address` in a page of `localhost`, which is another site than `127.0.0.1`."""
    page.goto(
        serve_page(f'<iframe src="{address}/web"></iframe>').replace("127.0.0.1", "localhost")
    )
    page.frame_locator("iframe").get_by_label("text", exact=True).wait_for()
    (frame,) = page.main_frame.child_frames
    return frame


def test_a_page_keeps_its_episode(server: Any, open_page: Callable[..., Page]) -> None:
    page = open_page(server.url + "/web")
    assert [page.evaluate(_STEP) for _ in range(3)] == [1, 2, 3]
    assert "openenv_episode" not in page.evaluate("document.cookie")  # scripts cannot read it


def test_embedded_by_another_site_over_https_it_keeps_its_episode(
    tls_url: str, context: BrowserContext, serve_page: Callable[[str], str]
) -> None:
    frame = _embedded(context.new_page(), tls_url, serve_page)
    assert [frame.evaluate(_STEP) for _ in range(3)] == [1, 2, 3]
    # Without `Partitioned`, the browser would not keep it.
    not_kept = "document.cookie = 'other=1; SameSite=None; Secure'; return document.cookie"
    assert frame.evaluate(f"() => {{ {not_kept} }}") == ""


def test_opened_directly_over_https_it_has_another_episode(
    tls_url: str, context: BrowserContext, serve_page: Callable[[str], str]
) -> None:
    frame = _embedded(context.new_page(), tls_url, serve_page)
    assert frame.evaluate(_STEP) == 1
    page = context.new_page()
    page.goto(tls_url + "/web")
    assert [page.evaluate(_STEP) for _ in range(2)] == [1, 2]
    assert frame.evaluate(_STEP) == 2


def test_embedded_by_another_site_over_http_requests_share_no_episode(
    start_server: Callable[..., Any],
    context: BrowserContext,
    serve_page: Callable[[str], str],
) -> None:
    server = start_server(env={"FRAME_ANCESTORS": "http://localhost:*"})
    frame = _embedded(context.new_page(), server.url, serve_page)
    assert [frame.evaluate(_STEP) for _ in range(2)] == [1, 1]
