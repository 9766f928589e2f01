# SPDX-License-Identifier: BSD-3-Clause
"""`/docs`, `/redoc`, `/openapi.json` and `/asyncapi.json`: true, and without another server.

Swagger UI and ReDoc come from the package `fastapi-offline`. Addresses are relative, as those of
`/web` are, so that the pages and their "Execute" work behind a path prefix.
"""

import json
import logging
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from openenv.core.env_server.types import Action, Observation
from pydantic import ValidationError

from stepwire.server.endpoints.http import request_schemas
from stepwire.server.pages.asyncapi import ANSWERED_BY, describe_websocket
from stepwire.server.pages.inspector import digests, page_headers
from stepwire.server.settings import Settings
from stepwire.server.wire import MessageDecoder

logger = logging.getLogger("stepwire.server")

_ICON = Path(__file__).parent / "web" / "favicon.svg"
# Both change with a release only.
_KEEP_FOR_AN_HOUR = {"Cache-Control": "max-age=3600"}
# An image of another server's that ReDoc shows; the page's policy would refuse it.
_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

_DESCRIPTION = """\
Reset, step and observe an environment.

**Episodes over HTTP.** A client that keeps cookies, such as this page or `curl -b jar -c jar`,
keeps its episode from one request to the next. Without the cookie, each request uses a fresh
environment.

**Sessions over a WebSocket.** A connection to `/ws` is a session with an environment of its own.
Frames are JSON text, answered one at a time and in order:

| You send | The server answers |
|---|---|
{frames}

A frame that cannot be honoured is answered by one of type `error`, whose `data` has `message`,
`code` and more, and the session goes on. [`asyncapi.json`](asyncapi.json) describes every frame;
{inspector}
"""
_INSPECTOR = "[`/web`](web) shows them as they go over the wire."
_NO_INSPECTOR = "a page that shows them, `/web`, is turned off on this server."


def example_of(model: type[Action]) -> dict[str, Any] | None:
    """An action to begin with, made of its required fields; None when that makes no valid one."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    example = {
        name: _example(schema["properties"][name], definitions)
        for name in schema.get("required", [])
    }
    try:
        model.model_validate(example)
    except ValidationError:
        return None
    return example


def _example(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for alternative in ("anyOf", "oneOf", "allOf"):
        if alternative in schema:
            return _example(schema[alternative][0], definitions)
    for name in ("examples", "enum"):
        if name in schema:
            return schema[name][0]
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    match schema.get("type"):
        case "object":
            return {
                name: _example(schema["properties"][name], definitions)
                for name in schema.get("required", [])
            }
        case "array":
            return [_example(schema.get("items", {}), definitions)] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
    return "text"[: schema.get("maxLength", 4)].ljust(schema.get("minLength", 0), "t")


def add_documentation(
    app: FastAPI,
    decoder: MessageDecoder,
    action_cls: type[Action],
    observation_cls: type[Observation],
    settings: Settings,
) -> None:
    """Serve what describes the application; call it when all routes are there."""
    action = example_of(action_cls)
    bodies: dict[str, Any] = {
        "reset": {"seed": 7, "episode_id": "demo"},
        "mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
    }
    if action is not None:
        bodies["step"] = action
    frames: dict[str, Any] = {name: {"type": name} for name in decoder.messages}
    for name, body in bodies.items():
        frames[name]["data"] = body
    app.description = _DESCRIPTION.format(
        frames="\n".join(_row(name, frame) for name, frame in frames.items()),
        inspector=_INSPECTOR if settings.enable_web_interface else _NO_INSPECTOR,
    )
    _complete_openapi(app, decoder, bodies)
    info = {
        "title": f"{app.title.removesuffix(' HTTP API')} WebSocket API",
        "version": app.version,
        "description": "A session with an environment over a WebSocket.",
    }

    @cache
    def description() -> dict[str, Any]:
        return describe_websocket(info, decoder, observation_cls, frames)

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi_document(request: Request) -> JSONResponse:
        address = request.url
        server = {
            "host": address.netloc,
            "pathname": address.path.removesuffix("/asyncapi.json"),
            "protocol": "wss" if address.scheme == "https" else "ws",
        }
        return JSONResponse({**description(), "servers": {"this": server}})

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> FileResponse:
        return FileResponse(_ICON, headers=_KEEP_FOR_AN_HOUR)

    try:
        assets = Path(str(files("fastapi_offline") / "static"))
    except ModuleNotFoundError:
        logger.warning("fastapi-offline is not installed: /docs and /redoc are not served")
    else:
        _add_swagger_ui(app, settings, assets)
        _add_redoc(app, settings, assets)


def _row(name: str, frame: dict[str, Any]) -> str:
    answer = ANSWERED_BY.get(name)
    said = (
        f'`{{"type": "{answer}", "data": …}}`' if answer else "nothing, and closes with code 1000"
    )
    return f"| `{json.dumps(frame)}` | {said} |"


def _complete_openapi(app: FastAPI, decoder: MessageDecoder, bodies: dict[str, Any]) -> None:
    # Relative to the document itself, wherever a proxy has put that.
    app.servers = [{"url": ".", "description": "this server"}]
    requests = {"/reset": bodies["reset"], "/mcp": bodies["mcp"]}
    if "step" in bodies:
        requests["/step"] = {"action": bodies["step"]}
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        schema["components"]["schemas"].update(request_schemas(decoder))
        for path, example in requests.items():
            content = schema["paths"][path]["post"]["requestBody"]["content"]
            content["application/json"]["example"] = example
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add_swagger_ui(app: FastAPI, settings: Settings, assets: Path) -> None:
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="favicon.ico",
        swagger_ui_parameters={"tryItOutEnabled": True, "validatorUrl": None},
    )
    _secure(page, settings)

    @app.get("/docs", include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        return page

    @app.get("/docs/{name}", include_in_schema=False)
    async def swagger_ui_file(name: str) -> Response:
        if name not in ("swagger-ui-bundle.js", "swagger-ui.css"):
            return Response(status_code=404)
        return FileResponse(assets / name, headers=_KEEP_FOR_AN_HOUR)


def _add_redoc(app: FastAPI, settings: Settings, assets: Path) -> None:
    page = get_redoc_html(
        openapi_url="openapi.json",
        title=app.title,
        redoc_js_url="redoc/redoc.standalone.js",
        redoc_favicon_url="favicon.ico",
        with_google_fonts=False,
    )
    _secure(page, settings, worker_src="blob:")

    @cache
    def script() -> bytes:
        return (assets / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, b"favicon.ico")

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        return page

    @app.get("/redoc/redoc.standalone.js", include_in_schema=False)
    async def redoc_file() -> Response:
        return Response(script(), media_type="text/javascript", headers=_KEEP_FOR_AN_HOUR)


def _secure(page: HTMLResponse, settings: Settings, **sources: str) -> None:
    """Allow the page's own inline script, by its digest, and the styles that its script makes."""
    page.headers.update(
        page_headers(
            settings,
            script_src=f"'self' {digests(bytes(page.body).decode(), 'script')}".rstrip(),
            style_src="'self' 'unsafe-inline'",
            img_src="'self' data:",
            connect_src="'self'",
            **sources,
        )
    )
