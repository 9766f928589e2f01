# SPDX-License-Identifier: BSD-3-Clause
"""`/web` of environments with other actions than a message: the form, the results and the code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from form_environments import HOSTILE, Kinds
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

from stepwire.protocol.examples import example_of

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 740}
_DRAWN = "() => new Promise((resolve) => setTimeout(() => requestAnimationFrame(resolve), 200))"
_ENVIRONMENTS = ("kinds", "orders", "tools")


@pytest.fixture(scope="module")
def address(start_shared_server: Callable[..., Any]) -> Callable[[str], str]:
    """The address of one of the environments."""
    server = start_shared_server(application="form_environments:app")
    return lambda name: f"{server.url}/{name}"


@pytest.fixture
def open_form(address: Callable[[str], str], open_page: Callable[..., Page]) -> Callable[..., Page]:
    def open_one(name: str, **options: Any) -> Page:
        page = open_page(f"{address(name)}/web", **options)
        expect(page.locator("#status")).to_have_text("Connected")
        page.locator("#raw summary").click()
        return page

    return open_one


def step(page: Page) -> None:
    page.get_by_role("button", name="Step", exact=True).click()


def field(page: Page, name: str) -> Locator:
    """The row of a field at the top of the form."""
    return page.locator("#fields > div > .field").filter(
        has=page.locator(f":scope > .head > .name:text-is('{name}')")
    )


def composed(page: Page) -> Any:
    return json.loads(_json(page).input_value())


def _json(page: Page) -> Locator:
    return page.get_by_label("The action as JSON")


def fact(page: Page, name: str) -> Locator:
    return page.locator(f"#facts > dt:text-is('{name}') + dd")


def last_sent(page: Page) -> Any:
    page.evaluate(_DRAWN)  # frames are listed at the next drawing, an answer is shown at once
    return json.loads(page.locator("#frames .sent pre").last.inner_text())["data"]


# --- The form -------------------------------------------------------------------------------------


def test_the_form_begins_with_an_action_that_is_valid(open_form: Callable[..., Page]) -> None:
    for name, reward in (("kinds", "0.3"), ("orders", "true"), ("tools", "null")):
        page = open_form(name)
        step(page)
        expect(fact(page, "reward")).to_have_text(reward)
        expect(page.get_by_role("alert")).to_be_hidden()


def test_each_kind_of_field_is_sent_as_its_json(open_form: Callable[..., Page]) -> None:
    page = open_form("kinds")
    field(page, "text").get_by_role("textbox").fill('two\n"lines" \\')
    page.get_by_label("Kind of code").select_option("text")
    field(page, "code").get_by_role("textbox").fill("ZZ-99")
    field(page, "count").get_by_role("textbox").fill("123456789012345678901234567890")
    page.get_by_label("Kind of share").select_option("number")
    field(page, "share").get_by_role("textbox").fill("0.250")
    field(page, "flag").get_by_role("combobox").select_option("false")
    field(page, "colour").get_by_role("combobox").select_option("green")
    page.get_by_label("Kind of mode").select_option(index=1)
    page.get_by_label("mode", exact=True).select_option("fast")
    field(page, "names").get_by_role("button", name="Add").click()
    field(page, "names").get_by_role("textbox").last.fill("second")
    field(page, "pair").get_by_role("textbox").first.fill("-7")
    field(page, "scores").get_by_role("button", name="Add").click()
    field(page, "scores").get_by_label("Key").fill("a key")
    field(page, "scores").get_by_role("textbox", name="this entry").fill("1.5")
    page.get_by_label("Kind of command").select_option("Move")
    page.get_by_label("Kind of distance").select_option("whole number")
    page.get_by_label("distance", exact=True).fill("9")
    page.get_by_label("Kind of either").select_option("text")
    page.get_by_label("either", exact=True).fill("seven")
    page.get_by_label("Kind of note").select_option("null")
    page.get_by_label("Kind of day").select_option("date")
    page.get_by_label("day", exact=True).fill("2026-11-27")
    page.get_by_label("Kind of children").select_option("list")
    field(page, "tree").get_by_role("button", name="Add").click()
    page.get_by_label("Kind of anything").select_option("JSON")
    page.get_by_label("anything", exact=True).fill('[{"any": "thing"}]')
    expected = {
        "text": 'two\n"lines" \\',
        "code": "ZZ-99",
        "count": 123456789012345678901234567890,
        "share": 0.25,
        "flag": False,
        "colour": "green",
        "mode": "fast",
        "names": ["Hello", "second"],
        "pair": [-7, "Hi"],
        "scores": {"a key": 1.5},
        "command": {"kind": "move", "distance": 9},
        "either": "seven",
        "note": None,
        "day": "2026-11-27",
        "tree": {"label": "Hello", "children": [{"label": ""}]},
        "anything": [{"any": "thing"}],
    }
    assert composed(page) == expected
    step(page)
    expect(fact(page, "did")).to_contain_text("123456789012345678901234567890")
    assert last_sent(page) == expected
    field(page, "names").get_by_role("button", name="Remove 1").click()
    page.get_by_label("Kind of anything").select_option("left out")
    assert composed(page)["names"] == ["second"]
    assert "anything" not in composed(page)


def test_the_form_shows_what_is_written_as_json(open_form: Callable[..., Page]) -> None:
    page = open_form("kinds")
    for number in range(12):
        action = example_of(Kinds.model_json_schema(), number, optional=True, length=2)
        _json(page).fill(json.dumps(action))
        expect(page.locator("#json-note")).to_be_empty()
        _json(page).blur()
        # The form writes the JSON anew, as after a change of one of its fields.
        page.locator("#fields").evaluate("form => form.dispatchEvent(new Event('input'))")
        assert composed(page) == action


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('{"item": "milk", "unknown": [1]}', "The form cannot show this."),
        ('{"item": 7}', "The form cannot show this."),
        ('{"item": ', "Not JSON"),
    ],
)
def test_json_that_the_form_cannot_show_is_sent_as_it_is(
    open_form: Callable[..., Page], text: str, note: str
) -> None:
    page = open_form("orders")
    _json(page).fill(text)
    expect(page.locator("#json-note")).to_contain_text(note)
    step(page)
    expect(page.get_by_role("alert")).to_be_visible()
    frame = page.locator("#frames .sent pre").last
    expect(frame).to_have_text('{"type":"step","data":' + text.strip() + "}")


def test_a_variant_of_the_action_is_chosen(open_form: Callable[..., Page]) -> None:
    page = open_form("orders")
    page.get_by_label("Kind of action").select_option("Reckon")
    page.get_by_label("Kind of left").select_option("Sum")
    page.get_by_label("right", exact=True).last.fill("41")
    step(page)
    expect(fact(page, "did")).to_contain_text("41")
    assert last_sent(page) == {"terms": {"left": {"left": 0, "right": 0}, "right": 41}}


def test_a_tool_is_chosen_and_its_arguments_filled_in(open_form: Callable[..., Page]) -> None:
    page = open_form("tools")
    expect(page.get_by_label("Kind of tool")).to_contain_text("add")
    step(page)
    expect(fact(page, "tools")).to_contain_text("Adds two numbers.")
    page.get_by_label("Kind of tool").select_option("add")
    page.get_by_label("a", exact=True).fill("41")
    step(page)
    expect(fact(page, "result")).to_contain_text("42")
    page.get_by_label("Kind of tool").select_option("find")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_label("1", exact=True).fill("page")
    page.get_by_label("place", exact=True).select_option("text")
    step(page)
    expect(fact(page, "result")).to_contain_text("['page'] in text, None")
    arguments = {"words": ["page"], "place": "text"}
    assert last_sent(page) == {"type": "call_tool", "tool_name": "find", "arguments": arguments}


# --- Results --------------------------------------------------------------------------------------


def test_results_are_named_fields_and_json(open_form: Callable[..., Page]) -> None:
    page = open_form("kinds")
    step(page)
    expect(fact(page, "position")).to_have_text("0.3, 1")
    expect(fact(page, "board")).to_have_text("1 2 3\n4 5 6", use_inner_text=True)
    picture = fact(page, "picture").locator("img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 16
    expect(page.locator("tbody .step td")).to_have_count(4)  # no length
    page.get_by_label("As JSON", exact=True).check()
    whole = page.get_by_role("group", name="The answer as JSON")
    expect(whole).to_contain_text('"reward": 0.30000000000000004')
    page.get_by_label("As JSON", exact=True).uncheck()
    page.get_by_role("button", name="Run 100 steps").click()
    expect(page.locator("#episode-note")).to_have_text("5 steps, total reward 1.5, done")
    expect(fact(page, "done")).to_have_text("true: the episode is over")


def test_nothing_of_an_earlier_answer_stays(open_form: Callable[..., Page]) -> None:
    page = open_form("orders")
    step(page)
    page.get_by_role("button", name="State", exact=True).click()
    expect(page.locator("#state-answer")).to_contain_text("0 steps")
    page.get_by_role("button", name="Unknown type").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#facts")).to_be_hidden()
    expect(page.locator("#result-note")).to_be_hidden()
    expect(page.locator("#state-answer")).to_be_hidden()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#result-note")).to_contain_text("Reset, ")
    expect(page.locator("#episode-note")).to_be_empty()


def test_a_slow_step_is_seen_to_be_waited_for(open_form: Callable[..., Page]) -> None:
    page = open_form("orders")
    page.get_by_label("item", exact=True).fill("slow")
    step(page)
    expect(page.locator("#waiting")).to_contain_text("Waiting for the answer, ")
    expect(fact(page, "did")).to_contain_text("slow")
    expect(page.locator("#waiting")).to_be_hidden()


def _place_at_rest(page: Page, frames: Locator) -> Any:
    """Where the list is once it scrolls no more."""
    places = [-1]

    def is_at_rest() -> bool:
        page.evaluate(_DRAWN)
        places.append(frames.evaluate("list => list.scrollTop"))
        return places[-1] == places[-2]

    wait_until(is_at_rest)
    return places[-1]


def test_the_list_of_frames_follows_until_it_is_scrolled_up(
    open_form: Callable[..., Page],
) -> None:
    page = open_form("orders", viewport={"width": 1280, "height": 800})
    gap = "list => list.scrollHeight - list.scrollTop - list.clientHeight"
    frames = page.locator("#frames")
    item = page.get_by_label("item", exact=True)
    # Each answer changes the height of the card, and with it that of the list.
    for count, text in enumerate(["x", "long\n" * 40] * 6, 1):
        item.fill(text)
        step(page)
        expect(page.locator("#frame-count")).to_have_text(f"{2 * count} frames")
    page.evaluate(_DRAWN)
    wait_until(lambda: frames.evaluate(gap) <= 1)
    frames.hover()
    page.mouse.wheel(0, -400)
    wait_until(lambda: frames.evaluate(gap) > 100)
    before = _place_at_rest(page, frames)
    step(page)
    expect(page.locator("#frame-count")).to_have_text("26 frames")
    assert frames.evaluate("list => list.scrollTop") == before


# --- What the environment is ----------------------------------------------------------------------


def test_the_page_says_what_the_environment_is(open_form: Callable[..., Page]) -> None:
    page = open_form("kinds")
    text = "Takes an action with a field of each kind, and shows what it has seen."
    expect(page.locator("#description")).to_have_text(text)
    page.get_by_role("tab", name="About").click()
    expect(page.locator("#about-panel")).to_contain_text("KindsEnvironment")


def test_text_of_the_environment_is_never_markup(open_form: Callable[..., Page]) -> None:
    page = open_form("hostile")
    title = page.title()
    for name in ("text", "__proto__"):
        page.get_by_label(f"Kind of {name}").select_option(index=1 if name == "text" else 2)
    step(page)
    expect(fact(page, "__proto__")).to_contain_text(HOSTILE)
    expect(fact(page, "constructor")).to_have_text(HOSTILE)
    expect(fact(page, "large")).to_have_text(str(2**70))
    expect(fact(page, "long")).to_contain_text("(100,000 characters in all)")
    assert last_sent(page)["text"] == HOSTILE
    page.locator("tbody .step").click()
    page.get_by_label("As JSON", exact=True).check()
    for tab in ("The same in code", "Tools", "About"):
        page.get_by_role("tab", name=tab).click()
    about = page.locator("#about-panel")
    expect(about.get_by_role("heading")).to_have_text(f"Title {HOSTILE}")
    expect(about.get_by_role("link")).to_have_text(["a site", "a picture"])
    assert page.title() == title
    assert page.evaluate("({}).polluted") is None
    assert page.locator("main script, main img, main svg[onload]").count() == 0


# --- The same in code -----------------------------------------------------------------------------


def _snippet(page: Page, name: str) -> str:
    page.get_by_role("tab", name="The same in code").click()
    return page.get_by_label(name, exact=True).inner_text()


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _run_all(page: Page, folder: Path) -> dict[str, str]:
    """What each of the snippets prints, run as it is shown."""
    printed = {}
    for name in ("Python", "Python, async"):
        printed[name] = _run(
            sys.executable, "-W", "error", "-c", _snippet(page, name), folder=folder
        )
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python3").chmod(0o755)
    for name in ("curl", "WebSocket"):
        commands = f'PATH="$PWD:$PATH"\n{_snippet(page, name)}'
        printed[name] = _run("bash", "-euo", "pipefail", "-c", commands, folder=folder)
    return printed


def test_the_code_of_a_packaged_environment_runs_with_its_classes(
    server: Any, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = open_page(server.url + "/web")
    expect(page.locator("#status")).to_have_text("Connected")
    page.get_by_label("text", exact=True).fill("It's $HOME")
    page.get_by_label("Kind of weight").select_option("number")
    page.get_by_label("weight", exact=True).fill("0.5")
    printed = _run_all(page, tmp_path)
    code = _snippet(page, "Python")
    assert "from notes_env.client import NotesEnv\nfrom notes_env.models import NoteAction" in code
    assert 'NoteAction(text="It\'s $HOME", weight=0.5)' in code
    for name in ("Python", "Python, async"):
        assert 'text="It\'s $HOME"' in printed[name]
        assert printed[name].endswith(" 5.0\n")
    assert json.loads(printed["WebSocket"].splitlines()[1])["data"]["reward"] == 5.0
    assert json.loads(printed["curl"].splitlines()[1])["reward"] == 5.0


@pytest.mark.parametrize("name", _ENVIRONMENTS)
def test_the_code_of_an_environment_without_a_client_runs(
    open_form: Callable[..., Page], tmp_path: Path, name: str
) -> None:
    page = open_form(name)
    if name == "orders":
        _json(page).fill('{"item": "milk", "from": null, "from": "true, null: [1]"}')
    printed = _run_all(page, tmp_path)
    assert "class AnyEnv(SessionClient[AnyAction, AnyObservation, State])" in _snippet(
        page, "Python"
    )
    assert printed["Python"] == printed["Python, async"]
    if name == "orders":
        assert '**{"from": "true, null: [1]"}' in _snippet(page, "Python")
        assert json.loads(printed["curl"].splitlines()[1])["observation"]["did"] == {
            "item": "milk",
            "from": "true, null: [1]",
        }


# --- Looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _ENVIRONMENTS)
def test_pictures(open_form: Callable[..., Page], screenshots: Path, name: str) -> None:
    looks: dict[str, Any] = {
        "light": {"viewport": {"width": 1280, "height": 800}},
        "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
        "phone": {"viewport": PHONE},
    }
    for look, options in looks.items():
        page = open_form(name, **options)
        if name == "tools":
            page.get_by_label("Kind of tool").select_option("find")
        for count in range(1, 4):
            step(page)
            expect(page.locator("tbody .step")).to_have_count(count)
        page.screenshot(path=screenshots / f"{name}-{look}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == options["viewport"]["width"]
        table = page.locator("#steps .scroll")
        assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
