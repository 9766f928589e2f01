# SPDX-License-Identifier: BSD-3-Clause
"""`app`: an environment's application as a Ray Serve application, each replica a server.

    serve run stepwire.integrations.ray_serve:app application=my_env.server.app:app replicas=4

It needs `ray[serve]` 2.60 or newer. The replicas serve the application of the `server` command.
"""

import os
import secrets
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.types import ASGIApp


class Options(BaseModel):
    """The arguments of `app`; a bad one raises `ValidationError`, which names it."""

    model_config = ConfigDict(extra="forbid")

    application: str = Field(
        pattern=r"^\w+(\.\w+)*:\w+(\.\w+)*$",
        description="Import string, such as `my_env.server.app:app`",
    )
    replicas: int = Field(1, ge=1, le=100_000, description="Replicas, each with one event loop")
    places: int = Field(1000, ge=1, le=1_000_000, description="Sessions open at once, per replica")
    drain_s: float = Field(
        60.0, gt=0, description="Seconds that a replica which stops leaves its sessions to end"
    )
    cpus: float = Field(1.0, ge=0, description="Cores that Ray reserves for each replica")


class Environment:
    """What a replica has besides the application."""

    async def check_health(self) -> None:
        """Answers when the event loop of the sessions runs. Serve's own check runs in another."""


def app(options: Options) -> serve.Application:
    """The Serve application; `serve run` and Serve's configuration files call it.

    A session is one request of Serve for as long as it is open. Serve gives a replica at most
    `places` of them, and has further ones wait until a place is free.
    """
    places, key = str(options.places), secrets.token_hex()

    def build() -> ASGIApp:
        # In the replica, before the application reads its settings. With one key for all replicas,
        # any of them continues an episode over HTTP.
        os.environ["STEPWIRE_MAX_CONCURRENT_ENVS"] = places
        os.environ["SECRET_KEY"] = os.environ.get("SECRET_KEY") or key  # empty counts as unset
        module, _, name = options.application.partition(":")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        served: ASGIApp = found
        return served

    deployment = serve.deployment(
        serve.ingress(build)(Environment),
        name="environment",
        num_replicas=options.replicas,
        max_ongoing_requests=options.places,
        graceful_shutdown_timeout_s=options.drain_s,
        graceful_shutdown_wait_loop_s=min(1.0, options.drain_s / 4),
        health_check_period_s=2.0,
        ray_actor_options={"num_cpus": options.cpus},
    )
    return deployment.bind()
