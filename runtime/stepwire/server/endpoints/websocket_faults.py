# SPDX-License-Identifier: BSD-3-Clause
"""What a scenario's fault does to a WebSocket."""

import asyncio

from starlette.types import Send
from websockets.frames import Frame, Opcode

from stepwire.server.scenarios import Fault

_DRIP_PIECES = 20


async def perform_fault(
    fault: Fault, reply: str, send: Send, transport: asyncio.Transport | None
) -> bool:
    """Perform the fault in place of sending `reply`.

    Returns `False`, having sent nothing, for a fault that needs a transport when there is none.
    """
    text = {"type": "websocket.send", "text": reply}
    close = {"type": "websocket.close", "code": fault.code, "reason": "as the scenario says"}
    match fault.kind:
        case "close_before_reply":
            await send(close)
        case "close_after_reply":
            await send(text)
            await send(close)
        case "silence":
            pass
        case "late_reply":
            await asyncio.sleep(fault.delay_s)
            await send(text)
        case "duplicate_reply":
            await send(text)
            await send(text)
        case "broken_json":
            await send({**text, "text": reply[:-1]})
        case "wrong_type":
            await send({**text, "text": '{"type":"surprise","data":{}}'})
        case "abort" | "slow_drip" if transport is None:
            return False
        case "abort":
            transport.abort()
        case "slow_drip":
            await _drip(transport, reply.encode(), fault.delay_s)
    return True


async def _drip(transport: asyncio.Transport, payload: bytes, seconds: float) -> None:
    """Write a text frame in pieces, to the transport: the protocol writes only whole frames."""
    frame = Frame(Opcode.TEXT, payload).serialize(mask=False)
    size = -(-len(frame) // _DRIP_PIECES)
    for start in range(0, len(frame), size):
        if start:
            await asyncio.sleep(seconds / _DRIP_PIECES)
        transport.write(frame[start : start + size])
