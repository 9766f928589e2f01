# SPDX-License-Identifier: BSD-3-Clause
"""`docs/protocol.md`: its frames, its routes, its episodes over HTTP and its MCP client."""

import json
import re
from collections.abc import Callable
from typing import Any

import requests
from openenv.core.env_server.types import WSErrorCode

from document import ADDRESS, Document

page = Document("docs/protocol.md")


@page.tests("WebSocket, 1")
def test_frames_are_answered_as_printed(conversation: Any) -> None:
    for line in page.code("WebSocket, 1").splitlines():
        direction, frame = line[:2], line[2:]
        if direction == "> ":
            conversation.send(frame)
        else:
            assert conversation.receive() == json.loads(frame)
    assert conversation.close_code() == 1000


def test_error_codes_are_all_of_the_framework() -> None:
    sentence = page.section("WebSocket").split("The codes are", 1)[1].split(".", 1)[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {code.value for code in WSErrorCode}


def test_the_table_lists_every_route_and_each_answers(server: Any) -> None:
    documented = set()
    for route, body, answer in page.table("HTTP") + page.table("Tasks"):
        method, path = route.strip("`").split()
        documented.add((method.lower(), path.replace("/echo_env/", "/{env_name}/")))
        sent = re.match(r"`(.*?)`", body)
        reply = requests.request(
            method, server.url + path, json=json.loads(sent[1]) if sent else None, timeout=60
        )
        assert reply.ok, reply.text
        if answer.startswith(("`{", "`[")):
            assert reply.json() == json.loads(answer.strip("`"))
        elif answer not in ("the same", "JSON-RPC 2.0") and not answer.startswith("text "):
            assert set(re.findall(r"`(\w+)`", answer)) <= set(reply.json())
    description = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    served = {(method, path) for path, item in description["paths"].items() for method in item}
    assert documented == served


@page.tests("HTTP episodes, 2")
def test_curl_keeps_an_episode(run_shell: Callable[..., str], server: Any) -> None:
    printed = run_shell(page.code("HTTP episodes, 2").replace(ADDRESS, server.url))
    answers = re.findall(r'"echoed_message":"(\w+)".*?"step":(\d)', printed)
    assert answers == [("Hello", "1"), ("World", "2")]


test_blocks = page.test_the_other_blocks(slow=["MCP, 1"])  # it loads FastMCP on both sides
