# SPDX-License-Identifier: BSD-3-Clause
"""Cookies of the server: how they are read and which attributes they get."""

from urllib.parse import quote

from starlette.requests import HTTPConnection


def cookie_values(connection: HTTPConnection, name: str) -> list[str]:
    """All values of the cookie. A browser sends one for each matching path: `/` and `/prefix`."""
    pairs = (
        pair.strip().partition("=")
        for header in connection.headers.getlist("cookie")
        for pair in header.split(";")
    )
    return [value for own_name, _, value in pairs if own_name == name]


def cookie_attributes(connection: HTTPConnection) -> str:
    """For this server only and hidden from scripts; over HTTPS, also inside other sites' pages."""
    path = quote(connection.scope.get("root_path", "")) or "/"
    # Written by hand: Python's own cookies support `Partitioned` from 3.14 on.
    if _is_https(connection):
        return f"Path={path}; HttpOnly; SameSite=None; Secure; Partitioned"
    return f"Path={path}; HttpOnly; SameSite=Lax"


def _is_https(connection: HTTPConnection) -> bool:
    """Whether the client uses HTTPS, directly or through a proxy.

    Any client may send the header. One that lies only gets a cookie that it will not keep.
    """
    forwarded = connection.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return connection.url.scheme == "https" or forwarded == "https"
