# SPDX-License-Identifier: BSD-3-Clause
"""Errors for clients: the one place that turns exceptions into `error` frames and responses.

The server raises `MessageError` for an invalid message. Any other exception comes from an
environment. Codes are those of the OpenEnv wire contract (`WSErrorCode`).
"""

import logging
from typing import Any
from uuid import uuid4

from openenv.core.env_server.exceptions import (
    EnvironmentFactoryError,
    OpenEnvError,
    SessionCapacityError,
)
from openenv.core.env_server.types import WSErrorCode
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

logger = logging.getLogger("stepwire.server")

_MOST_ERRORS = 20
_LONGEST_INPUT = 500
# Raised by libraries, not on purpose by an environment's author: their text may hold internals.
_INTERNAL_VALUE_ERRORS = (UnicodeError, ValidationError, PydanticSerializationError)


class MessageError(Exception):
    """A client's message is invalid; `errors` are in pydantic's form."""

    def __init__(
        self, code: WSErrorCode, message: str, errors: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.errors = errors

    @classmethod
    def invalid(
        cls, kind: str, location: tuple[str | int, ...], reason: str, value: Any
    ) -> "MessageError":
        """A `VALIDATION_ERROR` with a single entry, for a check that pydantic does not make."""
        error = {
            "type": kind,
            "loc": _shortened_parts(location),
            "msg": reason,
            "input": _shortened(value),
        }
        return cls(WSErrorCode.VALIDATION_ERROR, "Invalid message", [error])

    @classmethod
    def from_validation(
        cls, error: ValidationError, location: tuple[str | int, ...] = ()
    ) -> "MessageError":
        """A `VALIDATION_ERROR` with pydantic's entries; each `loc` starts with `location`."""
        entries = error.errors(include_url=False, include_context=False)
        errors: list[dict[str, Any]] = [
            {
                "type": entry["type"],
                "loc": _shortened_parts(location + entry["loc"]),
                "msg": encodable(entry["msg"]),
                "input": _shortened(entry["input"]),
            }
            for entry in entries[:_MOST_ERRORS]
        ]
        if len(entries) > _MOST_ERRORS:
            omitted = f"{len(entries) - _MOST_ERRORS} further errors are not listed"
            errors.append({"type": "too_many_errors", "loc": location, "msg": omitted})
        return cls(WSErrorCode.VALIDATION_ERROR, "Invalid message", errors)


class StoppingError(OpenEnvError):
    """The server is stopping: it opens no session, or abandons a request."""

    def __init__(self) -> None:
        super().__init__("The server is stopping")


def _shortened(value: Any) -> Any:
    """`value`, or its beginning if it is long; always JSON, so NaN becomes a string."""
    if isinstance(value, str):
        return encodable(value if len(value) <= _LONGEST_INPUT else value[:_LONGEST_INPUT] + "…")
    try:
        encoded = to_json(value, inf_nan_mode="strings")
    except ValueError:
        return f"a value of type {type(value).__name__}"
    if len(encoded) <= _LONGEST_INPUT:
        return from_json(encoded)
    return encoded[:_LONGEST_INPUT].decode("utf-8", "ignore") + "…"


def _shortened_parts(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    # A location holds keys of the client's objects, which can be of any length too.
    return tuple(_shortened(part) for part in location)


def encodable(text: str) -> str:
    """`text` with lone surrogates, which cannot be encoded, as escapes such as `\\ud800`."""
    return text.encode("utf-8", "backslashreplace").decode()


def describe(error: Exception) -> dict[str, Any]:
    """The error as the client gets it: `message`, `code` and, depending on the code, more fields.

    An environment's `ValueError` is meant for its user and keeps its text. Any other exception may
    hold internals: the client gets a fixed text with an id, and the log gets the traceback.
    """
    if isinstance(error, MessageError):
        described: dict[str, Any] = {"message": str(error), "code": error.code}
        if error.errors is not None:
            described["errors"] = error.errors
        return described
    if isinstance(error, SessionCapacityError):
        return {
            "message": str(error),
            "code": WSErrorCode.CAPACITY_REACHED,
            "active_sessions": error.active_sessions,
            "max_sessions": error.max_sessions,
        }
    if isinstance(error, StoppingError):
        return {"message": str(error), "code": WSErrorCode.SESSION_ERROR}
    if isinstance(error, EnvironmentFactoryError):
        log_failure(error)
        return {
            "message": str(error),
            "code": WSErrorCode.FACTORY_ERROR,
            "factory_name": error.factory_name,
        }
    if isinstance(error, OpenEnvError) or (
        isinstance(error, ValueError) and not isinstance(error, _INTERNAL_VALUE_ERRORS)
    ):
        return {"message": encodable(str(error)), "code": WSErrorCode.EXECUTION_ERROR}
    message = (
        f"The environment failed unexpectedly; the server's log says why (id {log_failure(error)})"
    )
    return {"message": message, "code": WSErrorCode.EXECUTION_ERROR}


def log_failure(error: Exception) -> str:
    """Log an environment's exception with its traceback, under the id that is returned."""
    correlation_id = uuid4().hex[:12]
    logger.error("Environment failed (id %s)", correlation_id, exc_info=error)
    return correlation_id
