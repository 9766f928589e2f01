# SPDX-License-Identifier: BSD-3-Clause
"""Every knob of the server, with its bound and its default, read from the environment."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]


class Settings(BaseSettings):
    """Read once per process; an environment variable has its field's name in capitals."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    workers: int = Field(1, ge=1, le=256, description="Worker processes")
    log_level: LogLevel = Field("info", description="Least severe log lines to print")
    max_concurrent_envs: int = Field(
        1000, ge=1, le=1_000_000, description="Sessions open at once, per worker"
    )
    max_json_depth: int = Field(
        100, ge=8, le=200, description="Levels of nesting in one JSON message"
    )
    worker_threads: int = Field(
        32,
        ge=1,
        le=1024,
        description="Threads for environments without `async` methods, per worker",
    )
    secret_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Signs the cookies of HTTP episodes; without it they end with the server",
    )
    scenarios: Literal["on", "off"] = Field(
        "on", description="Whether a `reset` may ask for misbehaviour"
    )
    enable_web_interface: bool = Field(True, description="Whether `/web` is served")
    frame_ancestors: str = Field(
        "'self' https://huggingface.co https://*.hf.space",
        pattern=r"^[^;,\r\n]+$",
        description="Who may embed the pages, as CSP's `frame-ancestors` has it",
    )
