# SPDX-License-Identifier: BSD-3-Clause
"""Every setting has a default, bounds and a variable."""

import os

import pytest
from pydantic import ValidationError

from stepwire.server.settings import Settings

# name: (default, least, most)
_NUMBERS = {
    "port": (8000, 0, 65535),
    "workers": (1, 1, 256),
    "max_concurrent_envs": (1000, 1, 1_000_000),
    "session_idle_timeout_s": (3600, 1, 2_592_000),
    "max_message_bytes": (16 * 1024 * 1024, 1024, 100 * 1024 * 1024),
    "max_json_depth": (100, 8, 200),
    "request_timeout_s": (60, 1, 3600),
    "keep_alive_timeout_s": (5, 1, 3600),
    "ws_ping_interval_s": (20, 1, 3600),
    "ws_ping_timeout_s": (20, 1, 3600),
    "shutdown_grace_s": (5, 1, 3600),
    "worker_threads": (32, 1, 1024),
}
_OTHERS = {
    "host": "127.0.0.1",
    "log_level": "info",
    "log_format": "text",
    "allowed_origins": (),
    "allowed_hosts": (),
    "api_token": None,
    "secret_key": None,
    "websocket_protocol": "fast",
    "scenarios": "on",
    "enable_web_interface": True,
    "frame_ancestors": "'self' https://huggingface.co https://*.hf.space",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def test_the_defaults() -> None:
    defaults = {name: bounds[0] for name, bounds in _NUMBERS.items()}
    assert Settings().model_dump() == {**defaults, **_OTHERS}


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("name", _NUMBERS)
def test_numbers_are_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, least, most = _NUMBERS[name]
    for allowed in (least, most):
        monkeypatch.setenv(name.upper(), str(allowed))
        assert getattr(Settings(), name) == allowed
    for refused in (least - 1, most + 1, "many", ""):
        monkeypatch.setenv(name.upper(), str(refused))
        with pytest.raises(ValidationError, match=name):
            Settings()


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("HOST", ""),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("ALLOWED_ORIGINS", "example.org"),
        ("ALLOWED_ORIGINS", "https://example.org/"),
        ("ALLOWED_ORIGINS", "https://one.example, two.example"),
        ("ALLOWED_HOSTS", "example.org:8000"),
        ("ALLOWED_HOSTS", "https://example.org"),
        ("API_TOKEN", "fifteen-letters"),
        ("API_TOKEN", "with a space in between"),
        ("SECRET_KEY", "fifteen letters"),
        ("ENABLE_WEB_INTERFACE", "perhaps"),
        ("FRAME_ANCESTORS", "'self'; script-src *"),
    ],
)
def test_other_values_are_checked(name: str, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, refused)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://one.example:8443, null,,*")
    monkeypatch.setenv("ALLOWED_HOSTS", "One.example,*.two.example ,*")
    assert Settings().allowed_origins == ("https://one.example:8443", "null", "*")
    assert Settings().allowed_hosts == ("one.example", "*.two.example", "*")


def test_an_argument_overrides_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings().port == 1234
    assert Settings(port=4321).port == 4321


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
