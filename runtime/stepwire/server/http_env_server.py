# SPDX-License-Identifier: BSD-3-Clause
"""`HTTPEnvServer`: serves an environment as part of a FastAPI application."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from openenv.core.env_server.types import (
    Action,
    ConcurrencyConfig,
    Observation,
    ServerCapacityStatus,
    ServerMode,
    State,
)
from starlette.routing import WebSocketRoute

from stepwire.server.calling import AnyEnvironment
from stepwire.server.endpoints.access import (
    AccessControl,
    AllowedOrigins,
    add_cross_origin_headers,
)
from stepwire.server.endpoints.harness import HarnessEndpoint, wraps_a_harness
from stepwire.server.endpoints.http import (
    DescriptionRoutes,
    EpisodeRoutes,
    OperationRoutes,
    Route,
)
from stepwire.server.endpoints.http_episodes import HttpEpisodes
from stepwire.server.endpoints.mcp import JsonRpc
from stepwire.server.endpoints.mcp_http import McpRoute
from stepwire.server.endpoints.mcp_streamable_http import StreamableHttp
from stepwire.server.endpoints.mcp_websocket import McpWebSocketEndpoint
from stepwire.server.endpoints.metrics import add_metrics_route
from stepwire.server.endpoints.paths import EitherSlash, HeadAsGet
from stepwire.server.endpoints.tasks import IS_IN_FRAMEWORK, TaskRoutes
from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.lifespan import Lifespan
from stepwire.server.logs import logger, set_up_logging
from stepwire.server.memory import set_message_limit
from stepwire.server.models import Models
from stepwire.server.observing import traces
from stepwire.server.observing.counting import CountingBodies, CountingWebSocketEndpoint
from stepwire.server.observing.metrics import ENABLED, Observer
from stepwire.server.observing.traced_endpoints import TracedRequests, traced
from stepwire.server.pages.documentation import describe_messages
from stepwire.server.pages.security import token_page
from stepwire.server.sessions import Sessions
from stepwire.server.settings import read_settings_of_application
from stepwire.server.tool_choice import check_tools
from stepwire.server.uvicorn_host.worker import Worker
from stepwire.server.wire import MessageDecoder
from stepwire.server.yielding_routes import routes_that_yield


class HTTPEnvServer:
    """The server of one environment, with the arguments of OpenEnv's own class of this name."""

    def __init__(
        self,
        env: Callable[[], AnyEnvironment],
        action_cls: type[Action] | None,
        observation_cls: type[Observation] | None,
        max_concurrent_envs: int | None = None,
        concurrency_config: ConcurrencyConfig | None = None,
        env_name: str | None = None,
        state_cls: type[State] = State,
        *,
        reset_observation_cls: type[Observation] | None = None,
    ) -> None:
        """See `create_app` for the arguments and the errors that are raised."""
        self.settings, self._warnings = read_settings_of_application()
        set_up_logging(self.settings)
        traces.require(self.settings)
        set_message_limit(self.settings.max_message_bytes)
        self.factory = EnvironmentFactory(env)
        self._env_factory = env  # the name that subclasses of the framework's class use
        self.env_name = env_name or str(getattr(env, "__name__", "environment"))
        self.models = Models(
            self.factory, action_cls, observation_cls, reset_observation_cls, state_cls
        )
        limits = _read_concurrency(max_concurrent_envs, concurrency_config)
        self.sessions = Sessions(self.factory, self.settings, self.models.action, *limits)
        self.decoder = MessageDecoder(self.models.action, self.settings.max_json_depth)
        # A tool that cannot be served fails here, not at its first call.
        self.factory.when_known(check_tools)
        self._episodes = HttpEpisodes(self.settings.secret_key, self.env_name)
        self._streamable_http = StreamableHttp(self.sessions)
        self._worker = Worker(self.sessions, self.settings)
        self._observer = Observer(self.sessions)
        self._at_start: list[Callable[[], None]] = []
        self._at_stop: list[Callable[[], None]] = []

    @property
    def active_sessions(self) -> int:
        """Sessions of all workers that are open or being opened."""
        return self.sessions.active_in_server

    @property
    def max_concurrent_envs(self) -> int:
        """Sessions that may be open at once, in all workers together."""
        return self.sessions.capacity

    @property
    def concurrency_config(self) -> ConcurrencyConfig:
        """The limit on sessions, and the seconds until an idle one is closed."""
        return ConcurrencyConfig(
            max_concurrent_envs=self.max_concurrent_envs,
            session_timeout=self.sessions.idle_timeout_s,
        )

    @property
    def is_concurrency_safe(self) -> bool:
        """Whether the environment's class, as far as it is known, allows several sessions."""
        return bool(getattr(self.factory.environment_cls, "SUPPORTS_CONCURRENT_SESSIONS", False))

    def get_capacity_status(self) -> ServerCapacityStatus:
        """The number of sessions and its limit."""
        return ServerCapacityStatus(
            active_sessions=self.active_sessions, max_sessions=self.max_concurrent_envs
        )

    def register_routes(self, app: FastAPI, mode: ServerMode | str = ServerMode.SIMULATION) -> None:
        """Serve the environment with `app`, before it starts.

        Requests to all routes of `app` pass the access control. In production mode, `/reset`,
        `/step` and `/state` do not exist. Raises `ValueError` for another mode, and `RuntimeError`
        once `app` has started.
        """
        if app.middleware_stack is not None:
            raise RuntimeError(
                "The application has started. Call register_routes before, not in a start-up hook: "
                "the access control is middleware, which only a new application takes."
            )
        mode = _as_mode(mode)
        routes, more = APIRouter(route_class=Route), APIRouter(route_class=Route)
        if mode is ServerMode.SIMULATION:
            EpisodeRoutes(self.sessions, self.decoder, self._episodes).add_to(routes)
        DescriptionRoutes(self.sessions, self.models, self.factory, self.env_name).add_to(
            routes, more
        )
        OperationRoutes(self.sessions).add_to(routes, more)
        add_metrics_route(more)
        json_rpc = JsonRpc(self.sessions)
        McpRoute(self.decoder, json_rpc, self._streamable_http).add_to(routes)
        tasks = TaskRoutes(self.sessions, self.decoder, self.env_name)
        tasks.add_to(routes if IS_IN_FRAMEWORK else more)
        # Not by `include_router`: authors look for routes by their paths.
        app.router.routes += routes.routes
        sockets: dict[str, Any]
        sockets = {"/ws": WebSocketEndpoint, "/mcp": McpWebSocketEndpoint}
        if ENABLED:
            sockets["/ws"] = CountingWebSocketEndpoint
        if self.settings.traces == "on":
            sockets["/ws"] = traced(sockets["/ws"])
        if mode is ServerMode.PRODUCTION and wraps_a_harness(self.factory.environment_cls):
            sockets["/harness"] = HarnessEndpoint
        for path, endpoint_cls in sockets.items():
            endpoint = endpoint_cls(self.sessions, self.decoder, json_rpc)
            app.router.routes.append(WebSocketRoute(path, endpoint))
        EitherSlash(app)
        with routes_that_yield(app):
            app.router.routes += more.routes
        describe_messages(app, self.decoder, self.models)
        self._add_middleware(app)

    def call_at_start_and_stop(self, start: Callable[[], None], stop: Callable[[], None]) -> None:
        """Call `start` on the server's event loop before its first connection, `stop` at its end.

        A server may start and stop several times.
        """
        self._at_start.append(start)
        self._at_stop.append(stop)

    def _add_middleware(self, app: FastAPI) -> None:
        """The last one added is the first to see a connection."""
        app.add_middleware(HeadAsGet, router=app.router)
        if self.settings.traces == "on":  # only requests that the access control lets pass
            app.add_middleware(TracedRequests)
        app.add_middleware(
            AccessControl,
            settings=self.settings,
            listener=self._worker,
            origins=AllowedOrigins(app),
            token_page=partial(token_page, self.settings),
        )
        if self.settings.allowed_origins:
            add_cross_origin_headers(app, self.settings.allowed_origins)
        if ENABLED:
            app.add_middleware(CountingBodies)
        app.add_middleware(Lifespan, start=self._start, stop=self._stop)

    def _start(self) -> None:
        # Again: the `server` command imports the application before uvicorn prints anything.
        set_up_logging(self.settings)
        for warning in self._warnings:  # not earlier: `server` may refuse the same value
            logger.warning("%s", warning)
        self._worker.start()
        self._observer.start()
        traces.start(self.settings)
        self.factory.when_known(self._episodes.announce)
        for function in self._at_start:
            function()

    async def _stop(self) -> None:
        await self._streamable_http.aclose()
        await self.sessions.aclose()
        self._observer.stop()
        await traces.stop()
        self._worker.stop()
        for function in self._at_stop:
            function()


def read_mode(mode: ServerMode | str | None) -> ServerMode:
    """The mode; `None` stands for that of `OPENENV_MODE`. Raises `ValueError` for no valid one."""
    return _as_mode(os.environ.get("OPENENV_MODE", "simulation") if mode is None else mode)


def _as_mode(mode: ServerMode | str) -> ServerMode:
    try:
        return ServerMode(mode.lower() if isinstance(mode, str) else mode)
    except ValueError:
        valid = [known.value for known in ServerMode]
        raise ValueError(f"Invalid mode: '{mode}'. Must be one of: {valid}") from None


def _read_concurrency(
    max_concurrent_envs: int | None, config: ConcurrencyConfig | None
) -> tuple[int | None, float | None]:
    """The limit on sessions and the idle timeout; each is `None` where the setting applies."""
    if config is None:
        if max_concurrent_envs is None:
            return None, None
        config = ConcurrencyConfig(max_concurrent_envs=max_concurrent_envs)
    elif max_concurrent_envs is not None:
        raise ValueError(
            "Cannot specify both 'max_concurrent_envs' and 'concurrency_config': the second "
            "contains the first"
        )
    return config.max_concurrent_envs, config.session_timeout
