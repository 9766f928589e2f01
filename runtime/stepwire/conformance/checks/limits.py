# SPDX-License-Identifier: BSD-3-Clause
"""Rows `LIM`: how large a frame may be."""

from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest
from stepwire.conformance.session_under_test import kind_of

_MASK = b"\0\0\0\0"  # leaves the payload unchanged
_MALFORMED = {
    "a reserved opcode": (b"\x83\x80" + _MASK, 1002),
    "a reserved bit": (b"\xc1\x82" + _MASK + b"{}", 1002),
    "no mask": (b"\x81\x02{}", 1002),
    "a fragmented ping": (b"\x09\x81" + _MASK + b"x", 1002),
    "a ping of 200 bytes": (b"\x89\xfe\x00\xc8" + _MASK + b"x" * 200, 1002),
    "text that is not UTF-8": (b"\x81\x81" + _MASK + b"\xff", 1007),
}
# The header of a masked text frame that announces 1 GiB. A server refuses it by the header.
_GIGABYTE_FRAME = b"\x81\xff" + (1 << 30).to_bytes(8, "big") + b"mask"


@check(
    "limit-large-frame",
    "LIM-1",
    cause="the server, or a proxy in front of it, accepts only small frames",
    fix="raise its limit (uvicorn: `--ws-max-size`)",
)
def a_large_frame_is_accepted(server: ServerUnderTest) -> None:
    """A `reset` with a million bytes of further keys is answered."""
    with server.session() as session:
        session.begin()
        frame = {"type": "reset", "data": {"conformance": "x" * 1_000_000}}
        reply = session.ask(frame)
        require(kind_of(reply) == "observation", "an observation", reply)


@check(
    "limit-frame-size",
    "LIM-2",
    cause="the server reads frames of any size into memory",
    fix="set a limit (uvicorn: `--ws-max-size`)",
)
def a_frame_above_the_limit_closes(server: ServerUnderTest) -> None:
    """A frame that announces 1 GiB closes the connection with code 1009."""
    with server.session() as session:
        session.begin()
        session.connection.socket.sendall(_GIGABYTE_FRAME)
        closed = session.closing()
        require(closed.code == 1009, "close code 1009", closed)


@check(
    "limit-malformed-frame",
    "LIM-3",
    cause="the server reads frames without checking them",
    fix="use a WebSocket library that keeps RFC 6455",
)
def a_malformed_frame_closes(server: ServerUnderTest) -> None:
    """A frame that breaks RFC 6455 closes the connection with code 1002, or 1007."""
    for what, (frame, code) in _MALFORMED.items():
        with server.session() as session:
            session.begin()
            session.connection.socket.sendall(frame)
            closed = session.closing()
            require(closed.code == code, f"close code {code} for {what}", closed)
