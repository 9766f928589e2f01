# SPDX-License-Identifier: BSD-3-Clause
"""What carries the kit's WebSockets over TLS."""

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from stepwire.conformance.findings import CheckFailed
from stepwire.conformance.server_under_test import Options, ServerUnderTest
from stepwire.conformance.tls import TLSContext
from stepwire.testing.servers import PATIENCE_S

_MUCH = 8 * 2**20  # bytes, more than all buffers on the way take


@pytest.fixture
def ca_file(authority: Any, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@contextmanager
def connected(context: TLSContext, authority: Any) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The plain socket of a client, and the server's encrypted one."""
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        accepted = threads.submit(
            lambda: theirs.wrap_socket(listener.accept()[0], server_side=True)
        )
        sock = socket.create_connection(listener.getsockname(), PATIENCE_S)
        with closing(context.wrap_socket(sock, server_hostname="127.0.0.1")) as client:
            client.settimeout(PATIENCE_S)
            with closing(accepted.result(PATIENCE_S)) as server:
                server.settimeout(PATIENCE_S)
                yield client, server


def _read(sock: socket.socket) -> int:
    count = 0
    while count < _MUCH and (data := sock.recv(2**16)):
        count += len(data)
    return count


def test_much_goes_both_ways_at_once(ca_file: str, authority: Any) -> None:
    with (
        connected(TLSContext.trusting(ca_file), authority) as (client, server),
        ThreadPoolExecutor(2) as threads,
    ):
        sent = threads.submit(client.sendall, bytes(_MUCH))
        received = threads.submit(lambda: (server.sendall(bytes(_MUCH)), _read(server)))
        assert _read(client) == _MUCH
        assert received.result(PATIENCE_S)[1] == _MUCH
        sent.result(PATIENCE_S)


@pytest.mark.parametrize("closes", ["client", "server"])
def test_each_side_notices_that_the_other_has_closed(
    ca_file: str, authority: Any, closes: str
) -> None:
    with connected(TLSContext.trusting(ca_file), authority) as (client, server):
        one, other = (client, server) if closes == "client" else (server, client)
        one.sendall(b"last words")
        one.close()
        assert other.recv(100) == b"last words"
        assert other.recv(100) == b""


def test_no_thread_is_left(ca_file: str, authority: Any) -> None:
    before = set(threading.enumerate())
    with connected(TLSContext.trusting(ca_file), authority):
        carrying = [one for one in threading.enumerate() if one not in before and one.daemon]
        assert len(carrying) == 1
    carrying[0].join(PATIENCE_S)
    assert not carrying[0].is_alive()


def test_a_certificate_that_is_not_trusted(authority: Any) -> None:
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        connected(TLSContext.trusting(None), authority),
    ):
        pass


def test_a_server_that_does_not_answer_the_handshake(ca_file: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sock = socket.create_connection(silent.getsockname(), 0.2)
        with closing(sock), pytest.raises(OSError, match="handshake"):
            TLSContext.trusting(ca_file).wrap_socket(sock, server_hostname="127.0.0.1")


def test_sessions_over_tls_use_it(tls_url: str, ca_file: str) -> None:
    server = ServerUnderTest(tls_url, Options(ca_file=ca_file, timeout_s=PATIENCE_S))
    with server.session() as session:
        assert not isinstance(session.connection.socket, ssl.SSLSocket)
        assert session.ask({"type": "state"})["type"] == "state"
    with pytest.raises(CheckFailed, match=r"40[34]"), server.session("/nowhere"):
        pass
