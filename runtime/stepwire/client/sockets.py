# SPDX-License-Identifier: BSD-3-Clause
"""Timeouts of the socket under a connection, at the lowest cost per call."""

import asyncio
import socket
import ssl
import struct
import sys
import time

READ_SIZE = 65536
# The errors of a socket whose timeout has passed.
TIMED_OUT = (TimeoutError, BlockingIOError)
# The errors of a non-blocking socket that has nothing to read, or no room to write.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# Where the layout of `struct timeval` is known, the kernel itself ends a `recv` that takes too
# long. That saves the system call with which Python waits before each `send` and `recv`.
_KERNEL_TIMES_OUT = sys.platform in ("linux", "darwin") and struct.calcsize("l") == 8


def set_timeout(sock: socket.socket, timeout_s: float) -> None:
    """Set the timeout of sends and receives; 0 makes the socket non-blocking."""
    if timeout_s and _uses_kernel_timeout(sock):
        limit = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    else:
        sock.settimeout(timeout_s)


def receive_now(sock: socket.socket) -> bytes:
    """What has arrived, without waiting; raises one of `WOULD_BLOCK` if nothing has."""
    if _uses_kernel_timeout(sock):
        return sock.recv(READ_SIZE, socket.MSG_DONTWAIT)
    timeout_s = sock.gettimeout()
    sock.settimeout(0)
    try:
        return sock.recv(READ_SIZE)
    finally:
        sock.settimeout(timeout_s)


def _uses_kernel_timeout(sock: socket.socket) -> bool:
    return _KERNEL_TIMES_OUT and not isinstance(sock, ssl.SSLSocket)


async def wait_until_writable(sock: socket.socket, deadline: float) -> None:
    """Wait for room in a full send buffer; raises `TimeoutError` at `deadline` (monotonic).

    This is rare, so the loop watches the socket anew each time.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not ready.done():
            ready.set_exception(error) if error else ready.set_result(None)

    loop.add_writer(sock, settle, None)
    timer = loop.call_later(max(0.0, deadline - time.monotonic()), settle, TimeoutError())
    try:
        await ready
    finally:
        timer.cancel()
        loop.remove_writer(sock)
