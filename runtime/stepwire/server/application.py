# SPDX-License-Identifier: BSD-3-Clause
"""`create_app`: a FastAPI application that serves an environment over the OpenEnv protocol."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from openenv.core.env_server.types import Action, Observation
from starlette.routing import WebSocketRoute

from stepwire.server.endpoints.access import AccessControl, add_cross_origin_headers
from stepwire.server.endpoints.http import create_router, translate_errors
from stepwire.server.endpoints.http_episodes import HttpEpisodes
from stepwire.server.endpoints.mcp import JsonRpc, ToolBox
from stepwire.server.endpoints.mcp_streamable_http import StreamableHttp
from stepwire.server.endpoints.websocket import WebSocketEndpoint
from stepwire.server.logs import set_up_logging
from stepwire.server.pages.documentation import add_documentation
from stepwire.server.pages.inspector import add_web_interface
from stepwire.server.scenarios import ScenarioSession, describe_scenarios
from stepwire.server.sessions import AnyEnvironment, Sessions
from stepwire.server.settings import read_settings
from stepwire.server.uvicorn_host.lifecycle import Worker
from stepwire.server.wire import MessageDecoder


def create_app(
    env: Callable[[], AnyEnvironment],
    action_cls: type[Action],
    observation_cls: type[Observation],
    env_name: str | None = None,
    max_concurrent_envs: int | None = None,
) -> FastAPI:
    """Build the application; a call written for OpenEnv's own `create_app` works as it is.

    `env` is an environment class or a function that returns an environment, called once for each
    session. `max_concurrent_envs` limits the sessions of one worker; when it is not given,
    `MAX_CONCURRENT_ENVS` does, or 1 for a class without `SUPPORTS_CONCURRENT_SESSIONS`.
    A bad setting ends the process with one line on stderr and exit code 2.

    Raises `ConcurrencyConfigurationError` when more than one session is asked for and the
    environment does not support that, `TypeError` when `env` cannot be called.
    """
    if not callable(env):
        raise TypeError(
            f"env is called to make an environment for each session, {type(env).__name__} cannot "
            "be called. Pass the environment class, not an instance."
        )
    settings = read_settings()
    set_up_logging(settings)
    sessions = Sessions(env, max_concurrent_envs, settings, ScenarioSession)
    worker = Worker(sessions, settings)
    decoder = MessageDecoder(action_cls, settings.max_json_depth)
    tools = ToolBox()
    # A tool that cannot be offered stops the server here, not its first caller.
    tools.offered(sessions.environment_cls)
    json_rpc = JsonRpc(sessions, tools)
    streamable_http = StreamableHttp(sessions, tools)
    episodes = HttpEpisodes(sessions.environment_cls, settings.secret_key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        set_up_logging(settings)  # again: the `server` command imports this before uvicorn prints
        worker.start()
        episodes.announce()
        yield
        await streamable_http.aclose()
        await sessions.aclose()
        worker.stop()

    name = env_name or str(getattr(env, "__name__", "OpenEnv"))
    # 1.x is the version of the OpenEnv HTTP contract; the framework's validator reads it here.
    app = FastAPI(
        title=f"{name} HTTP API",
        version="1.0.0",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(
        create_router(
            action_cls,
            observation_cls,
            sessions,
            episodes,
            decoder,
            tools,
            json_rpc,
            streamable_http,
        )
    )
    endpoint = WebSocketEndpoint(sessions, decoder, tools, json_rpc)
    app.router.routes.append(WebSocketRoute("/ws", endpoint))
    translate_errors(app)
    if settings.enable_web_interface:
        add_web_interface(app, name, settings)
    add_documentation(app, decoder, action_cls, observation_cls, settings)
    describe_scenarios(app)
    app.add_middleware(AccessControl, settings=settings, worker=worker)
    if settings.allowed_origins:
        add_cross_origin_headers(app, settings.allowed_origins)
    return app
