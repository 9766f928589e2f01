# SPDX-License-Identifier: BSD-3-Clause
"""Log lines: text or JSON, with the session they are about, and never with a token in them.

What is set up here is set up beside uvicorn: its own lines take the same form.
"""

import json
import logging
import re
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import DefaultFormatter

from stepwire.server.settings import Settings

logger = logging.getLogger("stepwire.server")

_OF_UVICORN = ("uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error")
_ACCESS_FIELDS = ("client", "method", "path", "http_version", "status")
_TOKEN = re.compile(r"(token=|bearer\s+)[^\s&;,'\"]+", re.IGNORECASE)


class _Served(Protocol):
    id: str

    @property
    def episode_id(self) -> str | None: ...


# The session that the running code serves, if any.
current_session: ContextVar[_Served | None] = ContextVar("current_session", default=None)


def _session_fields() -> dict[str, str]:
    session = current_session.get()
    if session is None:
        return {}
    fields = {"session_id": session.id, "episode_id": session.episode_id}
    return {name: value for name, value in fields.items() if value is not None}


class TextFormatter(DefaultFormatter):
    """uvicorn's form, the session after the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = _session_fields()
        text = super().formatMessage(record)
        return f"{text} {json.dumps(fields)}" if fields else text


class JsonFormatter(logging.Formatter):
    """One object for each line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_session_fields(),
        }
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            line |= zip(_ACCESS_FIELDS, record.args, strict=False)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_config(settings: Settings) -> dict[str, Any]:
    """For uvicorn's option of that name: all its processes agree from their first line on."""
    config = deepcopy(LOGGING_CONFIG)
    if settings.log_format == "json":
        config["formatters"] = {name: {"()": JsonFormatter} for name in config["formatters"]}
    return config


def set_up_logging(settings: Settings) -> None:
    """Print the server's lines as uvicorn prints its own, and keep tokens out of both.

    For the application, whoever serves it. Where uvicorn prints nothing itself, as in a program
    that has set up logging in its own way, only the tokens are kept out.
    """
    as_json = settings.log_format == "json"
    printing = logging.getLogger("uvicorn").handlers
    if printing and not logger.handlers:
        own = logging.StreamHandler()
        form = "%(levelprefix)s %(message)s"
        own.setFormatter(JsonFormatter() if as_json else TextFormatter(form))
        logger.addHandler(own)
        logger.setLevel(logging.getLogger("uvicorn.error").level)
        logger.propagate = False
    if as_json:
        for handler in (*printing, *logging.getLogger("uvicorn.access").handlers):
            handler.setFormatter(JsonFormatter())
    redaction = _Redaction(settings.api_token.get_secret_value() if settings.api_token else None)
    for name in (*_OF_UVICORN, logger.name):
        logging.getLogger(name).addFilter(redaction)


@dataclass(frozen=True)  # of equal ones, a logger takes one
class _Redaction:
    """Takes tokens out of a line: the server's own, and what was sent in the place of one."""

    token: str | None

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._redacted(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(self._redacted(argument) for argument in record.args)
        return True

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, int | float):
            return value
        text = str(value)
        redacted = _TOKEN.sub(r"\1…", text)
        if self.token:
            redacted = redacted.replace(self.token, "…")
        return value if redacted == text else redacted
