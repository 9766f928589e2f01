# SPDX-License-Identifier: BSD-3-Clause
"""`python careless_server.py PORT`: a server that reads any frame, and dies at `SIGTERM`.

It has the same answer to everything.
"""

import os
import signal
import sys
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

_ANSWER = '{"type":"observation","data":{"observation":{},"reward":null,"done":false}}'


def _converse(connection: ServerConnection) -> None:
    try:
        for _ in connection:
            connection.send(_ANSWER)
    except ConnectionClosed:
        return


def _respond(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/ws":
        return None
    return connection.respond(HTTPStatus.OK, "{}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    port = int(sys.argv[1])
    with serve(_converse, "127.0.0.1", port, process_request=_respond, max_size=None) as server:
        server.serve_forever()
