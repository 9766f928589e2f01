# SPDX-License-Identifier: BSD-3-Clause
"""`/web/reset`, `/web/step`, `/web/state`, `/web/metadata` and `/ws/ui`: routes for authors' pages.

All clients share the environment of a `WebInterfaceManager`. Authors find it, and its metadata, in
the closures of these functions.
"""

from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, WebSocket
from pydantic import ValidationError

from stepwire.server.endpoints.access import require_access_control
from stepwire.server.endpoints.http import Route
from stepwire.server.errors import MessageError, encodable
from stepwire.server.json_values import encode
from stepwire.server.pages.web_manager import WebInterfaceManager
from stepwire.server.wire import MessageDecoder


def add_web_api(app: FastAPI, web_manager: WebInterfaceManager, decoder: MessageDecoder) -> None:
    """Serve the routes; errors are those of `/reset` and `/step`."""
    router = APIRouter(route_class=Route, include_in_schema=False)
    metadata = web_manager.metadata

    @router.get("/web/metadata")
    async def web_metadata() -> Response:
        return _json_response(metadata.model_dump())

    @router.post("/web/reset")
    async def web_reset(request: Request) -> Response:
        body = await request.body()
        arguments = decoder.decode_reset(b"" if body.strip() == b"null" else body)
        result = await web_manager.reset_environment(arguments.model_dump(exclude_unset=True))
        return _json_response(result)

    @router.post("/web/step")
    async def web_step(request: Request) -> Response:
        body = _object(decoder.decode_json(await request.body()), "body")
        try:
            if "message" in body:
                action = await web_manager.action_from_message(body["message"])
            else:
                action = web_manager.action_from(_object(body.get("action", {}), "body", "action"))
        except ValidationError as error:
            raise MessageError.from_validation(error, ("body", "action")) from None
        return _json_response(await web_manager.act(action))

    @router.get("/web/state")
    async def web_state() -> Response:
        try:
            return _json_response(await web_manager.read_state())
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise
            # What environments raise that have no state before the first reset.
            raise HTTPException(409, encodable(str(error))) from error

    @router.websocket("/ws/ui")
    async def web_updates(websocket: WebSocket) -> None:
        require_access_control(websocket.scope)
        await web_manager.connect_websocket(websocket)
        try:
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass  # keeps the connection open; nothing that a client sends has a meaning
        finally:
            await web_manager.disconnect_websocket(websocket)

    app.router.routes += router.routes


def _object(value: Any, *location: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MessageError.invalid(
            "dict_type", location, "Input should be a valid dictionary", value
        )
    return value


def _json_response(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
