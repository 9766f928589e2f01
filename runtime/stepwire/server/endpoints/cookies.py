# SPDX-License-Identifier: BSD-3-Clause
"""Cookies of the server: read from a request, and what is set along with one."""

from urllib.parse import quote

from starlette.requests import HTTPConnection


def cookie_values(connection: HTTPConnection, name: str) -> list[str]:
    """All cookies of the name: one for `/` may hide behind that of a server at `/prefix`."""
    pairs = (
        pair.strip().partition("=")
        for header in connection.headers.getlist("cookie")
        for pair in header.split(";")
    )
    return [value for own_name, _, value in pairs if own_name == name]


def cookie_attributes(connection: HTTPConnection) -> str:
    """For this server only, out of reach of scripts and, over HTTPS, also inside another site."""
    path = quote(connection.scope.get("root_path", "")) or "/"
    # Written here: Python's own cookies learn of `Partitioned` in 3.14.
    if _is_https(connection):
        return f"Path={path}; HttpOnly; SameSite=None; Secure; Partitioned"
    return f"Path={path}; HttpOnly; SameSite=Lax"


def _is_https(connection: HTTPConnection) -> bool:
    """Whether the client speaks HTTPS, be it with a proxy.

    The header is believed of anyone: who lies gets a cookie that its own client will not keep.
    """
    forwarded = connection.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    return connection.url.scheme == "https" or forwarded == "https"
