# SPDX-License-Identifier: BSD-3-Clause
"""The errors that end a session, and their texts."""

from websockets.client import ClientProtocol

from stepwire.client.errors import (
    EnvClientError,
    ProtocolViolationError,
    ReplyTimeoutError,
    SessionLostError,
)

# What to do about the close codes of the WebSocket protocol, by the side that closed.
_CLOSED_BY_SERVER: dict[int | None, str] = {
    1001: "It is going away, or closes sessions that are idle for long: call it more often. ",
    1009: "A message was larger than it takes: send less at once, or raise the server's limit. ",
    1012: "It restarts and should be back soon. ",
}
_CLOSED_BY_CLIENT: dict[int | None, str] = {
    1009: "`max_message_size_mb` sets what the client takes. ",
}


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
    text = message[:500].decode(errors="replace")
    if is_error(message):  # a server says why it ends the session (idle for too long, say)
        return connection_ended(url, protocol, last_words=text)
    return ProtocolViolationError(
        f"{url} sent a reply that belongs to no request: {text[:200]}. The connection is dropped, "
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
