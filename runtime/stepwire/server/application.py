# SPDX-License-Identifier: BSD-3-Clause
"""`create_app`: a FastAPI application that serves an environment over the OpenEnv protocol."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from fastapi import FastAPI
from openenv.core.env_server.types import Action, ConcurrencyConfig, Observation, ServerMode, State
from starlette.routing import Route, Router

from stepwire.server.calling import AnyEnvironment
from stepwire.server.description import metadata_of_factory
from stepwire.server.http_env_server import HTTPEnvServer, read_mode
from stepwire.server.pages.custom_page import CustomPage, add_custom_page
from stepwire.server.pages.documentation import add_documentation
from stepwire.server.pages.inspector import add_inspector
from stepwire.server.pages.web_api import add_web_api
from stepwire.server.pages.web_manager import WebInterfaceManager
from stepwire.server.yielding_routes import routes_that_yield

# FastAPI since 0.142 sends traces, metrics and logs of its own, exceptions included, as soon as a
# variable names a collector. Beside ours (TRACES=on, `/metrics`) they would say it twice.
_WITHOUT_TELEMETRY: dict[str, Any] = {}
if "telemetry" in inspect.signature(FastAPI).parameters:
    _SIGNALS = ("tracing", "metrics", "logs", "auto_configure")
    _WITHOUT_TELEMETRY = {"telemetry": dict.fromkeys(_SIGNALS, False)}


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

    - `env` is an environment class, or a function that returns an environment. It is called once
      for each session, and not before.
    - `action_cls` and `observation_cls` are `None` for an environment of tools only.
    - `max_concurrent_envs` limits the sessions of one worker. Its default is the setting
      `MAX_CONCURRENT_ENVS`, or 1 for a class without `SUPPORTS_CONCURRENT_SESSIONS`. In its place,
      `concurrency_config` holds it and `session_timeout`, the seconds until an idle session is
      closed.
    - `state_cls` and `reset_observation_cls` are described in `/schema`. Their defaults are the
      class in the environment's annotations, and `observation_cls`.
    - `mode` is `"simulation"` or `"production"`, in which `/reset`, `/step` and `/state` do not
      exist, and `/web` only where `ENABLE_WEB_INTERFACE` is set. Its default is the variable
      `OPENENV_MODE`.
    - The others concern the page at `/web`.

    Raises `ConcurrencyConfigurationError` for more sessions than the environment supports,
    `ValueError` for other arguments out of bounds, and `TypeError` when `env` cannot be called. A
    bad value of a variable such as `STEPWIRE_PORT` ends the process with one line on stderr and
    exit code 2; one of `PORT`, which may be for other software, is a warning.
    """
    server = HTTPEnvServer(
        env,
        action_cls,
        observation_cls,
        max_concurrent_envs,
        concurrency_config,
        env_name,
        state_cls,
        reset_observation_cls=reset_observation_cls,
    )
    settings = server.settings
    # The framework's servers have a web interface only where the variable asks for it.
    is_asked_for = "enable_web_interface" in settings.model_fields_set
    has_page = settings.enable_web_interface and (
        is_asked_for or read_mode(mode) is ServerMode.SIMULATION
    )
    app = _build(server, mode, has_page)
    if has_page:
        page = CustomPage(
            gradio_builder, custom_tab_name, custom_tab_primary, show_default_tab, title_override
        )
        web_manager = WebInterfaceManager(
            server.sessions,
            server.models.action,
            server.models.observation,
            metadata_of_factory(env, env_name),
        )
        server.call_at_start_and_stop(web_manager.use_running_loop, web_manager.forget_environment)
        with nullcontext() if is_asked_for else routes_that_yield(app):
            add_web_api(app, web_manager, server.decoder)
            inspector = add_inspector(app, server, page)
            add_custom_page(app, page, web_manager)
            if not page.is_at_web:
                # A mount, as on the framework's server: some authors replace it by their own.
                app.mount("/web", Router([Route("/", inspector)]))
    return app


def create_fastapi_app(
    env: Callable[[], AnyEnvironment],
    action_cls: type[Action] | None,
    observation_cls: type[Observation] | None,
    max_concurrent_envs: int | None = None,
    concurrency_config: ConcurrencyConfig | None = None,
    env_name: str | None = None,
    state_cls: type[State] = State,
    *,
    mode: ServerMode | str | None = None,
    reset_observation_cls: type[Observation] | None = None,
) -> FastAPI:
    """Build the application without the page at `/web`; see `create_app` for the arguments."""
    server = HTTPEnvServer(
        env,
        action_cls,
        observation_cls,
        max_concurrent_envs,
        concurrency_config,
        env_name,
        state_cls,
        reset_observation_cls=reset_observation_cls,
    )
    return _build(server, mode, has_page=False)


def _build(server: HTTPEnvServer, mode: ServerMode | str | None, has_page: bool) -> FastAPI:
    # 1.x is the version of the OpenEnv HTTP contract; the framework's validator reads it here.
    # FastAPI's own /docs and /redoc are off: they load their scripts from another server.
    app = FastAPI(
        title=f"{server.env_name} HTTP API",
        version="1.0.0",
        docs_url=None,
        redoc_url=None,
        **_WITHOUT_TELEMETRY,
    )
    server.register_routes(app, read_mode(mode))
    add_documentation(app, server.decoder, server.models, server.factory, server.settings, has_page)
    return app
