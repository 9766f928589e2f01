# SPDX-License-Identifier: BSD-3-Clause
"""`create_app`: a FastAPI application that serves an environment over the OpenEnv protocol."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from openenv.core.env_server.types import Action, ConcurrencyConfig, Observation, ServerMode, State
from starlette.routing import WebSocketRoute

from stepwire.server.calling import AnyEnvironment
from stepwire.server.distribution import metadata_of_factory
from stepwire.server.endpoints.access import AccessControl, add_cross_origin_headers
from stepwire.server.endpoints.http import (
    DescriptionRoutes,
    EpisodeRoutes,
    McpRoute,
    OperationRoutes,
    Route,
    answer_message_errors,
)
from stepwire.server.endpoints.http_episodes import HttpEpisodes
from stepwire.server.endpoints.mcp import JsonRpc
from stepwire.server.endpoints.mcp_streamable_http import StreamableHttp
from stepwire.server.endpoints.tasks import TaskRoutes
from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.logs import set_up_logging
from stepwire.server.models import Models, models_of
from stepwire.server.pages.custom_page import CustomPage
from stepwire.server.pages.documentation import add_documentation
from stepwire.server.pages.inspector import add_inspector
from stepwire.server.pages.security import token_page
from stepwire.server.pages.web_api import add_web_api
from stepwire.server.pages.web_manager import WebInterfaceManager
from stepwire.server.sessions import Sessions
from stepwire.server.settings import read_settings
from stepwire.server.tools import tools_of
from stepwire.server.uvicorn_host.worker import Worker
from stepwire.server.wire import MessageDecoder


def create_app(
    env: Callable[[], AnyEnvironment],
    action_cls: type[Action] | None,
    observation_cls: type[Observation] | None,
    env_name: str | None = None,
    max_concurrent_envs: int | None = None,
    concurrency_config: ConcurrencyConfig | None = None,
    gradio_builder: Callable[..., Any] | None = None,
    custom_tab_name: str = "Custom",
    custom_tab_primary: bool = False,
    show_default_tab: bool = True,
    title_override: str | None = None,
    state_cls: type[State] = State,
    *,
    mode: ServerMode | str | None = None,
    reset_observation_cls: type[Observation] | None = None,
) -> FastAPI:
    """Build the application; the arguments are those of OpenEnv's own `create_app`.

    `env` is an environment class, or a function that returns an environment; it is called once for
    each session. `max_concurrent_envs` limits the sessions of one worker. Its default is the
    setting `MAX_CONCURRENT_ENVS`, or 1 for a class without `SUPPORTS_CONCURRENT_SESSIONS`.

    Raises `ConcurrencyConfigurationError` for more sessions than the environment supports, and
    `TypeError` when `env` cannot be called. A bad setting ends the process with one line on stderr
    and exit code 2.
    """
    if not callable(env):
        raise TypeError(
            f"env is called to make an environment for each session, {type(env).__name__} cannot "
            "be called. Pass the environment class, not an instance."
        )
    custom_page = CustomPage(
        gradio_builder, custom_tab_name, custom_tab_primary, show_default_tab, title_override
    )
    if concurrency_config is not None:
        max_concurrent_envs = concurrency_config.max_concurrent_envs
    settings = read_settings()
    set_up_logging(settings)
    sessions = Sessions(env, max_concurrent_envs, settings)
    environment_cls = sessions.environment_cls
    tools_of(environment_cls)  # an invalid tool fails here, not at its first call
    models = models_of(
        environment_cls, action_cls, observation_cls, reset_observation_cls, state_cls
    )
    decoder = MessageDecoder(models.action, settings.max_json_depth)
    streamable_http = StreamableHttp(sessions)
    server_mode = _read_mode(mode)
    episodes = HttpEpisodes(environment_cls, settings.secret_key)
    worker = Worker(sessions, settings)
    web_manager = WebInterfaceManager(
        sessions, models.action, models.observation, metadata_of_factory(env, env_name)
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        set_up_logging(settings)  # again: the `server` command imports this before uvicorn prints
        worker.start()
        web_manager.use_running_loop()
        episodes.announce()
        yield
        await streamable_http.aclose()
        await sessions.aclose()
        worker.stop()

    name = env_name or str(getattr(env, "__name__", "environment"))
    # 1.x is the version of the OpenEnv HTTP contract; the framework's validator reads it here.
    # FastAPI's own /docs and /redoc are off: they load their scripts from another server.
    app = FastAPI(
        title=f"{name} HTTP API", version="1.0.0", lifespan=lifespan, docs_url=None, redoc_url=None
    )
    _add_routes(app, sessions, decoder, episodes, streamable_http, models, server_mode)
    TaskRoutes(sessions, decoder, name).add_to(app)
    if settings.enable_web_interface:
        # In production nobody but an orchestrator starts episodes.
        if server_mode is ServerMode.SIMULATION:
            add_web_api(app, web_manager, decoder)
        add_inspector(app, name, environment_cls.__module__, settings, custom_page)
    add_documentation(app, decoder, models.action, environment_cls.__module__, settings)
    app.add_middleware(
        AccessControl,
        settings=settings,
        listener=worker,
        token_page=partial(token_page, settings),
    )
    if settings.allowed_origins:
        add_cross_origin_headers(app, settings.allowed_origins)
    return app


def _add_routes(
    app: FastAPI,
    sessions: Sessions,
    decoder: MessageDecoder,
    episodes: HttpEpisodes,
    streamable_http: StreamableHttp,
    models: Models,
    mode: ServerMode,
) -> None:
    json_rpc = JsonRpc(sessions)
    router = APIRouter(route_class=Route)
    if mode is ServerMode.SIMULATION:
        EpisodeRoutes(sessions, decoder, episodes, models.state).add_to(router)
    DescriptionRoutes(sessions, models).add_to(router)
    OperationRoutes(sessions).add_to(router)
    McpRoute(decoder, json_rpc, streamable_http).add_to(router)
    app.include_router(router)
    answer_message_errors(app)
    endpoint = WebSocketEndpoint(sessions, decoder, json_rpc)
    app.router.routes.append(WebSocketRoute("/ws", endpoint))


def _read_mode(mode: ServerMode | str | None) -> ServerMode:
    if mode is None:
        mode = os.environ.get("OPENENV_MODE", ServerMode.SIMULATION)
    try:
        return ServerMode(mode.lower())
    except ValueError:
        valid = [known.value for known in ServerMode]
        raise ValueError(f"Invalid mode: '{mode}'. Must be one of: {valid}") from None
