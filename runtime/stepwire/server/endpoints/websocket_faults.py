# SPDX-License-Identifier: BSD-3-Clause
"""What a scenario's fault does to a WebSocket."""

import asyncio

from stepwire.server.encoding import encode_observation_frame
from stepwire.server.endpoints.websocket_sessions import SocketConnection
from stepwire.server.memory import REPLIES
from stepwire.server.scenarios import ConnectionFault


async def perform_fault(error: ConnectionFault, connection: SocketConnection, size: int) -> bool:
    """Perform the fault in place of the reply, which takes `size` bytes while it is encoded.

    Returns `False`, having sent nothing, for a fault that needs our protocol when there is another.
    """
    fault = error.fault
    if fault.kind == "late_reply":
        await asyncio.sleep(fault.delay_s)  # before the reply takes memory
    await REPLIES.room(size)
    reply = encode_observation_frame(error.observation)
    close = {"type": "websocket.close", "code": fault.code, "reason": "as the scenario says"}
    wire = connection.wire
    match fault.kind:
        case "close_before_reply":
            await connection.send(close)
        case "close_after_reply":
            await connection.send_text(reply)
            await connection.send(close)
        case "silence":
            pass
        case "late_reply":
            await connection.send_text(reply)
        case "duplicate_reply":
            await connection.send_text(reply)
            await connection.send_text(reply)
        case "broken_json":
            await connection.send_text(reply[:-1])
        case "wrong_type":
            await connection.send_text(b'{"type":"surprise","data":{}}')
        case "abort" | "slow_drip" if wire is None:
            return False
        case "abort":
            wire.transport.abort()
        case "slow_drip":
            async with REPLIES.share(len(reply)):
                await wire.write_slowly(reply, fault.delay_s)
    return True
