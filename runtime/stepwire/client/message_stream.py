# SPDX-License-Identifier: BSD-3-Clause
"""`MessageStream`: whole messages out of received bytes, without any I/O.

The protocol itself is the sans-I/O layer of `websockets`. Plain frames, which is what requests and
replies are, take the short cut of `stepwire.protocol.frames`.
"""

from collections import deque

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from stepwire.protocol.frames import NotPlainError, plain_frame

_DATA_OPCODES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class MessageStream:
    """The receiving half of an open WebSocket."""

    def __init__(self, protocol: ClientProtocol, max_size: int | None) -> None:
        """`max_size` is the largest message to accept, in bytes."""
        self.protocol = protocol
        self.messages: deque[bytes] = deque()  # received and not taken yet
        self.owes_bytes = False  # whether the protocol may have something to send
        self.has_ended = False  # whether either side has closed the WebSocket
        self._max_size = max_size
        self._is_at_end = False  # whether nothing more can arrive
        self._is_plain = True  # whether the short cut has parsed everything so far
        self._partial = bytearray()  # the beginning of a plain frame
        self._fragments: list[bytes] = []  # of a message that the protocol parsed

    def feed(self, data: bytes) -> bool:
        """Parse received bytes, or the end of the connection if there are none.

        Returns `has_ended`.
        """
        if not self._is_plain or not data or self._is_at_end:
            self._feed_protocol(data)
            return self.has_ended
        received: bytes | bytearray = data
        if self._partial:
            self._partial += data
            received = self._partial
        try:
            while received:
                frame = plain_frame(received, 0, self._max_size, masked=False)
                if frame is None:
                    break
                is_text, begin, end = frame
                if is_text:
                    self.messages.append(bytes(received[begin:end]))
                else:
                    self._feed_protocol(bytes(received[:end]))
                received = received[end:]
        except NotPlainError:
            # The protocol parses everything from here on: only it knows where the next frame
            # begins.
            self._is_plain = False
            self._partial = bytearray()
            self._feed_protocol(bytes(received))
            return self.has_ended
        if received is not self._partial and (received or self._partial):
            self._partial = bytearray(received)
        return self.has_ended

    def _feed_protocol(self, data: bytes) -> None:
        protocol = self.protocol
        if self._is_at_end:
            return
        if data:
            protocol.receive_data(data)
        else:
            if self._partial:
                protocol.receive_data(bytes(self._partial))
            self._is_at_end = True
            protocol.receive_eof()
        self.owes_bytes = True
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode in _DATA_OPCODES:
                self._fragments.append(bytes(event.data))
                if event.fin:
                    message, self._fragments = b"".join(self._fragments), []
                    self.messages.append(message)
        if protocol.state in (State.CLOSING, State.CLOSED):
            self.has_ended = True

    def end(self) -> None:
        """Treat the connection as ended, whatever else arrives."""
        self._feed_protocol(b"")
        self.has_ended = True

    def outgoing(self) -> bytes:
        """What the protocol has to send by itself: answers to pings and to a close frame."""
        self.owes_bytes = False
        return b"".join(self.protocol.data_to_send())
