# SPDX-License-Identifier: BSD-3-Clause
"""Rows `ERR`: what a server says to what it cannot honour, and that the session survives it."""

import re
from contextlib import ExitStack
from typing import Any

from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import Conversation, ServerUnderTest

_GO_ON = "answer with an error frame and go on reading"


def require_error(reply: Any, code: str) -> dict[str, Any]:
    """The `data` of an error frame with that code."""
    require(isinstance(reply, dict) and reply.get("type") == "error", f"an error {code}", reply)
    data = reply.get("data")
    require(isinstance(data, dict) and data.get("code") == code, f"code {code}", reply)
    message = data.get("message")
    require(isinstance(message, str) and message, "a `message` that says what is wrong", reply)
    return dict(data)


def _refused(server: ServerUnderTest, frame: Any, code: str) -> list[dict[str, Any]]:
    """The `errors` of a refusal after which the episode is where it was."""
    with server.session() as session:
        session.reset()
        session.play(1)
        before = session.state()
        data = require_error(session.ask(frame), code)
        _require_unharmed(session, before)
    errors = data.get("errors")
    return errors if isinstance(errors, list) else []


def _require_unharmed(session: Conversation, before: dict[str, Any]) -> None:
    after = session.state()
    require(after == before, f"the state as before the error, {before}", after)


@check(
    "err-invalid-json",
    "ERR-1",
    cause="the exception of the JSON parser is not caught where frames are read",
    fix=f"catch it; {_GO_ON}",
)
def broken_json_is_refused(server: ServerUnderTest) -> None:
    """A frame that is no JSON is `INVALID_JSON`."""
    _refused(server, '{"type":', "INVALID_JSON")
    _refused(server, "", "INVALID_JSON")


@check(
    "err-unknown-type",
    "ERR-2",
    cause="the `type` is looked up without thinking of one that is not there",
    fix=_GO_ON,
)
def an_unknown_type_is_refused(server: ServerUnderTest) -> None:
    """A frame without a type, or of an unknown one, is `UNKNOWN_TYPE`."""
    _refused(server, {"type": "dance"}, "UNKNOWN_TYPE")
    _refused(server, {"data": {}}, "UNKNOWN_TYPE")


@check(
    "err-validation",
    "ERR-3",
    cause="pydantic's `ValidationError` is turned into text, or not caught",
    fix="send its `errors()`",
)
def an_invalid_message_is_explained(server: ServerUnderTest) -> None:
    """A message that lacks something is `VALIDATION_ERROR`, with a list of what it lacks."""
    for frame in ({"type": "step"}, {"type": "step", "data": 5}, {"type": "mcp"}):
        errors = _refused(server, frame, "VALIDATION_ERROR")
        require(errors, f"`errors` for {frame}", errors)
        for entry in errors:
            keys = set(entry) if isinstance(entry, dict) else set()
            require({"type", "loc", "msg"} <= keys, "`type`, `loc` and `msg` of each error", entry)


@check(
    "err-unknown-key",
    "ERR-4",
    cause="models of messages ignore keys they do not know",
    fix='`extra="forbid"`, as the framework\'s models have it',
)
def an_unknown_key_is_refused(server: ServerUnderTest) -> None:
    """A key too many is `VALIDATION_ERROR`, so that a misspelt one is noticed."""
    _refused(server, {"type": "state", "data": {}}, "VALIDATION_ERROR")
    step = {"type": "step", "data": server.action(), "conformance": 1}
    _refused(server, step, "VALIDATION_ERROR")


@check(
    "err-execution",
    "ERR-5",
    cause="what the environment raises is not caught, or not told apart from other errors",
    fix=f"catch it around the environment's call; {_GO_ON}",
    needs="failing_action",
)
def a_failing_environment_is_reported(server: ServerUnderTest) -> None:
    """An environment that raises is `EXECUTION_ERROR`; the session goes on."""
    with server.session() as session:
        session.reset()
        frame = {"type": "step", "data": server.options.failing_action}
        require_error(session.ask(frame), "EXECUTION_ERROR")
        session.state()


@check(
    "err-execution-text",
    "ERR-6",
    cause="the exception's own text is sent, whatever it holds",
    fix="send a fixed text with an id and log the traceback under that id",
    needs="failing_action",
)
def an_unexpected_exception_stays_inside(server: ServerUnderTest) -> None:
    """Of an unexpected exception the client gets an id, another one each time, no more."""
    with server.session() as session:
        session.reset()
        frame = {"type": "step", "data": server.options.failing_action}
        messages = [str((session.data(frame, "error")).get("message")) for _ in range(2)]
    found = [re.findall(r"\b[0-9a-f]{8,}\b", message) for message in messages]
    require(all(len(ids) == 1 for ids in found), "a message with one id", messages)
    require(found[0] != found[1], "another id each time", messages)
    fixed = [message.replace(ids[0], "") for message, ids in zip(messages, found, strict=True)]
    require(fixed[0] == fixed[1], "a fixed text but for the id", messages)


@check(
    "err-no-object",
    "ERR-7",
    cause="`.get` is called on whatever JSON there was, and the exception ends the session",
    fix=f"check that it is an object; {_GO_ON}",
)
def json_that_is_no_object_is_refused(server: ServerUnderTest) -> None:
    """A list, a number or null is `VALIDATION_ERROR`."""
    for frame in ("[]", "5", "null"):
        _refused(server, frame, "VALIDATION_ERROR")


@check(
    "err-binary",
    "ERR-8",
    cause="`receive_text()` raises for a binary frame, and that ends the session",
    fix=f"read messages of both kinds; {_GO_ON}",
)
def a_binary_frame_is_refused(server: ServerUnderTest) -> None:
    """A binary frame is `VALIDATION_ERROR`."""
    _refused(server, b'{"type":"state"}', "VALIDATION_ERROR")


@check(
    "err-surrogate",
    "ERR-9",
    cause="half a pair of UTF-16 passes the JSON parser, and no encoder afterwards",
    fix="refuse strings that cannot be encoded before the environment sees them",
)
def a_lone_surrogate_is_refused(server: ServerUnderTest) -> None:
    r"""`"\ud800"` alone is `VALIDATION_ERROR`, and no step."""
    action = server.action()
    texts = [name for name, value in action.items() if isinstance(value, str)]
    # Every action has `metadata`; where one has a text of its own, that is what is sent back.
    damaged = action | ({texts[0]: "\ud800"} if texts else {"metadata": {"text": "\ud800"}})
    _refused(server, {"type": "step", "data": damaged}, "VALIDATION_ERROR")


@check(
    "err-depth",
    "ERR-10",
    cause="the parser's `RecursionError` ends the session",
    fix=f"bound the nesting before parsing; {_GO_ON}",
)
def deep_nesting_is_refused(server: ServerUnderTest) -> None:
    """20,000 levels of lists are `VALIDATION_ERROR`."""
    deep = "[" * 20_000 + "]" * 20_000
    _refused(server, '{"type":"reset","data":{"deep":' + deep + "}}", "VALIDATION_ERROR")


@check(
    "err-digits",
    "ERR-11",
    cause="the `ValueError` of a conversion to an integer ends the session",
    fix=f"bound the digits before parsing; {_GO_ON}",
)
def an_integer_without_end_is_refused(server: ServerUnderTest) -> None:
    """An integer of 5,000 digits is `VALIDATION_ERROR`."""
    digits = "9" * 5000
    _refused(server, '{"type":"reset","data":{"seed":' + digits + "}}", "VALIDATION_ERROR")


@check(
    "err-capacity",
    "ERR-12",
    cause="the handshake is refused instead, or the refusal has no counts, or slots are not freed",
    fix="accept, send the error with both counts and close; free the slot of a session that ends",
    needs="capacity",
)
def a_session_above_the_capacity_is_refused(server: ServerUnderTest) -> None:
    """At capacity a further session is told so; when one ends there is room again."""
    capacity = server.options.capacity or 0
    with ExitStack() as sessions:
        opened = [sessions.enter_context(server.session()) for _ in range(capacity)]
        for session in opened:
            session.state()
        with server.session() as refused:
            data = require_error(refused.receive(), "CAPACITY_REACHED")
            require(data.get("max_sessions") == capacity, f"`max_sessions` {capacity}", data)
            require(data.get("active_sessions") == capacity, f"`active_sessions` {capacity}", data)
            closed = refused.closing()
            require(closed.code == 1000, "close code 1000", closed)
        opened[0].send({"type": "close"})
        opened[0].closing()
        with server.session() as admitted:
            admitted.state()


@check(
    "err-factory",
    "ERR-13",
    cause="the environment is made before the handshake is accepted, or its exception not caught",
    fix="accept, send `FACTORY_ERROR` with the `factory_name` and close",
    needs="unbuildable_url",
)
def an_environment_that_cannot_be_made_is_reported(server: ServerUnderTest) -> None:
    """A constructor that raises is `FACTORY_ERROR`, then the connection is closed."""
    with server.session(url=server.options.unbuildable_url) as session:
        data = require_error(session.receive(), "FACTORY_ERROR")
        require(isinstance(data.get("factory_name"), str), "a `factory_name`", data)
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)


@check(
    "err-unknown-session",
    "ERR-14",
    cause="`session_id` in the address is not read",
    fix="attach to the session of that id, or send `SESSION_ERROR` and close",
)
def an_unknown_session_is_refused(server: ServerUnderTest) -> None:
    """`/ws?session_id=…` of no session is `SESSION_ERROR`, then the connection is closed."""
    with server.session("/ws?session_id=conformance-no-such-session") as session:
        require_error(session.ask({"type": "state"}), "SESSION_ERROR")
        closed = session.closing()
        require(closed.code == 1000, "close code 1000", closed)
