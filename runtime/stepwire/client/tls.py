# SPDX-License-Identifier: BSD-3-Clause
"""TLS without I/O: encrypted bytes in, plain bytes out, and the other way round."""

import ssl
from contextlib import suppress


class TlsStack:
    """The TLS connections to a server: none at first, two through a proxy that has its own."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []  # the outermost first

    def start(self, host: str) -> None:
        """Begin a TLS connection with `host` inside those that are there."""
        self._layers.append(_Layer(host))

    @property
    def is_open(self) -> bool:
        """Whether all TLS connections that were begun are open."""
        return all(layer.is_open for layer in self._layers)

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        """The plain bytes in received ones, and whether the connection has ended.

        `data` is empty at the end of the TCP connection. Raises `ssl.SSLError`, such as for a
        certificate that is not trusted.
        """
        at_end = not data
        for layer in self._layers:
            data, at_end = layer.receive(data, at_end=at_end)
        return data, at_end

    def send(self, data: bytes) -> bytes:
        """The bytes to send for `data`, which may be empty, and for TLS's own messages."""
        for layer in reversed(self._layers):
            data = layer.send(data)
        return data


class _Layer:
    def __init__(self, host: str) -> None:
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=host)
        self.is_open = False
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()  # writes the ClientHello

    def receive(self, data: bytes, *, at_end: bool) -> tuple[bytes, bool]:
        if data:
            self._arrived.write(data)
        if at_end:
            self._arrived.write_eof()
        plain = bytearray()
        try:
            if not self.is_open:
                self._tls.do_handshake()
                self.is_open = True
            while piece := self._tls.read(65536):
                plain += piece
        except ssl.SSLWantReadError:
            return bytes(plain), False
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            if not self.is_open:
                raise
        return bytes(plain), True

    def send(self, data: bytes) -> bytes:
        if data:
            self._tls.write(data)
        return self._leaving.read()
