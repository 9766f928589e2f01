# SPDX-License-Identifier: BSD-3-Clause
"""Our `/web` beside the stock template's, in one Chromium that reaches no other machine.

    uv run --group browser python benchmarks/pages.py [--rounds 7] [--clicks 10] [--json FILE]

Each visit has a fresh profile; the rounds interleave the two pages, and the table shows medians and
their ratio to the stock page's. A page is usable when its "Step" can be clicked, and ours when its
session is open as well. From click to echo is measured in the page, up to the text's being there.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from clients import serving
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table
from serving import write_stock_template

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# Notes when the page has become usable, since the navigation began. In the page: what the harness
# takes to ask would be the larger part.
_NOTE_WHEN_USABLE = """
new MutationObserver((_, observer) => {
    const isStep = (button) => button.textContent.trim() === "Step" && !button.disabled;
    if (![...document.querySelectorAll("button")].some(isStep)) return;
    if (document.querySelector("#connection:not([data-status=open])")) return;
    observer.disconnect();
    window.usableAfter = performance.now();
}).observe(document, { subtree: true, childList: true, attributes: true });
"""
# Clicks a button and resolves to the milliseconds until the text is in one of the places.
_CLICK_TO_TEXT = """
(button, [places, text]) => new Promise((resolve) => {
    const holds = (place) => place.textContent.includes(text);
    const isThere = () => [...document.querySelectorAll(places)].some(holds);
    const observer = new MutationObserver(() => {
        if (!isThere()) return;
        observer.disconnect();
        resolve(performance.now() - clicked);
    });
    observer.observe(document.body, { subtree: true, childList: true, characterData: true });
    const clicked = performance.now();
    button.click();
})
"""


class Side(NamedTuple):
    """A page, and where on it the answer shows."""

    url: str
    answer: str


class Visit(NamedTuple):
    """What one visit cost."""

    usable_ms: float
    requests: int
    kilobytes: float
    echo_ms: float


_ROWS = {
    "usable_ms": ("until usable (ms)", "ratio ≤ 0.3"),
    "requests": ("requests", "≤ 6"),
    "kilobytes": ("loaded (KB)", "≤ 80"),
    "echo_ms": ("click to echo (ms)", "ratio ≤ 0.3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clicks", type=int, default=10, help="per visit")
    parser.add_argument("--json", type=Path, help="write every visit here")
    options = parser.parse_args()
    visits: dict[str, list[Visit]] = {"stock": [], "ours": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        template = write_stock_template(folder)
        page_on = {"ENABLE_WEB_INTERFACE": "true"}
        stock = ["-m", "uvicorn", "server.app:app"]
        sides = {
            "stock": Side(
                stack.enter_context(serving(stock, 8603, template, page_on)), ".cm-content"
            ),
            "ours": Side(
                stack.enter_context(serving(["-m", "echo_env.server.app"], 8602, folder)),
                "#echo",
            ),
        }
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        for _ in range(options.rounds):
            for name, side in sides.items():
                visits[name].append(_visit(browser, side, options.clicks))
        browser.close()
    if options.json:
        rows = {name: [visit._asdict() for visit in each] for name, each in visits.items()}
        options.json.write_text(json.dumps(rows, indent=1))
    _print_table(visits)


def _visit(browser: Browser, side: Side, clicks: int) -> Visit:
    with browser.new_context() as context:
        page = context.new_page()
        asked: list[str] = []
        loaded: list[float] = []
        devtools = context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.on(
            "Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"])
        )
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda opened: asked.append(opened.url))
        page.add_init_script(_NOTE_WHEN_USABLE)
        page.goto(f"{side.url}/web", wait_until="networkidle")
        usable = page.wait_for_function("window.usableAfter").json_value()
        cost = (len([url for url in asked if not url.startswith("data:")]), sum(loaded) / 1000)
        return Visit(usable, *cost, statistics.median(_echoes(page, side, clicks)))


def _echoes(page: Page, side: Side, clicks: int) -> list[float]:
    step = page.get_by_role("button", name="Step", exact=True)
    message = page.locator("textarea:enabled").first
    took = []
    for number in range(clicks):
        text = f"message {number} of this visit"
        message.fill(text)
        took.append(step.evaluate(_CLICK_TO_TEXT, [side.answer, text]))
    return took


def _print_table(visits: dict[str, list[Visit]]) -> None:
    table = Table("", "stock", "ours", "ratio", "target", title="Page, medians")
    for field, (label, target) in _ROWS.items():
        stock, ours = (
            statistics.median(getattr(visit, field) for visit in visits[side])
            for side in ("stock", "ours")
        )
        table.add_row(label, f"{stock:.4g}", f"{ours:.4g}", f"{ours / stock:.2f}", target)
    Console().print(table)


if __name__ == "__main__":
    main()
