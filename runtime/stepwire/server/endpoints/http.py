# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP routes: `/reset`, `/step`, `/state`, what describes the environment, and `POST /mcp`.

An HTTP request has no session: each builds an environment, uses it once and closes it. Where the
client keeps a cookie, the environment goes on with its episode (`http_episodes.py`).
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from openenv.core.env_server.mcp_types import JsonRpcErrorCode, JsonRpcRequest, JsonRpcResponse
from openenv.core.env_server.types import (
    Action,
    EnvironmentMetadata,
    HealthResponse,
    HealthStatus,
    Observation,
    ResetRequest,
    SchemaResponse,
    State,
)
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.requests import ClientDisconnect

from stepwire.server.endpoints.http_episodes import HttpEpisodes
from stepwire.server.endpoints.mcp import JsonRpc, ToolBox
from stepwire.server.endpoints.mcp_streamable_http import StreamableHttp, speaks_standard_mcp
from stepwire.server.errors import MessageError, StoppingError, describe
from stepwire.server.sessions import Sessions
from stepwire.server.wire import TOOL_ACTIONS, MessageDecoder, encode_json_rpc, encode_observation

logger = logging.getLogger("stepwire.server")

_REFERENCE = "#/components/schemas/{model}"


class ObservationResponse(BaseModel):
    """What `/reset` and `/step` answer."""

    observation: dict[str, Any] = Field(description="Fields of the environment's observation")
    reward: bool | int | float | None = Field(description="Reward of the step")
    done: bool = Field(description="Whether the episode is over")
    metadata: dict[str, Any] | None = Field(description="The observation's metadata, unless empty")


class InvalidRequestResponse(BaseModel):
    """What is wrong with a request, in pydantic's form."""

    detail: list[dict[str, Any]] = Field(description="One entry per error: type, loc, msg, input")


class SessionsResponse(BaseModel):
    """How many sessions there are."""

    active_sessions: int = Field(description="Open at the moment, in the worker that answers")
    max_sessions: int = Field(description="How many may be open, in each worker")


class ReadinessResponse(BaseModel):
    """Whether the server takes new sessions."""

    status: Literal["ready", "draining"]


class FailureResponse(BaseModel):
    """An environment that failed."""

    detail: str = Field(description="What happened")
    code: str = Field(description="Error code of the wire contract")


class _Route(APIRoute):
    """A route whose failures are answered: Starlette's own handler would raise them once more."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (MessageError, HTTPException, RequestValidationError):
                raise
            except ClientDisconnect:
                logger.debug("The client closed the connection before its request was complete")
                return Response(status_code=400)  # which nobody gets
            except Exception as error:  # noqa: BLE001 - whatever an environment raises
                described = describe(error)
                failure = FailureResponse(detail=described["message"], code=described["code"])
                status = 503 if isinstance(error, StoppingError) else 500
                return JSONResponse(failure.model_dump(), status)

        return answer


def create_router(
    action_cls: type[Action],
    observation_cls: type[Observation],
    sessions: Sessions,
    episodes: HttpEpisodes,
    decoder: MessageDecoder,
    tools: ToolBox,
    json_rpc: JsonRpc,
    streamable_http: StreamableHttp,
) -> APIRouter:
    """The routes of one environment."""
    router = APIRouter(route_class=_Route)
    failures: dict[int | str, dict[str, Any]] = {
        422: {"model": InvalidRequestResponse, "description": "The request is invalid"},
        500: {"model": FailureResponse, "description": "The environment failed"},
    }
    answers = {200: {"model": ObservationResponse, "description": "The observation"}, **failures}

    @router.post("/reset", tags=["Episode"], responses=answers, openapi_extra=_body("ResetRequest"))
    async def reset(request: Request) -> Response:
        """Start an episode and return its first observation. Every argument is optional."""
        arguments = decoder.decode_reset(await request.body()).model_dump(exclude_unset=True)
        async with sessions.temporary() as session:
            response = _observation_response(await session.reset(arguments))
            return await episodes.keep(request, session, response)

    @router.post(
        "/step", tags=["Episode"], responses=answers, openapi_extra=_body("StepRequest", True)
    )
    async def step(request: Request) -> Response:
        """Take one step: in the episode of the cookie, without one in a fresh environment."""
        body = decoder.decode_step(await request.body())
        action: Any = body.action
        async with sessions.temporary() as session:
            await episodes.resume(request, session)
            if type(action) in TOOL_ACTIONS:
                observation = await tools.act(session, action)
            else:
                arguments = body.model_dump(exclude_unset=True, exclude={"action"})
                observation = await session.step(action, arguments)
            return await episodes.keep(request, session, _observation_response(observation))

    @router.get("/state", tags=["Episode"], responses={200: {"model": State}, **failures})
    async def state(request: Request) -> Response:
        """Id and number of steps of the cookie's episode, without one of a fresh environment."""
        async with sessions.temporary() as session:
            await episodes.resume(request, session)
            return _json_response(session.state().model_dump_json())

    @router.get("/schema", tags=["Description"])
    async def schema() -> SchemaResponse:
        """JSON Schemas of the action, the observation and the state."""
        return SchemaResponse(
            action=action_cls.model_json_schema(),
            observation=observation_cls.model_json_schema(),
            state=State.model_json_schema(),
        )

    @router.get("/metadata", tags=["Description"], responses={500: failures[500]})
    async def metadata() -> EnvironmentMetadata:
        """Name, description and version of the environment."""
        async with sessions.temporary() as session:
            return session.environment.get_metadata()

    @router.get("/health", tags=["Operation"])
    async def health() -> HealthResponse:
        """Whether the server runs."""
        return HealthResponse(status=HealthStatus.HEALTHY)

    @router.get(
        "/ready",
        tags=["Operation"],
        responses={503: {"model": ReadinessResponse, "description": "The server is stopping"}},
    )
    async def ready(response: Response) -> ReadinessResponse:
        """Whether new sessions are welcome; not when the server has been told to stop."""
        if sessions.draining:
            response.status_code = 503
        return ReadinessResponse(status="draining" if sessions.draining else "ready")

    @router.get("/sessions", tags=["Operation"])
    async def count_sessions() -> SessionsResponse:
        """How many sessions the worker that answers has open, and how many it may."""
        return SessionsResponse(active_sessions=sessions.active, max_sessions=sessions.capacity)

    @router.post(
        "/mcp",
        tags=["Tools"],
        responses={
            200: {"model": dict[str, Any], "description": "A JSON-RPC response"},
            202: {"description": "A notification was taken note of"},
        },
        openapi_extra=_body("JsonRpcRequest", True),
    )
    async def mcp(request: Request) -> Response:
        """MCP over Streamable HTTP, and bare JSON-RPC 2.0 without its handshake: `tools/list`,
        `tools/call`, `openenv/session/create` and `openenv/session/close`.
        """
        try:
            payload = decoder.decode_json(await request.body())
        except MessageError as error:
            code = JsonRpcErrorCode.PARSE_ERROR
            failure = JsonRpcResponse.error_response(code, str(error), error.errors)
            return _json_response(encode_json_rpc(failure.model_dump()))
        if speaks_standard_mcp(request, payload):
            return await streamable_http.answer(request, payload)
        return _json_response(encode_json_rpc(await json_rpc.answer(payload)))

    return router


def translate_errors(app: FastAPI) -> None:
    """Answer 422 with what is wrong with a request."""

    @app.exception_handler(MessageError)
    async def invalid_request(_: Request, error: MessageError) -> JSONResponse:
        detail = error.errors or [{"type": "json_invalid", "loc": ["body"], "msg": str(error)}]
        return JSONResponse({"detail": detail}, 422)


def request_schemas(decoder: MessageDecoder) -> dict[str, Any]:
    """OpenAPI components of the request bodies, which the routes decode themselves."""
    models: list[Any] = [
        (model, "validation") for model in (ResetRequest, decoder.step_request, JsonRpcRequest)
    ]
    _, definitions = models_json_schema(models, ref_template=_REFERENCE)
    schemas: dict[str, Any] = definitions["$defs"]
    # The framework's examples are of another environment's action.
    schemas["StepRequest"].pop("examples", None)
    return schemas


def _body(model: str, is_required: bool = False) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=model)}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": is_required, "content": content}}


def _observation_response(observation: Observation) -> Response:
    return _json_response(encode_observation(observation))


def _json_response(text: str) -> Response:
    return Response(text, media_type="application/json")
