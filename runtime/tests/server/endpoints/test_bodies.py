# SPDX-License-Identifier: BSD-3-Clause
"""A body that is no good JSON is a typed refusal on every route, never a failure of the server."""

import json
import re
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

_POSTS = (
    "/reset",
    "/step",
    "/mcp",
    "/web/reset",
    "/web/step",
    "/notes_env/tasks",
    "/notes_env/num_tasks",
    "/notes_env/task",
    "/notes_env/task_range",
)
_NAMES = (
    "action text seed episode_id split index start metadata type jsonrpc id method params name "
    "arguments tool_name timeout_s \ud800"
)
_KEYS = st.sampled_from(_NAMES.split())
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["2.0", "tools/call", "call_tool", "initialize", "\udfff"])
)
_JSON = st.dictionaries(
    _KEYS,
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=6,
)
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")


def _encoded(value: Any, encoding: str, cut: int) -> bytes:
    body = json.dumps(value).encode(encoding)
    return body[: len(body) - cut]


_BODIES = st.binary(max_size=60) | st.builds(
    _encoded, _JSON, st.sampled_from(_ENCODINGS), st.sampled_from([0, 0, 0, 1, 2, 7])
)
_HEADERS = st.sampled_from(
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Encoding": "gzip"},
    ]
)


def _without_constants(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"The answer holds {constant}")

    return json.loads(text, parse_constant=refuse)


@given(path=st.sampled_from(_POSTS), body=_BODIES, headers=_HEADERS)
@example("/step", b'{"action":{"text":NaN}}', {})
@example("/step", b'{"action":{"text":1e999}}', {})
@example("/reset", b'{"seed":-Infinity}', {})
@example("/mcp", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":NaN}}', {})
def test_no_body_makes_the_server_fail(server: Any, path: str, body: bytes, headers: Any) -> None:
    response = requests.post(server.url + path, data=body, headers=headers, timeout=60)
    assert response.status_code in (200, 202, 400, 406, 415, 422, 501), response.text
    if response.status_code != 202:
        answer = _without_constants(response.text)
    if response.status_code == 422:
        for entry in answer["detail"]:
            assert entry["msg"]
            assert {"type", "loc"} < entry.keys()


@pytest.mark.parametrize(
    ("path", "place"),
    [("/step", ["text"]), ("/web/step", ["body", "action", "text"])],
)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_has_not_is_named_with_its_field(
    server: Any, path: str, place: list[str], number: str
) -> None:
    body = f'{{"action":{{"text":{number}}}}}'
    response = requests.post(server.url + path, data=body, timeout=60)
    (entry,) = response.json()["detail"]
    received = number.replace("1e999", "Infinity")
    assert (response.status_code, entry["loc"], entry["input"]) == (422, place, received)


@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_json_in_every_encoding_of_unicode_is_read(server: Any, encoding: str) -> None:
    """As on the stock servers; RFC 8259 allows a parser to ignore a byte order mark."""
    text = "Hi \N{GRINNING FACE} {[ \N{CJK UNIFIED IDEOGRAPH-7B7B}"
    body = json.dumps({"action": {"text": text}}, ensure_ascii=False).encode(encoding)
    for path in ("/step", "/web/step"):
        response = requests.post(server.url + path, data=body, timeout=60)
        assert response.json()["observation"]["text"] == text
    call = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    pong = requests.post(server.url + "/mcp", data=json.dumps(call).encode(encoding), timeout=60)
    assert pong.json()["result"] == {}


@pytest.mark.parametrize("body", [b"\xff\xfe\x00\xd8", b"\x00", b"\xef\xbb\xbf", b"\xfe\xff{"])
def test_text_cut_short_in_another_encoding_is_invalid_json(server: Any, body: bytes) -> None:
    (entry,) = requests.post(server.url + "/step", data=body, timeout=60).json()["detail"]
    assert (entry["type"], entry["loc"]) == ("json_invalid", ["body"])
    assert re.match("Invalid JSON: ", entry["msg"])
