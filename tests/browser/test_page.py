# SPDX-License-Identifier: BSD-3-Clause
"""`/web`, the protocol inspector, as a user operates it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Error, Locator, Page, expect

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 740}
MARKUP = [
    "<img src=x onerror=\"document.title='broken'\">",
    "<script>document.title='broken'</script>",
    "\"'><svg onload=document.title='broken'>",
    "javascript:document.title='broken'",
    "</pre></textarea></script>&lt;b&gt;${document.title='broken'}",
]


@pytest.fixture
def page(server: Any, open_page: Callable[..., Page]) -> Page:
    """The page, connected."""
    return connected(open_page(server.url + "/web"))


def connected(page: Page) -> Page:
    expect(page.locator("#status")).to_have_text("Connected")
    return page


def take_step(page: Page, message: str) -> None:
    page.get_by_label("message", exact=True).fill(message)
    page.get_by_label("message", exact=True).press("Enter")


def echo(page: Page) -> Locator:
    return page.get_by_role("group", name="Echo")


def fact(page: Page, name: str) -> Locator:
    """What the observation says of `name`."""
    return page.locator(f"#facts > dt:text-is('{name}') + dd")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def rows(page: Page) -> Locator:
    return page.locator("tbody .step")


# --- Sending --------------------------------------------------------------------------------------


def test_enter_takes_a_step_and_shift_enter_starts_a_line(page: Page) -> None:
    message = page.get_by_label("message", exact=True)
    message.fill("one")
    message.press("Shift+Enter")
    message.press_sequentially("two")
    message.press("Enter")
    expect(echo(page)).to_have_text("one\ntwo", use_inner_text=True)
    message.press_sequentially("replaced")  # what was sent is selected
    message.press("Enter")
    expect(echo(page)).to_have_text("replaced")
    expect(rows(page)).to_have_count(2)


@pytest.mark.parametrize("message", ["", "   \t "])
def test_an_empty_or_blank_message_is_sent(page: Page, message: str) -> None:
    take_step(page, message)
    expect(page.locator("#equality")).to_have_text("✓ Equals what was sent")
    expect(fact(page, "length")).to_contain_text(f"{len(message)} code points")


def test_reset_takes_seed_episode_id_and_further_arguments(page: Page) -> None:
    page.get_by_label("Seed").fill("00123456789012345678901234567890")
    page.get_by_label("Episode id").fill('a "quoted" id')
    page.get_by_label("Further arguments").fill('{"scenario": {"reward": 7.5}}')
    button(page, "Reset").click()
    expect(echo(page)).to_have_text("Echo environment ready!")
    button(page, "State").click()
    expect(page.locator("#state-answer")).to_contain_text('0 steps in episode a "quoted" id')
    frames = page.locator("#frames")
    expect(frames).to_contain_text('{"type":"reset","data":{"seed":123456789012345678901234567890,')
    take_step(page, "Hi")
    expect(fact(page, "reward")).to_have_text("7.5")  # not length × 0.1


def test_the_server_refuses_further_arguments_that_are_not_json(page: Page) -> None:
    page.get_by_label("Further arguments").fill("scenario")
    button(page, "Reset").click()
    expect(page.get_by_role("alert")).to_contain_text("INVALID_JSON")


def test_a_reset_starts_an_empty_table(page: Page) -> None:
    take_step(page, "Hi")
    expect(rows(page)).to_have_count(1)
    button(page, "Reset").click()
    expect(rows(page)).to_have_count(0)
    take_step(page, "Hi")
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#result-note")).to_contain_text("Step 1")


def test_close_ends_the_session_and_reconnecting_starts_another(page: Page) -> None:
    take_step(page, "Hi")
    button(page, "Close").click()
    expect(page.locator("#status")).to_have_text("Closed: the session and its episode are over")
    expect(button(page, "Step")).to_be_disabled()
    expect(button(page, "Reconnect")).to_be_focused()
    button(page, "Reconnect").click()
    connected(page)
    take_step(page, "Hi")
    expect(page.locator("#result-note")).to_contain_text("Step 1")


@pytest.mark.parametrize(
    ("name", "message", "size"),
    [
        ("Empty", "", "0 code points, 0 bytes"),
        ("Emoji", "Hi 👩‍🚀 🎉 e\u0301", "11 code points, 23 bytes"),
        ("Right to left", "שלום, עולם! مرحبا", "17 code points, 30 bytes"),
        ("CRLF", "first line\r\nsecond line\r\n", "25 code points, 25 bytes"),
        ("1 MB", "x" * 1_000_000, "1,000,000 code points, 1,000,000 bytes"),
    ],
)
def test_a_preset_returns_as_it_was_sent(page: Page, name: str, message: str, size: str) -> None:
    button(page, name).click()
    expect(page.locator("#equality")).to_have_text("✓ Equals what was sent")
    with page.expect_download() as download:
        button(page, "JSONL").click()
    last = json.loads(download.value.path().read_text().splitlines()[-1])
    observed = json.loads(last["frame"])["data"]["observation"]
    assert observed["echoed_message"] == message
    expect(fact(page, "length")).to_have_text(f"{size} as UTF-8")
    if len(message) == 1_000_000:
        expect(echo(page)).to_contain_text("(1,000,000 characters in all)")
    assert page.locator("body").inner_text().count("x" * 20_001) == 0


# --- Observations ---------------------------------------------------------------------------------


def test_the_observation_is_readable(page: Page) -> None:
    take_step(page, "Tab\there, 12")
    expect(fact(page, "length")).to_have_text("12 code points, 12 bytes as UTF-8")
    expect(fact(page, "reward")).to_have_text("12 × 0.1 = 1.2")
    expect(fact(page, "done")).to_have_text("false")
    metadata = json.loads(fact(page, "metadata").inner_text())
    assert metadata == {"original_message": "Tab\there, 12", "step": 1}


def test_whitespace_can_be_seen(page: Page) -> None:
    button(page, "CRLF").click()
    page.get_by_label("Show whitespace").check()
    expect(echo(page)).to_have_text("first·line[CR]↵\nsecond·line[CR]↵\n", use_inner_text=True)
    take_step(page, "a\u200fb\u00a0c\td")
    expect(echo(page)).to_contain_text("a[U+200F]b[U+00A0]c→\td")
    page.get_by_label("Show whitespace").uncheck()
    expect(echo(page)).to_have_text("a\u200fb\u00a0c\td")


@pytest.mark.parametrize("message", MARKUP)
def test_text_is_never_markup(page: Page, message: str) -> None:
    title = page.title()
    page.get_by_label("Episode id").fill(message[:255])
    button(page, "Reset").click()
    button(page, "State").click()
    expect(page.locator("#state-answer")).to_contain_text(message)
    take_step(page, message)
    expect(echo(page)).to_have_text(message)
    rows(page).first.click()
    page.get_by_label("Show whitespace").check()
    page.get_by_role("tab", name="The same in code").click()
    page.get_by_role("tab", name="Tools").click()
    form = page.locator("form", has=page.get_by_role("button", name="Call echo_message"))
    form.get_by_role("textbox").fill(message)
    form.get_by_role("button").click()
    expect(page.get_by_label("Result of echo_message")).to_contain_text("content")
    assert page.title() == title
    assert (
        page.locator("main img, main svg[onload], main script, main b:not(figcaption b)").count()
        == 0
    )


def test_the_policy_refuses_markup_and_scripts(page: Page, expected_in_console: list[str]) -> None:
    expected_in_console += ["TrustedHTML", "Content Security Policy"]
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>markup</b>'")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('style'), {textContent: '*{}'}))"
    )
    with pytest.raises(Error):
        page.evaluate("fetch('http://127.0.0.1:9/')")


# --- The episode ----------------------------------------------------------------------------------


def test_a_row_opens_the_frames_of_its_step(page: Page) -> None:
    for message in ("first", "second"):
        take_step(page, message)
    cells = rows(page).last.locator("td")
    expect(cells.nth(1)).to_have_text("first")
    expect(cells.nth(2)).to_have_text("5")
    expect(cells.nth(3)).to_have_text("0.5")
    expect(cells.nth(4)).to_have_text(re.compile(r"^\d+\.\d$"))
    opener = page.get_by_role("button", name="Frames of step 1")
    opener.click()
    expect(opener).to_have_attribute("aria-expanded", "true")
    sent, received = page.locator(".opened pre").all_inner_texts()
    assert json.loads(sent) == {"type": "step", "data": {"message": "first"}}
    assert json.loads(received)["data"]["observation"]["echoed_message"] == "first"
    opener.click()
    expect(page.locator(".opened")).to_have_count(0)


def test_a_hundred_steps_fill_table_and_charts(page: Page) -> None:
    take_step(page, "Hi")
    expect(rows(page)).to_have_count(1)
    button(page, "Run 100 steps").click()
    expect(rows(page)).to_have_count(101)
    expect(page.locator("#episode-note")).to_have_text("101 steps, total reward 20.2")
    expect(button(page, "Run 100 steps")).to_be_visible()
    names = [image.get_attribute("aria-label") for image in page.get_by_role("img").all()]
    assert names[:2] == ["Reward per step: last 0.2", "Cumulative reward: 20.2"]
    assert re.fullmatch(r"Milliseconds per step: p50 \d+\.\d, p95 \d+\.\d", names[2] or "")
    expect(page.locator("#frame-count")).to_have_text("202 frames")


def test_a_run_can_be_stopped(page: Page) -> None:
    page.get_by_label("Further arguments").fill('{"scenario": {"delay_s": 1}}')
    button(page, "Reset").click()
    button(page, "Run 100 steps").click()
    progress = page.get_by_role("progressbar", name="Steps taken")
    expect(progress).to_have_attribute("max", "100")
    expect(rows(page).first).to_be_visible()
    button(page, "Stop").click()
    expect(progress).to_be_hidden()
    expect(page.locator("#announcement")).to_contain_text(re.compile(r"^\d{1,2} steps? taken"))


def test_two_tabs_are_two_sessions(server: Any, new_context: Callable[..., BrowserContext]) -> None:
    context = new_context()
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:
        tab.goto(server.url + "/web")
        connected(tab)
    for tab, message in zip(tabs * 2, ["a", "b", "aa", "bb"], strict=True):
        take_step(tab, message)
    for tab, message in zip(tabs, ["aa", "bb"], strict=True):
        expect(echo(tab)).to_have_text(message)
        expect(tab.locator("#result-note")).to_contain_text("Step 2")
    episodes = []
    for tab in tabs:
        button(tab, "State").click()
        expect(tab.locator("#state-answer")).to_contain_text("2 steps in episode")
        episodes.append(tab.locator("#state-answer").inner_text())
    assert episodes[0] != episodes[1]


# --- Errors, and the end of a session -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Broken JSON", "INVALID_JSON Invalid JSON"),
        ("Unknown type", "UNKNOWN_TYPE Unknown message type: 'jump'"),
        ("Missing field", "VALIDATION_ERROR Invalid messagemessage: Field required"),
        ("Wrong value", "VALIDATION_ERROR Invalid messagemessage: Input should be a valid string"),
        (
            "Too deep",
            "VALIDATION_ERROR Invalid message"
            "JSON may nest 100 levels deep at most (MAX_JSON_DEPTH)",
        ),
        ("Failing step", "EXECUTION_ERROR"),
    ],
)
def test_an_error_is_provoked_and_the_session_goes_on(page: Page, name: str, said: str) -> None:
    button(page, name).click()
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator("#frames .error .type")).to_have_text("error")
    button(page, "Reset").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    take_step(page, "on")
    expect(echo(page)).to_have_text("on")


def test_a_frame_over_the_limit_ends_the_session(page: Page) -> None:
    button(page, "Oversize").click()
    expect(page.locator("#status")).to_contain_text("Disconnected")
    button(page, "Reconnect").click()
    connected(page)


def test_a_dropped_connection_is_reported(page: Page) -> None:
    button(page, "Drop the connection").click()
    expect(page.locator("#status")).to_have_text(
        "Disconnected: the connection was closed without a reason. The episode is lost"
    )


def test_an_idle_session_ends_and_says_why(
    start_server: Callable[..., Any], open_page: Callable[..., Page]
) -> None:
    server = start_server(env={"SESSION_IDLE_TIMEOUT_S": "1"})
    page = open_page(server.url + "/web")
    expect(page.locator("#status")).to_contain_text("1 s")
    expect(page.locator("#status")).to_contain_text("The episode is lost")
    expect(page.locator("#frames li.error")).to_contain_text("SESSION_ERROR")


def test_a_restarted_server_is_connected_to_again(
    start_server: Callable[..., Any],
    open_page: Callable[..., Page],
    expected_in_console: list[str],
) -> None:
    expected_in_console += ["ERR_CONNECTION_REFUSED"]
    server = start_server()
    page = connected(open_page(server.url + "/web"))
    take_step(page, "before")
    expect(echo(page)).to_have_text("before")
    server.process.terminate()
    server.process.wait()
    expect(page.locator("#status")).to_contain_text("Disconnected")
    button(page, "Reconnect").click()
    expect(page.locator("#status")).to_have_text("No connection: is the server running?")
    start_server(port=server.port)
    button(page, "Reconnect").click()
    connected(page)
    take_step(page, "after")
    expect(page.locator("#result-note")).to_contain_text("Step 1")
    expect(rows(page)).to_have_count(1)


def test_a_full_server_is_reported_and_can_be_tried_again(
    one_session_server: Any, open_page: Callable[..., Page]
) -> None:
    address = one_session_server.url + "/web"
    holder = connected(open_page(address))
    waiting = open_page(address)
    expect(waiting.locator("#status")).to_have_text(
        "The server is full: 1 of 1 sessions are in use"
    )
    expect(waiting.locator("#capacity")).to_have_text("1 of 1 session")
    button(holder, "Close").click()
    expect(holder.locator("#status")).to_contain_text("Closed")
    button(waiting, "Try again").click()
    connected(waiting)
    expect(waiting.locator("#capacity")).to_have_text("1 of 1 session")
    button(waiting, "Close").click()
    expect(waiting.locator("#status")).to_contain_text("Closed")


# --- Frames ---------------------------------------------------------------------------------------


def test_frames_are_listed_as_they_were_sent_and_received(page: Page) -> None:
    take_step(page, "Grüße")
    items = page.locator("#frames li")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("Sent")
    expect(items.nth(0)).to_contain_text("44 bytes")
    expect(items.nth(0).locator("pre")).to_have_text('{"type":"step","data":{"message":"Grüße"}}')
    expect(items.nth(1)).to_contain_text(re.compile(r"\d\d:\d\d:\d\d\.\d{3}"))
    expect(items.nth(1)).to_contain_text(re.compile(r"\d+\.\d ms"))
    page.get_by_label("Pretty").check()
    pretty = '{\n  "type": "step",\n  "data": {\n    "message": "Grüße"\n  }\n}'
    expect(items.nth(0).locator("pre")).to_have_text(pretty, use_inner_text=True)


def test_frames_are_filtered_by_text_and_kind(page: Page) -> None:
    take_step(page, "needle")
    button(page, "Unknown type").click()
    expect(page.locator("#frame-count")).to_have_text("4 frames")
    items = page.locator("#frames li pre")
    page.get_by_label("Filter frames by text").fill("NEEDLE")
    expect(items).to_have_count(2)
    expect(page.locator("#frame-count")).to_have_text("2 of 4 frames")
    page.get_by_label("Kinds of frames").select_option("Sent")
    expect(items).to_have_count(1)
    page.get_by_label("Filter frames by text").fill("")
    page.get_by_label("Kinds of frames").select_option("Errors")
    expect(items).to_have_count(1)
    expect(items).to_contain_text("UNKNOWN_TYPE")
    page.get_by_label("Filter frames by text").fill("nowhere")
    expect(page.locator("#frames")).to_have_text("No frame matches.")
    page.get_by_label("Filter frames by text").fill("")
    button(page, "Clear").click()
    expect(page.locator("#frames")).to_have_text("Nothing has been sent yet.")


def test_a_long_frame_is_shortened_until_asked_for(page: Page) -> None:
    take_step(page, "x" * 5000)
    content = page.locator("#frames li").first.locator("pre")
    expect(content).to_contain_text("in all)")
    page.locator("#frames li").first.get_by_role("button", name="Show more").click()
    expect(content).to_contain_text("x" * 5000 + '"}}')


def test_frames_are_downloaded_as_json_lines(page: Page) -> None:
    take_step(page, 'Hi "there"')
    expect(page.locator("#frame-count")).to_have_text("2 frames")
    button(page, "Broken JSON").click()
    expect(page.locator("#frame-count")).to_have_text("4 frames")
    with page.expect_download() as download:
        button(page, "JSONL").click()
    assert download.value.suggested_filename == "frames.jsonl"
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [line["direction"] for line in lines] == ["sent", "received"] * 2
    assert json.loads(lines[0]["frame"])["data"] == {"message": 'Hi "there"'}
    assert lines[2]["frame"] == '{"type": "step", "data": {"message": "Hi"'
    assert all(re.fullmatch(r"\d{4}-.*T.*Z", line["time"]) for line in lines)


def test_frames_are_copied(server: Any, open_page: Callable[..., Page]) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    page = connected(open_page(server.url + "/web", permissions=allowed))
    take_step(page, "Hi")
    item = page.locator("#frames li").first
    item.get_by_role("button").click()
    expect(page.locator("#announcement")).to_have_text("Copied")  # the button says so for 1.5 s
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == '{"type":"step","data":{"message":"Hi"}}'


# --- The same in code -----------------------------------------------------------------------------

_TRICKY = 'It\'s "quoted" \\ $HOME `ls` %s {x}\n\ttwo\r\nשלום\u202e 👩‍🚀 \u2028'


def _snippet(page: Page, name: str) -> str:
    page.get_by_role("tab", name="The same in code").click()
    return page.get_by_label(name, exact=True).inner_text()


@pytest.mark.parametrize("name", ["Python", "Python, async"])
def test_python_code_runs_as_pasted(page: Page, run: Callable[..., Any], name: str) -> None:
    _compose(page, _TRICKY)
    code = _snippet(page, name)
    done = run("-W", "error", "-c", code)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == f"{_TRICKY} 1.5\n".replace("\r\n", "\n")


def test_curl_commands_run_as_pasted(page: Page, tmp_path: Path) -> None:
    _compose(page, _TRICKY)
    answers = [
        json.loads(line) for line in _paste(_snippet(page, "curl"), tmp_path).split("\n")[:3]
    ]
    reset, step, state = answers
    assert reset["observation"]["echoed_message"] == "Echo environment ready!"
    assert step["observation"]["echoed_message"] == _TRICKY
    assert state == {"episode_id": "it's", "step_count": 1, "seed": 7}


def test_the_websocket_command_runs_as_pasted(page: Page, tmp_path: Path) -> None:
    _compose(page, _TRICKY)
    frame = json.loads(_paste(_snippet(page, "WebSocket"), tmp_path).split("\n")[1])
    assert frame["data"]["observation"]["echoed_message"] == _TRICKY


def test_code_follows_what_is_composed(page: Page) -> None:
    assert 'message="Hello, World!"' in _snippet(page, "Python")
    button(page, "Empty").click()
    expect(page.get_by_label("Python", exact=True)).to_contain_text('message=""')
    button(page, "1 MB").click()
    expect(page.locator("#code-panel")).to_contain_text("too long to paste")
    assert len(page.get_by_label("curl", exact=True).inner_text()) < 3000


def _compose(page: Page, message: str) -> None:
    """Compose a message that a text area cannot hold, and arguments of each kind."""
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Episode id").fill("it's")
    page.get_by_label("Further arguments").fill(
        '{"scenario": {"reward": 1.5, "stamp": false, "done_at": null}}'
    )
    page.locator("summary").click()
    page.get_by_label("The action as JSON").fill(json.dumps({"message": message}))


def _paste(commands: str, folder: Path, **variables: str) -> str:
    """What a shell prints that runs the commands with this interpreter as `python3`."""
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'PATH="$PWD:$PATH"\n{commands}'],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- Tools ----------------------------------------------------------------------------------------


def test_tools_are_listed_and_called(page: Page) -> None:
    page.get_by_role("tab", name="Tools").click()
    expect(page.locator(".tool h3")).to_have_text(["echo_message", "echo_with_length"])
    form = page.locator("form", has=page.get_by_role("button", name="Call echo_with_length"))
    form.get_by_role("textbox").fill("Test")
    form.get_by_role("textbox").press("Enter")
    result = page.get_by_label("Result of echo_with_length")
    expect(result).to_contain_text('"length": 4')
    button(page, "State").click()
    expect(page.locator("#state-answer")).to_contain_text("0 steps")  # a call is not a step


def test_without_a_session_there_are_no_tools(page: Page) -> None:
    page.get_by_role("tab", name="Tools").click()
    button(page, "Close").click()
    expect(page.locator("#tools-panel")).to_contain_text("Not connected")
    button(page, "Reconnect").click()
    expect(page.locator(".tool h3")).to_have_count(2)


# --- Access and embedding -------------------------------------------------------------------------


def test_all_of_it_works_by_keyboard(page: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "(document.activeElement.ariaLabel || document.activeElement.textContent).trim()"
            )
            if focused == name:
                return
        pytest.fail(f"{name} cannot be reached")

    expect(page.get_by_label("message", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(echo(page)).to_have_text("Hello, World!")
    tab_to("State")
    page.keyboard.press("Space")
    expect(page.locator("#state-answer")).to_contain_text("1 step")
    tab_to("Unknown type")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("UNKNOWN_TYPE")
    tab_to("Frames")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#code-panel")).to_contain_text("import asyncio")
    page.keyboard.press("End")
    expect(page.locator("#about-panel")).to_contain_text("Version")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".tool h3").first).to_be_visible()
    page.keyboard.press("Home")
    expect(page.locator("#frames")).to_be_visible()
    tab_to("Frames of step 1")
    page.keyboard.press("Enter")
    expect(page.locator(".opened pre")).to_have_count(2)
    page.keyboard.press("Shift+Tab")
    page.get_by_role("button", name="Close").focus()
    page.keyboard.press("Enter")
    expect(button(page, "Reconnect")).to_be_focused()
    page.keyboard.press("Enter")
    connected(page)
    expect(page.locator("#fields textarea")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1366, "height": 860}, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing(
    server: Any, open_page: Callable[..., Page], scheme: str, viewport: Any
) -> None:
    # The page's policy forbids the script and the styles of the checker.
    page = connected(
        open_page(server.url + "/web", color_scheme=scheme, viewport=viewport, bypass_csp=True)
    )

    def check(state: str) -> None:
        found = Axe().run(page).response["violations"]
        assert [(state, each["id"], [n["html"] for n in each["nodes"]]) for each in found] == []

    check("as it opens")
    button(page, "Emoji").click()
    rows(page).first.click()
    page.get_by_label("Show whitespace").check()
    page.locator("summary").click()
    check("with an observation")
    button(page, "Missing field").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check("with an error")
    page.get_by_role("tab", name="The same in code").click()
    expect(page.locator("#code-panel")).to_contain_text("import asyncio")
    check("with code")
    page.get_by_role("tab", name="Tools").click()
    page.get_by_role("button", name="Call echo_message").click()
    expect(page.get_by_label("Result of echo_message")).to_be_visible()
    check("with tools")
    page.get_by_role("tab", name="About").click()
    expect(page.locator("#about-panel")).to_contain_text("Version")
    check("with what the environment is")
    button(page, "Close").click()
    expect(button(page, "Reconnect")).to_be_visible()
    check("without a connection")


def test_nothing_is_wider_than_a_phone(server: Any, open_page: Callable[..., Page]) -> None:
    page = connected(open_page(server.url + "/web", viewport=PHONE))
    for name in ("1 MB", "Right to left", "Missing field"):
        button(page, name).click()
    expect(page.get_by_role("alert")).to_be_visible()
    button(page, "State").click()
    for tab in ("The same in code", "Tools", "Frames"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_the_page_works_below_a_prefix(
    server: Any, serve_below_prefix: Callable[..., str], open_page: Callable[..., Page]
) -> None:
    base = serve_below_prefix(server, "/some/prefix")
    page = connected(open_page(base + "/web"))
    take_step(page, "Hello")
    expect(echo(page)).to_have_text("Hello")
    assert f'base_url="{base}"' in _snippet(page, "Python")
    assert (
        page.get_by_label("WebSocket", exact=True)
        .inner_text()
        .count(f"{base}/ws".replace("http", "ws"))
    )
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.get_by_role("heading", name="echo_env HTTP API")).to_be_visible()


def test_the_page_works_behind_nginx(
    server: Any, behind_nginx: Callable[[Any], str], open_page: Callable[..., Page]
) -> None:
    page = connected(open_page(behind_nginx(server) + "/web"))
    take_step(page, "Hello")
    expect(echo(page)).to_have_text("Hello")


def test_other_sites_cannot_embed_the_page(
    server: Any,
    serve_page: Callable[[str], str],
    open_page: Callable[..., Page],
    expected_in_console: list[str],
) -> None:
    expected_in_console += ["frame-ancestors"]
    page = open_page(serve_page(f'<iframe src="{server.url}/web"></iframe>'))
    expect(page.frame_locator("iframe").locator("#status")).to_have_count(0)
    assert page.frames[1].url.startswith("chrome-error")


def test_the_page_works_embedded_in_another_site(
    start_server: Callable[..., Any],
    serve_page: Callable[[str], str],
    open_page: Callable[..., Page],
) -> None:
    server = start_server(env={"FRAME_ANCESTORS": "http://localhost:*"})
    outer = serve_page(f'<iframe src="{server.url}/web" width="900" height="700"></iframe>')
    page = open_page(outer.replace("127.0.0.1", "localhost"))
    frame = page.frame_locator("iframe")
    expect(frame.locator("#status")).to_have_text("Connected")
    frame.get_by_label("message", exact=True).press("Enter")
    expect(frame.locator("#echo")).to_have_text("Hello, World!")
    copy = frame.locator("#frames li").first.get_by_role("button")
    copy.click()
    expect(frame.locator("#announcement")).to_have_text(
        "Copied"
    )  # by the older command: a frame has no clipboard


def test_a_page_of_another_origin_cannot_use_the_server(
    server: Any,
    serve_page: Callable[[str], str],
    open_page: Callable[..., Page],
    expected_in_console: list[str],
) -> None:
    expected_in_console += ["WebSocket connection to .* failed", "CORS policy", "ERR_FAILED", "403"]
    page = open_page(serve_page("<p>Another page</p>"))
    opened = page.evaluate(
        """address => new Promise((resolve) => {
            const socket = new WebSocket(address);
            socket.onopen = () => resolve("opened");
            socket.onclose = ({ code }) => resolve(`refused with ${code}`);
        })""",
        server.ws_url,
    )
    assert opened == "refused with 1006"
    for method, path in (("POST", "/step"), ("GET", "/state")):
        with pytest.raises(Error, match="Failed to fetch"):
            page.evaluate("([url, method]) => fetch(url, {method})", [server.url + path, method])


def test_a_server_with_a_token_asks_for_it(
    start_server: Callable[..., Any],
    open_page: Callable[..., Page],
    expected_in_console: list[str],
    run: Callable[..., Any],
    tmp_path: Path,
    screenshots: Path,
) -> None:
    expected_in_console += ["401", "WebSocket connection to .* failed"]
    server = start_server(env={"API_TOKEN": "a-rather-long-secret"})
    page = open_page(server.url + "/web?theme=none")
    expect(page.get_by_role("heading")).to_have_text("This server needs a token")
    assert Axe().run(page).response["violations"] == []
    page.screenshot(path=screenshots / "token.png")
    page.get_by_label("Token").fill("a wrong one")
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_text("That token is wrong.")).to_be_visible()
    page.get_by_label("Token").fill("a-rather-long-secret")
    page.get_by_role("button", name="Enter").click()
    connected(page)
    assert page.url == server.url + "/web/"
    assert page.evaluate("document.cookie") == ""  # no script reads it
    take_step(page, "Hi")
    expect(echo(page)).to_have_text("Hi")
    variables = {"API_TOKEN": "a-rather-long-secret"}
    for name in ("Python", "Python, async"):
        done = run("-W", "error", "-c", _snippet(page, name), env=variables)
        assert (done.stdout, done.stderr) == ("Hi 0.2\n", "")
    curl = _paste(_snippet(page, "curl"), tmp_path, **variables)
    assert json.loads(curl.splitlines()[2])["step_count"] == 1
    frames = _paste(_snippet(page, "WebSocket"), tmp_path, **variables)
    assert json.loads(frames.split("\n")[1])["data"]["reward"] == 0.2
    page.context.clear_cookies()
    button(page, "Close").click()
    button(page, "Reconnect").click()
    expect(page.locator("#status")).to_have_text("The server needs a token")
    button(page, "Enter it").click()
    expect(page.get_by_role("heading")).to_have_text("This server needs a token")


def test_the_page_is_small(server: Any, open_page: Callable[..., Page]) -> None:
    requests: list[str] = []
    loaded: list[float] = []
    page = open_page("about:blank")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.on("Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"]))
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda opened: requests.append(opened.url))
    with page.expect_response(lambda response: response.url.endswith("/metadata")):
        page.goto(server.url + "/web")
    connected(page)
    page.wait_for_load_state("networkidle")
    assert sorted(url.removeprefix(server.url) for url in requests if "data:" not in url) == sorted(
        [
            "/web",
            "/web/",
            "/web/inspector/inspector.css",
            "/web/inspector/inspector.js",
            server.ws_url,
            "/metadata",
        ]
    )
    assert sum(loaded) <= 80_000


def test_pictures(server: Any, open_page: Callable[..., Page], screenshots: Path) -> None:
    looks: dict[str, Any] = {
        "light": {"viewport": {"width": 1280, "height": 800}},
        "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
        "phone": {"viewport": PHONE, "device_scale_factor": 2},
    }
    for look, options in looks.items():
        page = connected(open_page(server.url + "/web", **options))
        page.screenshot(path=screenshots / f"{look}-opened.png", full_page=True)
        for message in ("Hi", "Echo, echo, echo", "A longer one earns more", "Hello, World!"):
            take_step(page, message)
            expect(echo(page)).to_have_text(message)
        button(page, "State").click()
        expect(page.locator("#state-answer")).to_contain_text("4 steps")
        page.screenshot(path=screenshots / f"{look}.png", full_page=True)
        button(page, "Missing field").click()
        rows(page).first.click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.screenshot(path=screenshots / f"{look}-error.png", full_page=True)
        for name, tab in (("code", "The same in code"), ("tools", "Tools")):
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(f"#{name}-panel article").first).to_be_visible()
            page.screenshot(path=screenshots / f"{look}-{name}.png", full_page=True)
    assert len([*screenshots.glob("*.png")]) >= 15
