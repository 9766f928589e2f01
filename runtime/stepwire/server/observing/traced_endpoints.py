# SPDX-License-Identifier: BSD-3-Clause
"""What serves with TRACES=on: requests that are spans, below those of their clients."""

from typing import Any

from openenv.core.env_server.types import Observation
from starlette.types import ASGIApp, Receive, Scope, Send

from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.observing import traces
from stepwire.server.session import Session


def traced(endpoint_cls: type[WebSocketEndpoint]) -> type[WebSocketEndpoint]:
    """`/ws`, where resets and steps are spans."""

    class TracedEndpoint(endpoint_cls):  # type: ignore[misc, valid-type] # a base that is passed
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if traces.tracing is None:
                await super().__call__(scope, receive, send)
                return
            with traces.tracing.within(traces.carrier_of_scope(scope)):
                await super().__call__(scope, receive, send)

        async def _act(self, session: Session, action: Any) -> Observation:
            carrier = traces.take_carrier(getattr(action, "metadata", None))
            with traces.serving("step", carrier, session.id):
                observation: Observation = await super()._act(session, action)
                return observation

        async def _reset(self, session: Session, arguments: dict[str, Any]) -> Observation:
            carrier = traces.take_carrier_of_reset(arguments)
            with traces.serving("reset", carrier, session.id):
                observation: Observation = await super()._reset(session, arguments)
                return observation

    return TracedEndpoint


class TracedRequests:
    """ASGI middleware: each `POST` is a span, named by its route: a client may ask for any path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or traces.tracing is None:
            await self._app(scope, receive, send)
            return
        with (
            traces.tracing.within(traces.carrier_of_scope(scope)),
            traces.tracing.serving("POST", {}, "") as span,
        ):
            await self._app(scope, receive, send)
            if path := getattr(scope.get("route"), "path", None):
                span.update_name(f"POST {path}")
