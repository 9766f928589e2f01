# SPDX-License-Identifier: BSD-3-Clause
"""Log lines: text or JSON, with the session they are about, and without tokens.

uvicorn's own lines get the same form. uvicorn is imported only where it already prints lines.
"""

import json
import logging
import re
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from stepwire.server.settings import Settings

logger = logging.getLogger("stepwire.server")

_OF_UVICORN = ("uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error")
_ACCESS_FIELDS = ("client", "method", "path", "http_version", "status")
_RUNNING = re.compile(r"Uvicorn running on (https?)://(.+):(\d+)")
# Addresses to listen on, and where a browser on this machine finds such a server.
_REACHABLE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
# A query in a path, also in uvicorn's line about a connection at the level `trace`.
_QUERY = re.compile(r"(?:(?<=\?)|(?<='query_string': b))\S+")
# Lines about WebSockets of uvicorn's; ours name the session.
_SAID_BETTER = ("connection open", "connection closed")
_TOKEN = re.compile(r"(token=|bearer\s+)[^\s&;,'\"]+", re.IGNORECASE)


class ServedSession(Protocol):
    """A session, as far as log lines need it."""

    id: str

    @property
    def episode_id(self) -> str | None:
        """Of the current episode, if known."""

    def note_episode(self) -> None:
        """Read the episode's id, if that is possible in this thread."""


# The session that the running code belongs to, if any.
current_session: ContextVar[ServedSession | None] = ContextVar("current_session", default=None)


def _session_fields() -> dict[str, str]:
    session = current_session.get()
    if session is None:
        return {}
    fields = {"session_id": session.id, "episode_id": session.episode_id}
    return {name: value for name, value in fields.items() if value is not None}


class TextFormatter(logging.Formatter):
    """The form of uvicorn's lines, with the session after the message."""

    def __init__(self) -> None:
        from uvicorn.logging import DefaultFormatter

        super().__init__()
        self._prefixed = DefaultFormatter("%(levelprefix)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = _session_fields()
        text = self._prefixed.formatMessage(record)
        return f"{text} {json.dumps(fields)}" if fields else text


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

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


class PageAddresses(logging.Handler):
    """Follows uvicorn's line with the server's address by one with those of the pages."""

    def __init__(self, with_inspector: bool) -> None:
        super().__init__()
        self._pages = {"/docs": "documentation"}
        if with_inspector:
            self._pages = {"/web": "web interface", **self._pages}

    def emit(self, record: logging.LogRecord) -> None:
        """Log the addresses if `record` is uvicorn's line."""
        running = _RUNNING.match(record.getMessage())
        if running is None:
            return
        scheme, host, port = running.groups()
        host = _REACHABLE.get(host, host)
        pages = [f"{scheme}://{host}:{port}{path} ({name})" for path, name in self._pages.items()]
        logger.info("Pages: %s", " ".join(pages))


def announce_pages(settings: Settings) -> None:
    """Have the addresses of the pages logged once the server listens."""
    printing = logging.getLogger("uvicorn")
    if not any(isinstance(handler, PageAddresses) for handler in printing.handlers):
        printing.addHandler(PageAddresses(settings.enable_web_interface))


def log_config(settings: Settings) -> dict[str, Any]:
    """The value of uvicorn's option of that name: all its processes use it from the first line."""
    from uvicorn.config import LOG_LEVELS, LOGGING_CONFIG

    config = deepcopy(LOGGING_CONFIG)
    config["formatters"]["stepwire"] = {"()": TextFormatter}
    if settings.log_format == "json":
        config["formatters"] = {name: {"()": JsonFormatter} for name in config["formatters"]}
    config["handlers"]["stepwire"] = {**config["handlers"]["default"], "formatter": "stepwire"}
    config["handlers"]["pages"] = {
        "()": PageAddresses,
        "with_inspector": settings.enable_web_interface,
    }
    config["loggers"]["uvicorn"]["handlers"].append("pages")
    config["loggers"][logger.name] = {
        "handlers": ["stepwire"],
        "level": LOG_LEVELS[settings.log_level],
        "propagate": False,
    }
    return config


def set_up_logging(settings: Settings) -> None:
    """Print our lines as uvicorn prints its own, and redact tokens in both.

    In a program that configures logging itself, uvicorn prints nothing; then only tokens are
    redacted.
    """
    as_json = settings.log_format == "json"
    printing = logging.getLogger("uvicorn").handlers
    if printing and not logger.handlers:
        own = logging.StreamHandler()
        own.setFormatter(JsonFormatter() if as_json else TextFormatter())
        logger.addHandler(own)
        logger.setLevel(logging.getLogger("uvicorn.error").level)
        logger.propagate = False
    if as_json:
        for handler in (*printing, *logging.getLogger("uvicorn.access").handlers):
            handler.setFormatter(JsonFormatter())
    redaction = _Redaction(settings.api_token.get_secret_value() if settings.api_token else None)
    for name in (*_OF_UVICORN, logger.name):
        logging.getLogger(name).addFilter(redaction)


@dataclass(frozen=True)  # comparable, so that a logger takes an equal one only once
class _Redaction:
    """Removes tokens from a line: the server's own, and whatever a client sent as one."""

    token: str | None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in _SAID_BETTER:
            return False
        is_of_uvicorn = record.name in _OF_UVICORN
        record.msg = self._redacted(record.msg, is_of_uvicorn)
        if isinstance(record.args, tuple):
            record.args = tuple(self._redacted(value, is_of_uvicorn) for value in record.args)
        return True

    def _redacted(self, value: Any, is_of_uvicorn: bool) -> Any:
        if isinstance(value, int | float):
            return value
        text = redacted = str(value)
        lowered = text.lower()  # a search for a word takes a tenth of the pattern's time
        if "token=" in lowered or "bearer" in lowered:
            redacted = _TOKEN.sub(r"\1…", redacted)
        if is_of_uvicorn and ("?" in text or "query_string" in text):
            # The whole query: names may be encoded, and values other than tokens may be secret.
            redacted = _QUERY.sub("…", redacted)
        if self.token:
            redacted = redacted.replace(self.token, "…")
        return value if redacted == text else redacted
