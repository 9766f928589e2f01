# SPDX-License-Identifier: BSD-3-Clause
"""`Options`: how a client connects and how long it waits, checked when the client is made."""

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from stepwire.client.errors import InvalidOptionError

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_MODES = ("simulation", "production")
_LARGEST = 2e6  # of a finite number; systems count the milliseconds of a wait in 31 bits


class Options(NamedTuple):
    """Times are seconds."""

    headers: dict[str, str]
    connect_timeout_s: float
    message_timeout_s: float
    max_message_size: int  # bytes
    capacity_wait_s: float
    ping: tuple[float | None, float | None]  # interval, timeout

    def __repr__(self) -> str:
        shown = self._asdict() | {"headers": list(self.headers)}  # their values may be secrets
        return f"{type(self).__name__}({shown})"


def checked_options(given: Mapping[str, Any]) -> Options:
    """The options of a client from its arguments. Raises `InvalidOptionError`."""
    size_mb = number(given, "max_message_size_mb", "MiB")
    mode = given["mode"]
    if mode is not None and str(mode).lower() not in _MODES:
        raise InvalidOptionError(f"`mode` must be one of {', '.join(_MODES)}, not {mode!r}.")
    return Options(
        _headers(given["headers"], given["token"]),
        _limit(given, "connect_timeout_s"),
        _limit(given, "message_timeout_s"),
        max(1, int(size_mb * 2**20)),
        number(given, "capacity_wait_s", may_be_0=True, may_be_endless=True),
        (
            _number_or_none(given, "websocket_ping_interval_s"),
            _number_or_none(given, "websocket_ping_timeout_s"),
        ),
    )


def number(
    given: Mapping[str, Any],
    name: str,
    unit: str = "seconds",
    *,
    may_be_0: bool = False,
    may_be_endless: bool = False,
) -> float:
    """An option that must be a number. Raises `InvalidOptionError`.

    No finite number is larger than 2 million, which is 23 days for a time.
    """
    value = given[name]
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number:
        number = math.inf if value == math.inf else float(max(-1, min(value, _LARGEST)))
        enough = number >= 0 if may_be_0 else number > 0
        if enough and (may_be_endless or math.isfinite(number)):
            return number
    least = "of at least 0" if may_be_0 else "above 0"
    finite = "" if may_be_endless else "finite "
    raise InvalidOptionError(f"`{name}` must be a {finite}number of {unit} {least}, not {value!r}.")


def _limit(given: Mapping[str, Any], name: str) -> float:
    """A time limit; neither `None` nor infinity is one, as with the framework's clients."""
    return min(_number_or_none(given, name) or _LARGEST, _LARGEST)


def _number_or_none(given: Mapping[str, Any], name: str) -> float | None:
    return None if given[name] is None else number(given, name, may_be_endless=True)


def _headers(headers: Any, token: Any) -> dict[str, str]:
    """The headers of the handshake. Error texts show no value: it may be a secret."""
    try:
        checked = dict(headers or {})
    except (TypeError, ValueError, LookupError):
        raise InvalidOptionError(
            f"`headers` must be a dictionary of strings, not {type(headers).__name__}."
        ) from None
    for name, value in checked.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidOptionError("`headers` has a name that no header can have.")
        checked[name] = _header_value(value, f"The value of {name!r} in `headers`")
    if token is not None and (token := _header_value(token, "`token`")):
        for name in [name for name in checked if name.lower() == "authorization"]:
            del checked[name]
        checked["Authorization"] = f"Bearer {token}"
    return checked


def _header_value(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidOptionError(f"{what} must be a string, not {type(value).__name__}.")
    stripped = value.strip()  # a token that was read from a file ends with a newline
    if not _HEADER_VALUE.fullmatch(stripped):
        raise InvalidOptionError(
            f"{what} has characters that no header can have: line breaks, control characters, or "
            "others than those of Latin-1."
        )
    return stripped
