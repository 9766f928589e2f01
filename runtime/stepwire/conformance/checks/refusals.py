# SPDX-License-Identifier: BSD-3-Clause
"""Rows `ERR`: how a server refuses a frame, and that the session survives it."""

import re
from contextlib import ExitStack, suppress
from typing import Any

from stepwire.conformance.findings import NotChecked
from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest
from stepwire.conformance.session_under_test import Session

_GO_ON = "answer with an error frame and read on"


def require_error(reply: Any, code: str) -> dict[str, Any]:
    """The `data` of an error frame with that code."""
    require(isinstance(reply, dict) and reply.get("type") == "error", f"an error {code}", reply)
    data = reply.get("data")
    require(isinstance(data, dict) and data.get("code") == code, f"code {code}", reply)
    message = data.get("message")
    require(isinstance(message, str) and message, "a text as `message`", reply)
    return dict(data)


def _refused(server: ServerUnderTest, frame: Any, code: str) -> list[dict[str, Any]]:
    """Require an error that leaves the episode unchanged; returns its `errors`."""
    with server.session() as session:
        session.begin()
        with suppress(NotChecked):  # an episode without a step can stay unchanged too
            session.play(1)
        before = session.state()
        data = require_error(session.ask(frame), code)
        _require_unchanged(session, before)
    errors = data.get("errors")
    return errors if isinstance(errors, list) else []


def _require_unchanged(session: Session, before: dict[str, Any]) -> None:
    changed = session.changed_since(before)
    require(not changed, "the state to be as before the error", changed)


@check(
    "err-invalid-json",
    "ERR-1",
    cause="the exception of the JSON parser is not caught where frames are read",
    fix=f"catch it; {_GO_ON}",
)
def broken_json_is_refused(server: ServerUnderTest) -> None:
    """A frame that is not JSON is `INVALID_JSON`."""
    _refused(server, '{"type":', "INVALID_JSON")
    _refused(server, "", "INVALID_JSON")


@check(
    "err-unknown-type",
    "ERR-2",
    cause="the lookup of `type` expects a known type",
    fix=_GO_ON,
)
def an_unknown_type_is_refused(server: ServerUnderTest) -> None:
    """A frame without a type, or with an unknown one, is `UNKNOWN_TYPE`."""
    _refused(server, {"type": "dance"}, "UNKNOWN_TYPE")
    _refused(server, {"data": {}}, "UNKNOWN_TYPE")


@check(
    "err-validation",
    "ERR-3",
    cause="pydantic's `ValidationError` is turned into text, or not caught",
    fix="send its `errors()`",
)
def an_invalid_message_is_explained(server: ServerUnderTest) -> None:
    """An incomplete message is a `VALIDATION_ERROR` that lists what is missing."""
    for frame in ({"type": "step"}, {"type": "step", "data": 5}, {"type": "mcp"}):
        errors = _refused(server, frame, "VALIDATION_ERROR")
        require(errors, f"`errors` for {frame}", errors)
        for entry in errors:
            keys = set(entry) if isinstance(entry, dict) else set()
            require({"type", "loc", "msg"} <= keys, "`type`, `loc` and `msg` of each error", entry)


@check(
    "err-unknown-key",
    "ERR-4",
    cause="the models of messages ignore unknown keys",
    fix='`extra="forbid"`, as the framework\'s models have it',
)
def an_unknown_key_is_refused(server: ServerUnderTest) -> None:
    """An unknown key is a `VALIDATION_ERROR`, so that a misspelt key is noticed."""
    _refused(server, {"type": "state", "data": {}}, "VALIDATION_ERROR")
    step = {"type": "step", "data": server.action(), "conformance": 1}
    _refused(server, step, "VALIDATION_ERROR")


@check(
    "err-execution",
    "ERR-5",
    cause="exceptions of the environment are not caught, or get the code of other errors",
    fix=f"catch exceptions where the environment is called; {_GO_ON}",
    needs="failing_action",
)
def a_failing_environment_is_reported(server: ServerUnderTest) -> None:
    """An exception of the environment is `EXECUTION_ERROR`; the session goes on."""
    with server.session() as session:
        session.begin()
        frame = {"type": "step", "data": server.options.failing_action}
        require_error(session.ask(frame), "EXECUTION_ERROR")
        session.state()


@check(
    "err-execution-text",
    "ERR-6",
    cause="the text of the exception is sent, whatever it contains",
    fix="send a fixed text with an id and log the traceback under that id",
    needs="failing_action",
)
def an_unexpected_exception_stays_inside(server: ServerUnderTest) -> None:
    """Of an unexpected exception the client gets only an id, a new one each time."""
    with server.session() as session:
        session.begin()
        frame = {"type": "step", "data": server.options.failing_action}
        messages = [str((session.data(frame, "error")).get("message")) for _ in range(2)]
    found = [re.findall(r"\b[0-9a-f]{8,}\b", message) for message in messages]
    require(all(len(ids) == 1 for ids in found), "a message with one id", messages)
    require(found[0] != found[1], "a new id each time", messages)
    fixed = [message.replace(ids[0], "") for message, ids in zip(messages, found, strict=True)]
    require(fixed[0] == fixed[1], "the same text except for the id", messages)


@check(
    "err-no-object",
    "ERR-7",
    cause="`.get` is called on any JSON value, and its exception ends the session",
    fix=f"check that the value is an object; {_GO_ON}",
)
def json_that_is_not_an_object_is_refused(server: ServerUnderTest) -> None:
    """A list, a number or null is a `VALIDATION_ERROR`."""
    for frame in ("[]", "5", "null"):
        _refused(server, frame, "VALIDATION_ERROR")


@check(
    "err-binary",
    "ERR-8",
    cause="`receive_text()` raises for a binary frame, which ends the session",
    fix=f"read messages of both kinds; {_GO_ON}",
)
def a_binary_frame_is_refused(server: ServerUnderTest) -> None:
    """A binary frame is a `VALIDATION_ERROR`."""
    _refused(server, b'{"type":"state"}', "VALIDATION_ERROR")


@check(
    "err-surrogate",
    "ERR-9",
    cause="the JSON parser accepts half of a UTF-16 pair, and the encoder then raises",
    fix="refuse strings that cannot be encoded before the environment sees them",
)
def a_lone_surrogate_is_refused(server: ServerUnderTest) -> None:
    r"""A lone `"\ud800"` is a `VALIDATION_ERROR` and not a step."""
    action = server.action()
    texts = [name for name, value in action.items() if isinstance(value, str)]
    # A text of the action itself would come back in the observation; every action has `metadata`.
    damaged = action | ({texts[0]: "\ud800"} if texts else {"metadata": {"text": "\ud800"}})
    _refused(server, {"type": "step", "data": damaged}, "VALIDATION_ERROR")


@check(
    "err-depth",
    "ERR-10",
    cause="the parser's `RecursionError` ends the session",
    fix=f"limit the nesting before parsing; {_GO_ON}",
)
def deep_nesting_is_refused(server: ServerUnderTest) -> None:
    """20,000 levels of lists are a `VALIDATION_ERROR`."""
    deep = "[" * 20_000 + "]" * 20_000
    _refused(server, '{"type":"reset","data":{"deep":' + deep + "}}", "VALIDATION_ERROR")


@check(
    "err-digits",
    "ERR-11",
    cause="the `ValueError` of the conversion to an integer ends the session",
    fix=f"limit the digits before parsing; {_GO_ON}",
)
def a_long_integer_is_refused(server: ServerUnderTest) -> None:
    """An integer of 5,000 digits is a `VALIDATION_ERROR`."""
    digits = "9" * 5000
    _refused(server, '{"type":"reset","data":{"seed":' + digits + "}}", "VALIDATION_ERROR")


@check(
    "err-capacity",
    "ERR-12",
    cause="the handshake is refused, or the error has no counts, or slots are not freed",
    fix="accept, send the error with both counts and close; free a slot when a session ends",
    needs="capacity",
)
def a_session_above_the_capacity_is_refused(server: ServerUnderTest) -> None:
    """At capacity a further session gets an error; when a session ends, there is room again."""
    capacity = server.options.capacity or 0
    with ExitStack() as sessions:
        opened = [sessions.enter_context(server.session()) for _ in range(capacity)]
        for session in opened:
            session.begin()
        with server.session() as refused:
            data = require_error(refused.receive(), "CAPACITY_REACHED")
            require(data.get("max_sessions") == capacity, f"`max_sessions` {capacity}", data)
            require(data.get("active_sessions") == capacity, f"`active_sessions` {capacity}", data)
            closed = refused.closing()
            require(closed.code == 1000, "close code 1000", closed)
        opened[0].send({"type": "close"})
        opened[0].closing()
        with server.session() as admitted:
            admitted.begin()


@check(
    "err-factory",
    "ERR-13",
    cause="the environment is made before the handshake, or its exception is not caught",
    fix="accept, send `FACTORY_ERROR` with the `factory_name` and close",
    needs="unbuildable_url",
)
def an_environment_that_cannot_be_made_is_reported(server: ServerUnderTest) -> None:
    """An exception of the constructor is `FACTORY_ERROR`, and the connection is closed."""
    with server.session(url=server.options.unbuildable_url) as session:
        data = require_error(session.receive(), "FACTORY_ERROR")
        require(isinstance(data.get("factory_name"), str), "a `factory_name`", data)
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)


@check(
    "err-unknown-session",
    "ERR-14",
    cause="the server ignores `session_id` in the address",
    fix="attach to the session with that id, or send `SESSION_ERROR` and close",
)
def an_unknown_session_is_refused(server: ServerUnderTest) -> None:
    """An unknown `/ws?session_id=…` is `SESSION_ERROR`, and the connection is closed."""
    with server.session("/ws?session_id=conformance-no-such-session") as session:
        require_error(session.ask({"type": "state"}), "SESSION_ERROR")
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)
