# SPDX-License-Identifier: BSD-3-Clause
"""`Lifespan`: starts and stops the server together with the application that it is part of."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Lifespan:
    """A bare ASGI middleware.

    The application's own `lifespan` is left to its author, who may replace it or add hooks. An
    application that is mounted in another gets no such events: its first connection starts it.
    """

    def __init__(
        self, app: ASGIApp, start: Callable[[], None], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._start = start
        self._stop = stop
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._start_once()
            await self._app(scope, receive, send)
            return

        async def follow() -> Message:
            # Our part starts before the author's and stops before it: environments may use what
            # the author's hooks close.
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start_once()
            elif message["type"] == "lifespan.shutdown":
                self._is_started = False
                await self._stop()
            return message

        await self._app(scope, follow, send)

    def _start_once(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._start()
