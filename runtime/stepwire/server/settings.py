# SPDX-License-Identifier: BSD-3-Clause
"""Every setting of the server with its default and bounds, read from environment variables."""

import re
import sys
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]
LogFormat = Literal["text", "json"]

# Settings that are also options of the `server` command.
OPTIONS = ("host", "port", "workers", "log_level")


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


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_split)
]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(_split)
]


class Settings(BaseSettings):
    """Read once per process. A variable has the name of its field, in capitals."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=256, description="Worker processes")
    log_level: LogLevel = Field("info", description="Least severe log lines to print")
    log_format: LogFormat = Field(
        "text", description="Form of the log lines; JSON is one object each"
    )
    max_concurrent_envs: int = Field(
        1000, ge=1, le=1_000_000, description="Sessions open at once, per worker"
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
        5, ge=1, le=3600, description="Seconds until an HTTP connection without requests is closed"
    )
    ws_ping_interval_s: int = Field(
        20, ge=1, le=3600, description="Seconds between pings to a WebSocket client"
    )
    ws_ping_timeout_s: int = Field(
        20, ge=1, le=3600, description="Seconds within which a ping must be answered"
    )
    websocket_protocol: Literal["fast", "uvicorn"] = Field(
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
    scenarios: Literal["on", "off"] = Field(
        "on", description="Whether a `reset` may request misbehaviour"
    )
    enable_web_interface: bool = Field(True, description="Whether `/web` is served")
    frame_ancestors: str = Field(
        "'self' https://huggingface.co https://*.hf.space",
        pattern=r"^[^;,\r\n]+$",
        description="Who may embed the pages; a value of CSP's `frame-ancestors`",
    )


def read_settings(**options: Any) -> Settings:
    """Read the settings; `options` win over the environment variables.

    A bad value ends the process with one line on stderr and exit code 2.
    """
    try:
        return Settings(**options)
    except ValidationError as error:
        exit_with_error("; ".join(_explain(entry) for entry in error.errors()))


def exit_with_error(message: str) -> NoReturn:
    """End the process with one line on stderr and exit code 2."""
    print(f"server: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _explain(error: Any) -> str:
    name = str(error["loc"][0])
    option = f" (--{name.replace('_', '-')})" if name in OPTIONS else ""
    secret = Settings.model_fields[name].annotation == (SecretStr | None)
    received = "" if secret else f", not {error['input']!r}"
    return f"{name.upper()}{option}: {error['msg']}{received}"
