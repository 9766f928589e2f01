# SPDX-License-Identifier: BSD-3-Clause
"""Opens a WebSocket: TCP, proxy, TLS and the handshake, all blocking."""

import socket
import time
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic_core import from_json
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.http11 import Response
from websockets.protocol import State
from websockets.sync.client import connect

from stepwire.client.errors import ConnectFailedError

_READ_SIZE = 65536
_ADVICE: dict[int | None, str] = {
    401: "Pass the server's token as `token=`.",
    403: "Check the path and host of the address, and the `token=` and `headers=` that are sent.",
    404: "Check the path of the address.",
    503: "It is starting, stopping or overloaded: try again later.",
}


class OpenWebSocket(NamedTuple):
    """A socket after the handshake."""

    sock: socket.socket
    protocol: ClientProtocol
    received: bytes  # after the handshake: frames


class _Opened:
    """Takes over from `websockets` after TCP, proxy and TLS: no handshake, no thread."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol, **_: Any) -> None:
        self.sock = sock
        self.protocol = protocol

    def handshake(self, *_: Any) -> None:
        """Does nothing: `_shake_hands` does it."""

    def start_keepalive(self) -> None:
        """Does nothing: one thread does it for all sessions, see `keepalive`."""


def open_websocket(
    url: str, headers: dict[str, str], timeout_s: float, max_size: int | None
) -> OpenWebSocket:
    """Connect for up to `timeout_s` seconds. Raises `ConnectFailedError`."""
    deadline = time.monotonic() + timeout_s
    try:
        opened: Any = connect(
            url,
            compression=None,
            proxy=None if _is_loopback(url) else True,
            open_timeout=timeout_s,
            max_size=max_size,
            create_connection=_Opened,  # type: ignore[arg-type]
        )
        try:
            received = _shake_hands(url, opened.sock, opened.protocol, headers, deadline)
        except BaseException:
            opened.sock.close()
            raise
    except ConnectFailedError:
        raise
    except (OSError, EOFError, ValueError, WebSocketException) as error:
        timed_out = isinstance(error, TimeoutError)
        reason = f"no answer within {timeout_s:g} s" if timed_out else str(error)
        raise ConnectFailedError(
            f"Failed to connect to {url}: {reason or type(error).__name__}. "
            "Is the server running there?"
        ) from error
    return OpenWebSocket(opened.sock, opened.protocol, received)


def _shake_hands(
    url: str,
    sock: socket.socket,
    protocol: ClientProtocol,
    headers: dict[str, str],
    deadline: float,
) -> bytes:
    """Send the handshake and read the answer; returns the bytes that came after it."""
    request = protocol.connect()
    for name, value in headers.items():
        request.headers[name] = value
    protocol.send_request(request)
    _limit(sock, deadline)
    sock.sendall(b"".join(protocol.data_to_send()))
    head = rest = b""
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        _limit(sock, deadline)
        data = sock.recv(_READ_SIZE)
        # The parser must get the handshake and no more: `Connection` parses the frames after it.
        known = len(head)
        head += data
        end = head.find(b"\r\n\r\n") + 4
        data, rest = (data[: end - known], data[end - known :]) if end > known else (data, b"")
        _feed(protocol, data)
        if protocol.state is State.CONNECTING and rest:
            _feed(protocol, rest)  # the body of a refusal
    if protocol.handshake_exc is not None:
        raise _refusal(url, protocol.handshake_exc) from protocol.handshake_exc
    return rest


def _limit(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _feed(protocol: ClientProtocol, data: bytes) -> None:
    if data:
        protocol.receive_data(data)
    else:
        protocol.receive_eof()
    protocol.events_received()  # drops the response, which the protocol has checked


def _refusal(url: str, error: Exception) -> ConnectFailedError:
    response = getattr(error, "response", None)
    status = response.status_code if isinstance(response, Response) else None
    answer = f"HTTP {status} ({_detail(response) or error})" if status else str(error)
    advice = _ADVICE.get(status, "")
    return ConnectFailedError(
        f"Failed to connect to {url}: the server refused the WebSocket: {answer}. {advice}".rstrip()
    )


def _detail(response: Any) -> str:
    """The server's reason, from a body in the form of FastAPI's errors."""
    try:
        return str(from_json(response.body or b"")["detail"])[:300]
    except (ValueError, TypeError, KeyError):
        return ""


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
