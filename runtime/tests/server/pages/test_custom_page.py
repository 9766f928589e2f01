# SPDX-License-Identifier: BSD-3-Clause
"""An author's own Gradio page in its places at `/web`, and what it shares with the framework's."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from websockets.sync import client as websocket_client

pytestmark = pytest.mark.slow  # importing Gradio takes seconds

_TIMEOUT = 60
_HEARTBEAT = "event: heartbeat\ndata: null\n\n"  # where an answer takes more than 15 seconds

connect = partial(websocket_client.connect, open_timeout=_TIMEOUT, ping_interval=None)


@pytest.fixture(scope="module")
def pages(start_shared_server: Callable[..., Any]) -> Any:
    return start_shared_server(application=Path(__file__).with_name("guessing_pages.py"))


def _ask(address: str, body: Any = None, method: str = "POST") -> Any:
    return requests.request(method, address, json=body, timeout=_TIMEOUT, allow_redirects=False)


def _without_metadata(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_metadata(v) for k, v in value.items() if k != "metadata"}
    return [_without_metadata(v) for v in value] if isinstance(value, list) else value


def _conversation(base: str) -> Any:
    """What the server answers and what it sends to a page, from its start."""
    said: list[Any] = []

    def ask(path: str, body: Any = None, method: str = "POST") -> None:
        answer = _ask(base + path, body, method)
        said.append([answer.status_code, answer.json()])

    def update() -> None:
        text = str(page.recv(_TIMEOUT))
        said.append(json.loads(re.sub(r'"timestamp": ?"[-:.T\d]+"', '"timestamp": "then"', text)))

    updates = base.replace("http", "ws") + "/ws/ui"
    with connect(updates) as page:
        update()
        ask("/web/state", method="GET")
        ask("/web/metadata", method="GET")
        ask("/web/reset")
        update()
        ask("/web/reset", {"secret": 3, "episode_id": "an id", "unknown": True})
        update()
        for number in (5, 3):
            ask("/web/step", {"action": {"number": number}})
            update()
        ask("/web/step", [])
        ask("/web/state", method="GET")
        with connect(updates):  # each is sent the episode when another one comes
            update()
    return said


def test_the_routes_answer_as_the_frameworks_do(pages: Any) -> None:
    ours, stock = _conversation(pages.url + "/beside"), _conversation(pages.url + "/stock")
    if '"metadata"' not in json.dumps(stock):
        ours = _without_metadata(ours)  # `openenv-core` 0.3.0 sends none
    assert ours == stock


@pytest.mark.parametrize("path", ["/", "/web"])
def test_the_page_has_the_address_that_the_frameworks_has(pages: Any, path: str) -> None:
    assert _ask(pages.url + "/stock" + path, method="GET").headers["Location"] == "/web/"
    for served in ("/beside", "/first", "/alone"):
        answer = _ask(pages.url + served + path, method="GET")
        assert answer.status_code == 307
        assert urljoin(answer.url, answer.headers["Location"]) == pages.url + served + "/web/"


def _call(page: str, function: str, *inputs: Any) -> Any:
    """The answer of a function of a Gradio page, as Gradio's own clients call it."""
    address = f"{page}gradio_api/call/{function}"
    event = _ask(address, {"data": inputs}).json()["event_id"]
    answer = requests.get(f"{address}/{event}", timeout=_TIMEOUT).text.replace(_HEARTBEAT, "")
    assert answer.startswith("event: complete"), answer
    return json.loads(answer.partition("data: ")[2])[0]


_PLACES = {"/beside": "/web/custom/", "/first": "/web/", "/alone": "/web/"}


@pytest.mark.parametrize("served", _PLACES)
def test_the_page_uses_the_environment_of_the_routes(pages: Any, served: str) -> None:
    base = pages.url + served
    page = base + _PLACES[served]
    assert _call(page, "reset", 3)["observation"]["text"] == "Guess a number from 0 to 100"
    assert _ask(base + "/web/step", {"action": {"number": 5}}).json()["reward"] == 0.0
    assert _call(page, "guess", 3)["reward"] == 1.0
    assert _call(page, "state")["guesses"] == [5, 3]
    assert [step["action"] for step in _call(page, "episode")["action_logs"]] == [
        {"number": 5},
        {"number": 3},
    ]
    assert _call(page, "close") == {"closed": True}


def test_the_builder_gets_what_the_framework_gives_it(pages: Any) -> None:
    given = _call(pages.url + "/beside/web/custom/", "given")
    assert given == _call(pages.url + "/stock/web/", "given")
    assert given["title"] == "OpenEnv Agentic Environment: guessing"
    assert _call(pages.url + "/first/web/", "given")["title"] == "Guess it!"


def _configuration(page: str) -> Any:
    return requests.get(f"{page}config", timeout=_TIMEOUT).json()


def test_the_title_of_the_page(pages: Any) -> None:
    titles = {name: _configuration(pages.url + name + _PLACES[name])["title"] for name in _PLACES}
    default = "OpenEnv Agentic Environment: guessing"
    assert titles == {"/beside": default, "/first": "Guess it!", "/alone": default}


def _tabs(page: str) -> str:
    (tabs,) = re.findall("<nav[^>]*>(.*?)</nav>", json.dumps(_configuration(page)))
    return str(tabs).replace("\\", "")


def test_the_inspector_and_the_page_link_to_each_other(pages: Any) -> None:
    own = '<a aria-current="page">{}</a>'
    beside, first = pages.url + "/beside/web/", pages.url + "/first/web/"
    inspector = requests.get(beside, timeout=_TIMEOUT)
    assert '<a href="custom/" >Play &amp; guess</a>' in inspector.text
    assert requests.get(f"{beside}custom", timeout=_TIMEOUT).url == f"{beside}custom/"
    link = '<a href="../">Inspector</a>'
    assert _tabs(f"{beside}custom/") == link + own.format("Play &amp; guess")
    assert _tabs(first) == own.format("Custom") + link.replace("../", "inspector")
    second = requests.get(f"{first}inspector", timeout=_TIMEOUT)
    assert '<a href="./" >Custom</a>' in second.text
    assert second.headers["Content-Security-Policy"] == inspector.headers["Content-Security-Policy"]


def test_a_page_alone_comes_without_the_inspector(pages: Any) -> None:
    assert "Inspector" not in json.dumps(_configuration(pages.url + "/alone/web/"))
    assert _ask(pages.url + "/alone/web/inspector", method="GET").status_code == 404


@pytest.mark.parametrize("served", _PLACES)
def test_the_page_uses_no_other_server_and_says_who_may_embed_it(pages: Any, served: str) -> None:
    page = requests.get(pages.url + served + _PLACES[served], timeout=_TIMEOUT)
    policy = page.headers["Content-Security-Policy"]
    assert policy == "frame-ancestors 'self' https://huggingface.co https://*.hf.space"
    config = _configuration(page.url)
    assert (config["analytics_enabled"], config["stylesheets"]) == (False, [])


def test_pages_of_other_sites_cannot_call_the_functions(pages: Any) -> None:
    address = pages.url + "/alone/web/gradio_api/call/reset"
    foreign = {"Origin": "https://elsewhere.example"}
    answer = requests.post(address, json={"data": [3]}, headers=foreign, timeout=_TIMEOUT)
    assert answer.status_code == 403


def test_a_builder_that_makes_no_page_is_an_error_at_the_start(
    run: Callable[..., Any],
) -> None:
    code = """
from notes_env.environment import NotesEnvironment
from notes_env.models import NoteAction, NoteObservation
from stepwire.server import create_app

create_app(NotesEnvironment, NoteAction, NoteObservation, gradio_builder=lambda *_: "a page")
"""
    done = run("-c", code)
    assert done.returncode == 1
    assert "TypeError: gradio_builder must return a gradio.Blocks, not a str" in done.stderr


def test_the_frameworks_own_page_works_as_an_authors(pages: Any) -> None:
    """Some builders put it into theirs."""
    base = pages.url + "/playground"
    _ask(base + "/web/reset", {"secret": 1})
    (reset,) = [
        dependency
        for dependency in _configuration(base + "/web/")["dependencies"]
        if dependency["api_name"] == "reset_env"
    ]
    _call(base + "/web/", "reset_env", *([[]] * len(reset["inputs"])))
    assert _ask(base + "/web/step", {"action": {"number": 7}}).json()["reward"] == 1.0
