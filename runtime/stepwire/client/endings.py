# SPDX-License-Identifier: BSD-3-Clause
"""The errors that end a session or keep it from being opened, and their texts."""

import re
from typing import Any

from pydantic_core import from_json
from websockets.client import ClientProtocol
from websockets.http11 import Response

from stepwire.client.addresses import redirect_in, without_secrets
from stepwire.client.errors import (
    ConnectFailedError,
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
    printable,
    start_of,
)

# What to do about the close codes of the WebSocket protocol, by the side that closed.
_CLOSED_BY_SERVER: dict[int | None, str] = {
    1001: "It is going away, or closes sessions that are idle for long: call it more often. ",
    1009: "A message was larger than it takes: send less at once, or raise the server's limit. ",
    1012: "It has stopped, to restart or for good. ",
}
_CLOSED_BY_CLIENT: dict[int | None, str] = {
    1009: "`max_message_size_mb` sets what the client takes. ",
}
_SPACE = "A private Space takes a Hugging Face token as `token=`."
_GATEWAY = "The server behind the proxy is starting or has stopped: try again later."
_REFUSED: dict[int | None, str] = {
    401: f"Pass the server's token as `token=`. {_SPACE}",
    403: "Check the path and host of the address, and the `token=` and `headers=` that are sent. "
    f"{_SPACE}",
    404: f"Check the path of the address. {_SPACE}",
    429: "The server limits requests: wait, or open fewer sessions at once.",
    502: _GATEWAY,
    503: "It is starting, stopping or overloaded: try again later.",
    504: _GATEWAY,
}
_WEB_PAGE = (
    "The answer is a web page: `base_url` must be the address of the server itself. For a Space "
    "that is https://OWNER-NAME.hf.space."
)


def connect_failed(url: str, reason: object) -> ConnectFailedError:
    """The error of a connection that could not be opened, for a reason other than a refusal."""
    text = printable(str(reason) or type(reason).__name__, 300)
    return ConnectFailedError(f"Failed to connect to {url}: {text}. Is the server running there?")


def refused(url: str, error: Exception) -> ConnectFailedError:
    """The error of a handshake that the server answered without opening a WebSocket."""
    response = getattr(error, "response", None)
    if not isinstance(response, Response):
        return connect_failed(url, f"the server refused the WebSocket: {error}")
    if (redirect := redirect_in(url, response)) is not None:
        return redirect
    status, is_page = response.status_code, _is_page(response)
    reason = "a web page" if is_page else printable(_detail(response) or str(error), 300)
    advice = _REFUSED.get(status) or (_WEB_PAGE if is_page else "")
    for pause in response.headers.get_all("Retry-After")[:1]:  # RFC 9110, section 10.2.3
        unit = " s" if pause.isdecimal() else ""  # otherwise it is a date
        advice = f"{advice} It asks to wait: {printable(pause, 50)}{unit}.".lstrip()
    return ConnectFailedError(
        f"Failed to connect to {url}: the server refused the WebSocket: HTTP {status} ({reason}). "
        f"{advice}".rstrip()
    )


def _is_page(response: Response) -> bool:
    return re.match(rb"\s*<(!doctype|html)", response.body or b"", re.IGNORECASE) is not None


def _detail(response: Any) -> str:
    """The server's reason, from a body in the form of FastAPI's errors."""
    try:
        return str(from_json(response.body or b"")["detail"])
    except (ValueError, TypeError, KeyError):
        return ""


def session_lost(
    url: str, why: str, close_code: int | None = None, reason: str = ""
) -> SessionLostError:
    """The error of a session whose connection is gone; `why` is one or more sentences."""
    return SessionLostError(
        f"The session with {url} is lost: {why} The episode ended with it; call `reset()` to "
        "connect again and start a new one.",
        close_code,
        reason,
    )


def closed_during_call(url: str) -> SessionLostError:
    """The error of calls whose client was closed before they were done."""
    return session_lost(without_secrets(url), "it was closed during the call.")


def connection_ended(url: str, protocol: ClientProtocol, last_words: str = "") -> SessionLostError:
    """The error of a connection that either side has closed.

    `last_words` is an error message that the server sent before.
    """
    code, reason, how = None, "", "it ended without a close frame"
    if (close := protocol.close_rcvd or protocol.close_sent) is not None:
        code, reason = close.code, close.reason
        who = "the server closed it" if protocol.close_rcvd else "closed by this client"
        how = f"{who} with code {code}" + (f" ({reason})" if reason else "")
    if last_words:
        how = f"the server ended it with {last_words}" + ("" if code is None else f"; {how}")
    advices = _CLOSED_BY_SERVER if protocol.close_rcvd else _CLOSED_BY_CLIENT
    return session_lost(url, f"{how}. {advices.get(code, '')}".rstrip(), code, reason)


def unrequested_message(url: str, protocol: ClientProtocol, message: bytes) -> EnvClientError:
    """The error of a message that arrived before the request was sent."""
    text = start_of(message)
    if is_error(message):  # a server says why it ends the session (idle for too long, say)
        return connection_ended(url, protocol, last_words=text)
    return ProtocolViolationError(
        f"{url} sent a reply that belongs to no request: {text}. The connection is dropped, "
        "so that it is not taken for another call's; `reset()` starts a new episode."
    )


def no_reply(url: str, timeout_s: float) -> ReplyTimeoutError:
    return ReplyTimeoutError(
        f"{url} sent no reply within {timeout_s:g} s. The connection is dropped, so that a late "
        "reply is not taken for another call's; `reset()` starts a new episode "
        "(`message_timeout_s` sets the limit)."
    )


def is_error(message: bytes) -> bool:
    """Whether a message is an `error` frame."""
    return b'"error"' in message[:20]


def no_pong(url: str, timeout_s: float | None) -> SessionLostError:
    return session_lost(
        url,
        f"it did not answer a ping within {timeout_s:g} s. If a tunnel or proxy on the way drops "
        "pings, pass `websocket_ping_timeout_s=None`.",
    )
