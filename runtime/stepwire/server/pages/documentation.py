# SPDX-License-Identifier: BSD-3-Clause
"""`/docs` and `/openapi.json`: descriptions with requests that work as they are shown.

Swagger UI comes from the package `fastapi-offline`: the page loads nothing from other servers.
Addresses are relative, so the page and its "Execute" buttons work behind a path prefix.
"""

import json
import logging
from contextlib import suppress
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse
from openenv.core.env_server.mcp_types import CallToolObservation, ListToolsObservation
from pydantic import BaseModel
from starlette.routing import BaseRoute

from stepwire.protocol.examples import NoExample, example_of
from stepwire.server.distribution import distribution_of
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.models import Models
from stepwire.server.pages.action_example import action_example
from stepwire.server.pages.security import FILES, inline_digests, page_headers
from stepwire.server.scenarios import Scenario
from stepwire.server.settings import Settings
from stepwire.server.wire import SCHEMA_REFERENCE, MessageDecoder
from stepwire.server.yielding_routes import routes_that_yield, yielding_routes

logger = logging.getLogger("stepwire.server")

# Both files change only with a release.
_CACHE_FOR_AN_HOUR = {"Cache-Control": "max-age=3600"}

_DESCRIPTION = """\
Reset, step and observe an environment{distribution}. The version beside the title is that of the
OpenEnv HTTP contract.
{episodes}
**Sessions over a WebSocket.** A connection to `/ws` is a session with an environment of its own.
Frames are JSON text, answered one at a time and in order:

| You send | The server answers |
|---|---|
{frames}

An invalid frame, or a failure of the environment, is answered with a frame of type `error`: its
`data` has a `message`, a `code` and, with some codes, more. The session continues. {inspector}
"""
_EPISODES = """
**Episodes over HTTP.** A client that keeps cookies, such as this page or `curl -b jar -c jar`,
continues its episode from one request to the next. Without the cookie, each request uses a fresh
environment.
"""
_INSPECTOR = "[`/web`](web) shows every frame as it is sent."
_TASKS = "Only environments with tasks answer these; the others answer 501."
_UNFINISHED = "**The example action has to be completed before it is sent.** {}"
_NO_INSPECTOR = "`/web`, a page that shows every frame, is turned off on this server."


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": SCHEMA_REFERENCE.format(model=name)}


_OBSERVATION = _reference("ObservationResponse")
_STATE = _reference("State")
_REPLIES = {"reset": "observation", "step": "observation", "state": "state", "mcp": "mcp"}


def describe_messages(app: FastAPI, decoder: MessageDecoder, models: Models) -> None:
    """Complete the application's `/openapi.json` with what FastAPI cannot know."""
    examples = _examples(models.action)
    generate = app.openapi
    kept: list[Any] = []  # making the document takes much longer than any other answer

    def openapi() -> dict[str, Any]:
        generated, routes = generate(), yielding_routes(app)
        made_of = (generated, [*routes], models.state)  # the state's class may be known later
        if not kept or kept[0] != made_of:
            document = deepcopy(generated)  # FastAPI keeps its own
            _add_yielding_routes(document, routes)
            _complete(document, decoder, models, examples)
            kept[:] = made_of, document
        completed: dict[str, Any] = kept[1]
        return completed

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents it


def add_documentation(
    app: FastAPI,
    decoder: MessageDecoder,
    models: Models,
    factory: EnvironmentFactory,
    settings: Settings,
    has_inspector: bool,
) -> None:
    """Describe the application and serve the page."""
    # Relative to the document itself, which a proxy may have put below a prefix.
    app.servers = [{"url": ".", "description": "this server"}]
    examples = _examples(models.action)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        distribution = distribution_of(factory.module)
        paths = {getattr(route, "path", "") for route in app.routes}
        app.description = _DESCRIPTION.format(
            distribution=f": {distribution}" if distribution.version else "",
            episodes=_EPISODES if "/reset" in paths else "",  # not in production mode
            frames="\n".join(_row(name, examples.get(name)) for name in decoder.messages),
            inspector=_INSPECTOR if has_inspector else _NO_INSPECTOR,
        )
        return generate()

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI documents it

    with routes_that_yield(app):

        @app.get("/favicon.ico", include_in_schema=False)
        async def favicon() -> FileResponse:
            return FileResponse(FILES / "favicon.svg", headers=_CACHE_FOR_AN_HOUR)

    try:
        assets = Path(str(files("fastapi_offline") / "static"))
    except ModuleNotFoundError:
        logger.warning("fastapi-offline is not installed: /docs is not served")
    else:
        _add_swagger_ui(app, settings, assets)


def _examples(action_cls: Any) -> dict[str, Any]:
    """An example of `data` for each message that has any."""
    return {
        "reset": {"seed": 7, "episode_id": "demo"},
        "step": action_example(action_cls).action,
        "mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
    }


def _row(name: str, data: Any) -> str:
    frame = {"type": name} if data is None else {"type": name, "data": data}
    reply = _REPLIES.get(name)
    answer = f'`{{"type": "{reply}", "data": …}}`' if reply else "nothing; it closes with code 1000"
    return f"| `{json.dumps(frame)}` | {answer} |"


def _add_yielding_routes(document: dict[str, Any], routes: list[BaseRoute]) -> None:
    """Add the routes that `app.routes` does not have, unless an author's take their place."""
    theirs = get_openapi(title="", version="", routes=routes)
    for path, operations in theirs["paths"].items():
        document["paths"].setdefault(path, operations)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in theirs.get("components", {}).get("schemas", {}).items():
        schemas.setdefault(name, schema)


def _complete(
    document: dict[str, Any], decoder: MessageDecoder, models: Models, examples: dict[str, Any]
) -> None:
    """Add the bodies that the routes decode and encode themselves, with examples."""
    paths, schemas = document["paths"], document["components"]["schemas"]
    schemas.update(decoder.request_schemas())
    scenario = Scenario.model_json_schema(ref_template=SCHEMA_REFERENCE)
    schemas.update(scenario.pop("$defs"), Scenario=scenario)
    properties = schemas["ResetRequest"].setdefault("properties", {})
    properties["scenario"] = _reference("Scenario")
    # Some paths do not exist in production mode, and an author's may stand in the place of others.
    for name, example in examples.items():
        body = paths.get(f"/{name}", {}).get("post", {}).get("requestBody", {})
        content = body.get("content", {}).get("application/json")
        if example is not None and content is not None:
            content["example"] = {"action": example} if name == "step" else example
    _say_what_the_step_needs(paths, models)
    for path, model in (("/reset", models.reset_observation), ("/step", models.observation)):
        classes = (
            (model,) if path == "/reset" else (model, CallToolObservation, ListToolsObservation)
        )
        observation = {"anyOf": [_component(schemas, cls) for cls in classes]}
        more = {"type": "object", "properties": {"observation": observation}}
        _set_answer(paths, path, "post", _OBSERVATION, {"allOf": [_OBSERVATION, more]})
    _set_answer(paths, "/state", "get", _STATE, _component(schemas, models.state))
    _add_answer_examples(document, models)
    names = ("Episode", "Description", "Operation", "Tools")
    tags = [*({"name": name} for name in names), {"name": "Task API", "description": _TASKS}]
    document["tags"] = tags + document.get("tags", [])


def _say_what_the_step_needs(paths: dict[str, Any], models: Models) -> None:
    """If the example cannot be sent unchanged, the description says why."""
    problem = action_example(models.action).problem
    if problem is not None and "post" in paths.get("/step", {}):
        step = paths["/step"]["post"]
        step["description"] = f"{step.get('description', '')}\n\n{_UNFINISHED.format(problem)}"


def _component(schemas: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A reference to the model's schema, which is added to the components."""
    schema = model.model_json_schema(ref_template=SCHEMA_REFERENCE)
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return _reference(model.__name__)


def _set_answer(paths: dict[str, Any], path: str, method: str, old: Any, new: Any) -> None:
    """Change the schema of the answer from `old` to `new`; an author's route has another one."""
    answers = paths.get(path, {}).get(method, {}).get("responses", {})
    content = answers.get("200", {}).get("content", {}).get("application/json", {})
    if content.get("schema") == old:
        content["schema"] = new


def _add_answer_examples(document: dict[str, Any], models: Models) -> None:
    """An example for each answer: Swagger UI would make up names and values."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation.get("responses", {}).items():
                content = answer.get("content", {}).get("application/json")
                if content is None or "example" in content or "examples" in content:
                    continue
                if status == "200" and path in ("/reset", "/step"):
                    model = models.reset_observation if path == "/reset" else models.observation
                    content["example"] = _observation_example(model)
                else:
                    root = {**content.get("schema", {}), "components": document["components"]}
                    with suppress(NoExample):
                        content["example"] = example_of(root, optional=True)


def _observation_example(model: type[BaseModel]) -> dict[str, Any]:
    """An answer with an observation: its defaults, and examples where it has none."""
    schema = model.model_json_schema()
    observation = {}
    for name, described in schema.get("properties", {}).items():
        if name in ("reward", "done", "metadata"):
            continue
        with suppress(NoExample):
            root = {**described, "$defs": schema.get("$defs", {})}
            default = described.get("default")
            observation[name] = default if default is not None else example_of(root)
    return {"observation": observation, "reward": 1.0, "done": False, "metadata": {}}


# Swagger UI has dark colours, for a class that the page must set.
_COLOURS = """\
<meta name="color-scheme" content="light dark">
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const show = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", show);
show();
</script>
"""


def _add_swagger_ui(app: FastAPI, settings: Settings, assets: Path) -> None:
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="favicon.ico",
        swagger_ui_parameters={"tryItOutEnabled": True, "validatorUrl": None},
    )
    text = bytes(page.body).decode().replace("</head>", f"{_COLOURS}</head>")
    headers = page_headers(
        settings,
        # The page has two inline scripts; Swagger UI adds styles at run time.
        script_src=f"'self' {inline_digests(text, 'script')}",
        style_src="'self' 'unsafe-inline'",
        img_src="'self' data:",
        connect_src="'self'",
    )

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        return HTMLResponse(text, headers=headers)

    # These two names and no others: an author may have pages below /docs.
    @app.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
    async def swagger_ui_script() -> FileResponse:
        return FileResponse(assets / "swagger-ui-bundle.js", headers=_CACHE_FOR_AN_HOUR)

    @app.get("/docs/swagger-ui.css", include_in_schema=False)
    async def swagger_ui_style() -> FileResponse:
        return FileResponse(assets / "swagger-ui.css", headers=_CACHE_FOR_AN_HOUR)
