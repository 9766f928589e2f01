# SPDX-License-Identifier: BSD-3-Clause
"""TCP connections, for blocking callers and on event loops. Nothing waits beyond its deadline.

`getaddrinfo` has no timeout, so it runs in a thread of its own.
The addresses of a name are tried as in RFC 8305: the next one when one fails or is slow.
"""

import asyncio
import errno
import os
import selectors
import socket
import time
from collections import deque
from concurrent import futures
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

from stepwire.client.errors import UsageError
from stepwire.client.loops import in_thread

_NEXT_AFTER_S = 0.25
_STATUS_LINE = 256  # bytes
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)

_Address = tuple[int, Any]  # family, address


def dial(host: str, port: int, deadline: float) -> socket.socket:
    """A connected non-blocking socket. Raises `OSError`, which at `deadline` is `TimeoutError`."""
    _require_plain_sockets()
    if _is_known_here(host):
        addresses = _resolve(host, port)
    else:
        lookup = in_thread(partial(_resolve, host, port))
        futures.wait([lookup], _left(deadline))
        addresses = _found(lookup)
    error = OSError("the name has no address")
    connecting: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        try:
            while addresses or connecting:
                if addresses:
                    try:
                        sock = _start(*addresses.popleft())
                    except OSError as raised:
                        error = raised
                        continue
                    connecting.add(sock)
                    selector.register(sock, selectors.EVENT_WRITE)
                for key, _ in selector.select(_pause(deadline, addresses)):
                    sock = key.fileobj  # type: ignore[assignment]
                    selector.unregister(sock)
                    connecting.remove(sock)
                    if not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        return sock
                    sock.close()
                    error = OSError(code, os.strerror(code))
        finally:
            for sock in connecting:
                sock.close()
    try:
        raise error
    finally:
        del error  # whose traceback has this frame: a circle would keep the caller's objects


def get_status(host: str, port: int, path: str, deadline: float) -> str:
    """The status of the answer to an HTTP request; "" if there is none by `deadline`."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    answer = b""
    with suppress(OSError), dial(host, port, deadline) as sock:
        sock.send(request.encode())  # so few bytes go at once
        data = b"."
        while data and b"\r\n" not in answer and len(answer) < _STATUS_LINE:
            sock.settimeout(_left(deadline))  # in all, not for each byte
            data = sock.recv(_STATUS_LINE)
            answer += data
    return answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else ""


async def dial_async(host: str, port: int, deadline: float) -> socket.socket:
    """`dial` without blocking the event loop."""
    _require_plain_sockets()
    if _is_known_here(host):
        addresses = _resolve(host, port)
    else:
        lookup = in_thread(partial(_resolve, host, port))
        waiting = asyncio.wrap_future(lookup)
        try:
            await asyncio.wait([waiting], timeout=_left(deadline))
        finally:
            if not waiting.cancel():
                waiting.exception()  # otherwise asyncio logs that it was never retrieved
        addresses = _found(lookup)
    error = OSError("the name has no address")
    attempts: set[asyncio.Task[socket.socket]] = set()
    try:
        while addresses or attempts:
            if addresses:
                attempts.add(asyncio.ensure_future(_connect(*addresses.popleft())))
            pause = _pause(deadline, addresses)
            done, _ = await asyncio.wait(
                attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.remove(attempt)
                try:
                    return attempt.result()
                except OSError as raised:
                    error = raised
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_result)
    try:
        raise error
    finally:
        del error  # whose traceback has this frame: a circle would keep the caller's objects


async def _connect(family: int, address: Any) -> socket.socket:
    sock = _new_socket(family)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_result(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _new_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _start(family: int, address: Any) -> socket.socket:
    """A socket that is connecting."""
    sock = _new_socket(family)
    if (code := sock.connect_ex(address)) not in _UNDER_WAY:
        sock.close()
        raise OSError(code, os.strerror(code))
    return sock


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _pause(deadline: float, more: "deque[_Address]") -> float:
    """How long to wait for the attempts that are under way before trying `more` addresses."""
    return min(_left(deadline), _NEXT_AFTER_S) if more else _left(deadline)


def _is_known_here(host: str) -> bool:
    """Whether the name needs no lookup."""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _resolve(host: str, port: int) -> "deque[_Address]":
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # not a valid host name
        raise OSError(str(error)) from error
    return deque((family, address) for family, *_, address in found)


def _found(lookup: "futures.Future[deque[_Address]]") -> "deque[_Address]":
    if not lookup.done():
        raise TimeoutError
    return lookup.result()


def _require_plain_sockets() -> None:
    if socket.socket.__module__.startswith("gevent"):
        raise UsageError(
            "gevent has replaced Python's sockets, and this client does not support gevent. Use it "
            "in a process where gevent is not patched in."
        )
