# SPDX-License-Identifier: BSD-3-Clause
"""The framework's own server with the environment of its template, which `PYTHONPATH` leads to."""

import stepwire  # noqa: F401 - first: so the framework's server comes without its Gradio pages

# isort: split
from typing import Any

from openenv.core.env_server.http_server import create_app
from server.echo_environment import EchoEnvironment  # type: ignore[import-not-found]

from models import EchoAction, EchoObservation  # type: ignore[import-not-found]


class Failing(EchoEnvironment):  # type: ignore[misc]
    """The template's environment, with a message at which it fails."""

    def step(self, action: Any) -> Any:
        if action.message == "fail":
            raise KeyError("/secret/path")
        return super().step(action)


class Unbuildable(EchoEnvironment):  # type: ignore[misc]
    def __init__(self) -> None:
        raise RuntimeError("/secret/path")


app = create_app(Failing, EchoAction, EchoObservation, max_concurrent_envs=4)
app.mount(
    "/unbuildable",
    create_app(Unbuildable, EchoAction, EchoObservation, max_concurrent_envs=4),
)
