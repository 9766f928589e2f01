# SPDX-License-Identifier: BSD-3-Clause
"""What the server is measured against besides the stock one, both on a WebSocket library in C.

    python benchmarks/reference_servers.py echo PORT
    python benchmarks/reference_servers.py environment PORT

`echo` sends a fixed reply: what the kernel and the event loop cost. `environment` does the work of
a step as well, the same decoding, environment and encoding, and nothing else: no limits, no errors,
no HTTP.
"""

import sys
from typing import Any

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

_REPLY = b'{"type":"observation","data":{}}'


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, _REPLY)


class _Decoded:
    """Imported and built once, and only where it is used."""

    def __init__(self) -> None:
        from echo_env.models import EchoAction
        from echo_env.server.echo_env_environment import EchoEnvironment
        from stepwire.server import wire

        self.wire = wire
        self.environment = EchoEnvironment
        self.decode = wire.MessageDecoder(EchoAction, 100).decode_frame


class Environment(WSListener):
    def __init__(self, decoded: _Decoded) -> None:
        self._decode = decoded.decode
        self._wire = decoded.wire
        self._environment = decoded.environment()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            message: Any = self._decode(frame.get_payload_as_utf8_text())
            if isinstance(message, self._wire.StepMessage):
                reply = self._wire.encode_observation_frame(self._environment.step(message.data))
            elif isinstance(message, self._wire.ResetMessage):
                reply = self._wire.encode_observation_frame(self._environment.reset())
            else:
                reply = self._wire.encode_state_frame(self._environment.state)
            transport.send(WSMsgType.TEXT, reply.encode())


async def _serve(kind: str, port: int) -> None:
    if kind == "echo":
        server = await ws_create_server(lambda _: Echo(), "127.0.0.1", port)
    else:
        decoded = _Decoded()
        server = await ws_create_server(lambda _: Environment(decoded), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
