# SPDX-License-Identifier: BSD-3-Clause
"""Every setting of the server with its default and bounds, read from environment variables.

`STEPWIRE_PORT` is ours alone; `PORT` is shorter, but other software may use it as well. So a bad
value of a short name does not keep an application from starting. The `server` command refuses it.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

PREFIX = "STEPWIRE_"
LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]
LogFormat = Literal["text", "json"]

# Settings that are also options of the `server` command.
OPTIONS = ("host", "port", "workers", "log_level")

_LEVELS = {"warn": "warning", "fatal": "critical"}
_SWITCH = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}
# Kubernetes and Docker set `STEPWIRE_PORT=tcp://10.0.0.1:80` for a service called `stepwire`.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


def as_level(value: Any) -> Any:
    """The log level in this module's spelling; `INFO` and `warn` are accepted too."""
    return _word(_LEVELS)(value)


def _word(synonyms: dict[str, str]) -> Callable[[Any], Any]:
    def spelt_as_here(value: Any) -> Any:
        return synonyms.get(value.lower(), value.lower()) if isinstance(value, str) else value

    return spelt_as_here


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part for part in map(str.strip, value.split(",")) if part)


def _origin(value: str) -> str:
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s]+", value):
        raise ValueError("an origin is `https://host`, `https://host:port`, `null` or `*`")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[^*/:\s]+", value):
        raise ValueError("a host is a name without port, `*.name` for all its subdomains, or `*`")
    return value.lower()


def _token(value: SecretStr | None) -> SecretStr | None:
    # These characters need no quoting in a header, a cookie or an address.
    if value is not None and not re.fullmatch(r"[A-Za-z0-9._~-]+", value.get_secret_value()):
        raise ValueError("a token consists of letters, digits and the characters - . _ ~")
    return value


Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """The settings; arguments win over the variables.

    A variable is the name of its field in capitals, with or without `PREFIX`; the one with it wins.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    if TYPE_CHECKING:

        def __init__(self, **arguments: Any) -> None:
            """Every argument may be left out."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=256, description="Worker processes")
    log_level: Annotated[LogLevel, BeforeValidator(as_level)] = Field(
        "info", description="Least severe log lines to print"
    )
    log_format: Annotated[LogFormat, BeforeValidator(_word({}))] = Field(
        "text", description="Form of the log lines; JSON is one object each"
    )
    max_concurrent_envs: int = Field(
        1000, ge=1, le=1_000_000, description="Sessions open at once, in all workers together"
    )
    session_idle_timeout_s: int = Field(
        3600, ge=1, le=2_592_000, description="Seconds without a frame until a session is closed"
    )
    max_message_bytes: int = Field(
        16_777_216, ge=1024, le=104_857_600, description="Bytes in one frame or request body"
    )
    max_json_depth: int = Field(
        100, ge=8, le=200, description="Levels of nesting in one JSON message"
    )
    request_timeout_s: int = Field(
        60, ge=1, le=3600, description="Seconds within which an HTTP request must arrive"
    )
    keep_alive_timeout_s: int = Field(
        75, ge=1, le=3600, description="Seconds until an HTTP connection without requests is closed"
    )
    ws_ping_interval_s: int = Field(
        20, ge=1, le=3600, description="Seconds between pings to a WebSocket client"
    )
    ws_ping_timeout_s: int = Field(
        20, ge=1, le=3600, description="Seconds within which a ping must be answered"
    )
    websocket_protocol: Annotated[Literal["fast", "uvicorn"], BeforeValidator(_word({}))] = Field(
        "fast",
        description="Implementation of WebSocket; `fast` is ours, `uvicorn` is uvicorn's own",
    )
    shutdown_grace_s: int = Field(
        5, ge=1, le=3600, description="Seconds that a stopping server waits for steps in flight"
    )
    worker_threads: int = Field(
        32,
        ge=1,
        le=1024,
        description="Threads for HTTP requests to environments that block, per worker",
    )
    allowed_origins: Origins = Field(
        (),
        description="Other origins whose pages may use the server; comma-separated, `*` for all",
    )
    allowed_hosts: Hosts = Field(
        (),
        description="Other host names to answer to; comma-separated, such as `*.example.org`",
    )
    api_token: Annotated[SecretStr | None, AfterValidator(_token)] = Field(
        None,
        min_length=16,
        description="Token that clients must send; if unset, anyone may use the server",
    )
    secret_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Signs the cookies of HTTP episodes; if unset, they end with the server",
    )
    scenarios: Annotated[Literal["on", "off"], BeforeValidator(_word(_SWITCH))] = Field(
        "on", description="Whether a `reset` may request misbehaviour"
    )
    traces: Annotated[Literal["on", "off"], BeforeValidator(_word(_SWITCH))] = Field(
        "off", description="Whether spans are sent to an OpenTelemetry collector"
    )
    enable_web_interface: bool = Field(True, description="Whether `/web` is served")
    frame_ancestors: str = Field(
        "'self' https://huggingface.co https://*.hf.space",
        pattern=r"^[^;,\r\n]+$",
        description="Who may embed the pages; a value of CSP's `frame-ancestors`",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_variables(cls, arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        ignored = info.context or ()
        values = {name: value for name, (_, value) in _variables().items() if name not in ignored}
        return values | arguments


def _variables() -> dict[str, tuple[str, str]]:
    """For each setting, the variable that sets it and its value; an empty variable is ignored.

    An empty token may come from a script whose own variable is missing, so it is a bad value.
    """
    found = {}
    for name in Settings.model_fields:
        for variable in (PREFIX + name.upper(), name.upper()):
            value = os.environ.get(variable, "").strip()
            is_empty_token = name == "api_token" and variable in os.environ
            if (value or is_empty_token) and not _SERVICE_LINK.match(value):
                found[name] = variable, value
                break
    return found


def read_settings(**options: Any) -> Settings:
    """Read the settings for the `server` command, whose `options` win over the variables.

    A bad value ends the process with one line on stderr and exit code 2.
    """
    try:
        return Settings(**options)
    except ValidationError as error:
        exit_with_error("; ".join(_explain(error, options).values()))


# Replacements for bad values where the default would allow more than intended.
_IN_PLACE_OF_BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "api_token": (
        lambda: secrets.token_urlsafe(32),
        "Until that is corrected or unset, all clients are refused",
    ),
    "allowed_hosts": (
        lambda: "localhost",
        "Until that is corrected or unset, only localhost and IP addresses are answered to",
    ),
}


def read_settings_of_application() -> tuple[Settings, list[str]]:
    """Read the settings for an application, which any ASGI server may run; returns warnings too.

    A bad value of a short name is ignored, with a warning. One of a name with the prefix ends the
    process with one line on stderr and exit code 2.
    """
    try:
        return Settings(), []
    except ValidationError as error:
        problems = _explain(error, {})
    variables = _variables()
    if any(variables[name][0].startswith(PREFIX) for name in problems):
        exit_with_error("; ".join(problems.values()))
    closed = {name: _IN_PLACE_OF_BAD[name] for name in problems if name in _IN_PLACE_OF_BAD}
    settings = Settings.model_validate(
        {name: value() for name, (value, _) in closed.items()}, context=set(problems)
    )
    return settings, [
        f"{problem}. {closed[name][1] if name in closed else 'The value is ignored'}"
        for name, problem in problems.items()
    ]


def exit_with_error(message: str) -> NoReturn:
    """End the process with one line on stderr and exit code 2."""
    print(f"server: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _explain(error: ValidationError, options: dict[str, Any]) -> dict[str, str]:
    """For each setting with a bad value, the reason, without any secret."""
    variables = _variables()
    problems = {}
    for entry in error.errors():
        name = str(entry["loc"][0])
        variable = name.upper() if name in options else variables.get(name, (name.upper(),))[0]
        option = f" (--{name.replace('_', '-')})" if name in OPTIONS else ""
        is_secret = Settings.model_fields[name].annotation == (SecretStr | None)
        received = "" if is_secret else f", not {entry['input']!r}"
        message = entry["msg"]
        if entry["type"] == "too_short":
            message = f"Value should have at least {entry['ctx']['min_length']} characters"
        other = f" (set {PREFIX}{variable} if {variable} is for other software)"
        hint = "" if name in options or variable.startswith(PREFIX) else other
        problems[name] = f"{variable}{option}: {message}{received}{hint}"
    return problems
