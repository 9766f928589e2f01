# SPDX-License-Identifier: BSD-3-Clause
"""The tree of errors: what its picture says is what callers can catch."""

import asyncio
import builtins
import pickle
import re

import pytest

import stepwire.client
from stepwire.client import errors

_LINE = re.compile(r"^([│├└─ ]*)(\w+)(?: +(\w+Error|…))?")


def _drawn() -> dict[str, set[str]]:
    """Class → its bases, from the tree in the module's docstring."""
    assert errors.__doc__ is not None
    bases: dict[str, set[str]] = {}
    above: list[str] = []
    for line in errors.__doc__.partition("\n\n")[2].strip().splitlines():
        match = _LINE.match(line)
        assert match is not None, line
        depth = len(match[1]) // 4
        above[depth:] = [match[2]]
        builtin = {match[3]} - {None, "…"}
        bases[match[2]] = {*above[:depth][-1:], *builtin}
    return bases


def _is_public_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_the_picture_of_the_tree_shows_every_error_and_its_bases() -> None:
    names = [name for name, value in vars(errors).items() if _is_public_error(value)]
    assert set(_drawn()) == {name for name in names if not name.startswith("_")}
    for name, bases in _drawn().items():
        error = getattr(errors, name)
        for base in bases:
            assert issubclass(error, getattr(errors, base, getattr(builtins, base, None)))
        own = {base.__name__ for base in error.__bases__}
        private = {base for base in own if base.startswith("_")}
        assert own - private <= bases | {"Exception"}


def test_the_package_exports_every_error() -> None:
    assert set(_drawn()) <= set(stepwire.client.__all__)


def test_a_timeout_is_what_asyncio_raises_too() -> None:
    assert issubclass(errors.ReplyTimeoutError, (TimeoutError, asyncio.TimeoutError))
    assert issubclass(errors.ReplyTimeoutError, asyncio.TimeoutError)


def test_every_error_says_in_its_docstring_when_it_is_raised() -> None:
    assert all(getattr(errors, name).__doc__ for name in _drawn())


_REPLY = {
    "message": "Server at capacity: 4/4 sessions active.",
    "code": "CAPACITY_REACHED",
    "active_sessions": 4,
    "max_sessions": 4,
}
_INVALID = {
    "message": "Invalid message",
    "code": "VALIDATION_ERROR",
    "errors": [{"loc": ["data", "seed"], "msg": "Input should be an integer", "type": "int"}],
}


def test_a_server_error_tells_what_the_server_said_and_which_it_was() -> None:
    error = errors.ServerError(_INVALID, "ws://there/ws")
    assert str(error) == (
        "Server error: Invalid message (code: VALIDATION_ERROR) "
        "[data.seed: Input should be an integer] from ws://there/ws"
    )
    assert (error.code, error.message) == ("VALIDATION_ERROR", "Invalid message")
    assert error.errors == _INVALID["errors"]
    assert error.data is _INVALID


@pytest.mark.parametrize("data", [{}, {"errors": None}])
def test_a_server_error_without_details(data: dict[str, None]) -> None:
    error = errors.ServerError(data, "ws://there/ws")
    assert (error.code, error.message, error.errors) == ("UNKNOWN", "no message", [])


def test_a_capacity_error_has_the_counts() -> None:
    error = errors.CapacityReachedError(_REPLY, "ws://there/ws")
    assert (error.active_sessions, error.max_sessions) == (4, 4)
    assert "CAPACITY_REACHED" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.CapacityReachedError(_REPLY, "ws://there/ws"),
        errors.ServerError(_INVALID, "ws://there/ws"),
        errors.SessionLostError("gone", 1012, "restart"),
        errors.ReplyTimeoutError("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_process_boundaries(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))
