# SPDX-License-Identifier: BSD-3-Clause
"""`TLSContext`: TLS for `websockets.sync`, which reads in one thread and writes in another.

OpenSSL does not allow that for one connection: on a busy machine, one handshake in 500 is lost.
"""

import asyncio
import socket
import ssl
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

_PIECE = 2**16


class TLSContext(ssl.SSLContext):
    """Verifies servers, and makes plain sockets behind which one thread encrypts and decrypts."""

    @classmethod
    def trusting(cls, ca_file: str | None) -> "TLSContext":
        """`ca_file` has the certificates to trust; without it, those of this machine are.

        Raises `OSError` for a file that is missing or has no certificates.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=ca_file)
        return context

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str, **_: Any) -> socket.socket:  # type: ignore[override]
        """A plain socket for what the connected `sock` carries encrypted.

        The handshake may take as long as the timeout of `sock`. Raises `OSError` if it fails.
        """
        ours, theirs = socket.socketpair()
        opened: Future[None] = Future()

        def carry() -> None:
            try:
                asyncio.run(self._carry(sock, server_hostname, theirs, opened))
            except BaseException as error:  # noqa: BLE001 - raised below
                if not opened.done():
                    opened.set_exception(error)

        try:
            threading.Thread(target=carry, daemon=True).start()
            opened.result()
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return ours

    async def _carry(
        self, sock: socket.socket, host: str, plain: socket.socket, opened: "Future[None]"
    ) -> None:
        limit_s = sock.gettimeout()
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=self, server_hostname=host, ssl_handshake_timeout=limit_s
        )
        plain_reader, plain_writer = await asyncio.open_connection(sock=plain)
        opened.set_result(None)
        await asyncio.gather(_copy(reader, plain_writer), _copy(plain_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()
