# SPDX-License-Identifier: BSD-3-Clause
"""Which routes of the framework's server ours does not have, and why."""

import json
import subprocess
from collections.abc import Callable

import pytest

_REASONS = {
    **dict.fromkeys(
        ("GET /redoc", "HEAD /redoc"), "it repeated /docs, and could not send requests"
    ),
    **dict.fromkeys(
        ("GET /docs/oauth2-redirect", "HEAD /docs/oauth2-redirect"), "no route asks for OAuth 2"
    ),
}


@pytest.mark.slow
def test_each_route_that_ours_does_not_have_has_a_reason(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run("-c", _LIST_ROUTES)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) >= {"true simulation", "false simulation"}
    for how, (stock, ours) in found.items():
        assert len(stock) > 10, how
        assert set(stock) - set(ours) == set(_REASONS), how


_LIST_ROUTES = """
import inspect, json, os
import stepwire
from openenv.core.env_server.http_server import create_app as stock
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from stepwire.server import create_app as ours

class Plain(Environment):
    def reset(self, seed=None, episode_id=None, **kwargs):
        return Observation()

    def step(self, action, timeout_s=None, **kwargs):
        return Observation()

    @property
    def state(self):
        return State()

def routes(found):
    for route in found:
        if hasattr(route, "original_router"):  # how newer FastAPI keeps an included router
            yield from routes(route.original_router.routes)
        elif type(route).__name__ == "Mount":
            yield f"MOUNT {route.path}"
        else:
            methods = getattr(route, "methods", None) or {"WEBSOCKET"}
            yield from (f"{method} {route.path}" for method in methods)

modes = ["simulation"]
if "mode" in inspect.signature(stock).parameters:
    modes.append("production")
found = {}
for web in ("true", "false"):
    os.environ["ENABLE_WEB_INTERFACE"] = web
    for mode in modes:
        options = {"mode": mode} if len(modes) > 1 else {}
        apps = [create(Plain, Action, Observation, **options) for create in (stock, ours)]
        found[f"{web} {mode}"] = [sorted(routes(app.routes)) for app in apps]
print(json.dumps(found))
"""
