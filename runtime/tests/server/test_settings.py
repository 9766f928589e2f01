# SPDX-License-Identifier: BSD-3-Clause
"""Every setting has a default, bounds and a variable."""

import os
from typing import Any

import pytest
from pydantic import ValidationError

from stepwire.server.settings import PREFIX, Settings, read_settings_of_application

# name: (default, least, most)
_NUMBERS = {
    "port": (8000, 0, 65535),
    "workers": (1, 1, 256),
    "max_concurrent_envs": (1000, 1, 1_000_000),
    "session_idle_timeout_s": (3600, 1, 2_592_000),
    "max_message_bytes": (16 * 1024 * 1024, 1024, 100 * 1024 * 1024),
    "max_json_depth": (100, 8, 200),
    "request_timeout_s": (60, 1, 3600),
    "keep_alive_timeout_s": (75, 1, 3600),
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
    "traces": "off",
    "enable_web_interface": True,
    "frame_ancestors": "'self' https://huggingface.co https://*.hf.space",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ):
        if name.removeprefix(PREFIX).lower() in Settings.model_fields:
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
    for refused in (least - 1, most + 1, "many"):
        monkeypatch.setenv(name.upper(), str(refused))
        with pytest.raises(ValidationError, match=name):
            Settings()


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("ALLOWED_ORIGINS", "example.org"),
        ("ALLOWED_ORIGINS", "https://example.org/"),
        ("ALLOWED_ORIGINS", "https://one.example, two.example"),
        ("ALLOWED_HOSTS", "example.org:8000"),
        ("ALLOWED_HOSTS", "https://example.org"),
        ("API_TOKEN", "fifteen-letters"),
        ("API_TOKEN", ""),
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


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", "Warn", "warning"),
        ("LOG_FORMAT", "JSON", "json"),
        ("WEBSOCKET_PROTOCOL", "Uvicorn", "uvicorn"),
        ("SCENARIOS", "False", "off"),
        ("ENABLE_WEB_INTERFACE", "FALSE", False),
        ("PORT", " 80\n", 80),
    ],
)
def test_spelling_is_no_matter(
    name: str, value: str, meant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(Settings(), name.lower()) == meant


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_an_empty_variable_sets_nothing(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    for name in set(Settings.model_fields) - {"api_token"}:
        monkeypatch.setenv(prefix + name.upper(), " ")
    assert Settings() == defaults
    assert Settings().model_fields_set == set()


def test_a_name_with_the_prefix_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "not for us")
    monkeypatch.setenv("STEPWIRE_PORT", "1234")
    assert (Settings().port, read_settings_of_application()[1]) == (1234, [])


@pytest.mark.parametrize("name", ["PORT", "STEPWIRE_PORT"])
def test_what_kubernetes_sets_for_a_service_of_that_name_is_no_port(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert Settings().port == 8000


# What other software sets, and whether the same value is one of ours.
_OF_OTHERS = {
    "HOST": "x86_64-conda-linux-gnu",  # Conda's compilers, and tcsh
    "PORT": "/dev/ttyUSB0",
    "WORKERS": "auto",
    "LOG_LEVEL": "verbose",
    "LOG_FORMAT": "%(message)s",
    "SECRET_KEY": "dev",  # Flask, Django
    "ALLOWED_ORIGINS": "['localhost']",
    "SCENARIOS": "scenarios/*.yaml",
    "TRACES": "/var/lib/traces",
    "ENABLE_WEB_INTERFACE": "nginx",
    "MAX_CONCURRENT_ENVS": "unlimited",
    "FRAME_ANCESTORS": "a;b",
}


def test_values_of_other_software_are_ignored_with_a_warning_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in _OF_OTHERS.items():
        monkeypatch.setenv(name, value)
    settings, warnings = read_settings_of_application()
    assert settings == Settings.model_construct(host=_OF_OTHERS["HOST"])  # a name that may exist
    assert settings.model_fields_set == {"host"}  # so production mode serves no page
    named = {warning.split(" ")[0].rstrip(":"): warning for warning in warnings}
    assert set(named) == set(_OF_OTHERS) - {"HOST"}
    for name, warning in named.items():
        assert f"(set STEPWIRE_{name} if {name} is for other software)" in warning
        assert warning.endswith("The value is ignored")
    assert "'dev'" not in named["SECRET_KEY"]


@pytest.mark.parametrize("token", ["", "short", "with a space in it", 'with-a-quote"-in-it'])
def test_a_bad_token_refuses_everyone(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", token)
    settings, [warning] = read_settings_of_application()
    assert settings.api_token is not None
    required = settings.api_token.get_secret_value()
    assert len(required) >= 32
    assert required != token
    assert warning.endswith("Until that is corrected or unset, all clients are refused")
    assert not token or token not in warning


def test_bad_hosts_leave_only_local_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "https://one.example")
    settings, [warning] = read_settings_of_application()
    assert settings.allowed_hosts == ("localhost",)
    assert "only localhost and IP addresses are answered to" in warning


@pytest.mark.parametrize("name", ["WORKERS", "API_TOKEN", "SECRET_KEY", "ALLOWED_HOSTS"])
def test_a_bad_value_of_a_name_with_the_prefix_ends_the_process(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PREFIX + name, "a/b")
    with pytest.raises(SystemExit) as ended:
        read_settings_of_application()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"server: error: {PREFIX}{name}")
    assert line.count("\n") == 1


def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "my secret")
    with pytest.raises(ValidationError) as error:
        Settings()
    assert "my secret" not in str(error.value) + repr(error.value)


def test_an_argument_overrides_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings().port == 1234
    assert Settings(port=4321).port == 4321


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
