# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP routes: `/reset`, `/step`, `/state`, the descriptions and operation.

An HTTP request has no session: it builds an environment, uses it once and closes it. A client that
keeps cookies continues its episode from request to request (`http_episodes.py`).
"""

import logging
from collections.abc import Callable, Coroutine
from time import perf_counter_ns as now
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from openenv.core.env_server.types import (
    EnvironmentMetadata,
    HealthResponse,
    HealthStatus,
    Observation,
    SchemaResponse,
    State,
)
from pydantic import BaseModel, Field, TypeAdapter
from starlette.requests import ClientDisconnect

from stepwire.server.description import metadata_of, metadata_of_class
from stepwire.server.encoding import encode_observation, encode_state
from stepwire.server.endpoints.access import require_access_control
from stepwire.server.endpoints.http_episodes import HttpEpisodes
from stepwire.server.endpoints.request_memory import make_room
from stepwire.server.errors import MessageError, StoppingError, describe
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.models import Models
from stepwire.server.observing.metrics import CODES, counts, note_step
from stepwire.server.scenarios import Scenario
from stepwire.server.sessions import Sessions
from stepwire.server.wire import (
    SCHEMA_REFERENCE,
    TOOL_ACTIONS,
    MessageDecoder,
)

logger = logging.getLogger("stepwire.server")


class ObservationResponse(BaseModel):
    """The answer to `/reset` and `/step`."""

    observation: dict[str, Any] = Field(description="Fields of the environment's observation")
    reward: bool | int | float | None = Field(description="Reward of the step", examples=[1.0])
    done: bool = Field(description="Whether the episode is over", examples=[False])
    metadata: dict[str, Any] | None = Field(description="The observation's metadata, unless empty")


class InvalidRequestResponse(BaseModel):
    """The errors of a request, in pydantic's form."""

    detail: list[dict[str, Any]] = Field(
        description="One entry per error: type, loc, msg, input",
        examples=[[{"type": "missing", "loc": ["body", "action"], "msg": "Field required"}]],
    )


class SessionsResponse(BaseModel):
    """The number of sessions."""

    active_sessions: int = Field(description="Open sessions, of all workers")
    max_sessions: int = Field(description="Limit on open sessions")


class ReadinessResponse(BaseModel):
    """Whether the server accepts new sessions."""

    status: Literal["ready", "draining"]


class FailureResponse(BaseModel):
    """The environment failed."""

    detail: str = Field(description="What happened", examples=["The environment failed"])
    code: str = Field(description="Error code of the wire contract", examples=["EXECUTION_ERROR"])


_FAILURES: dict[int | str, dict[str, Any]] = {
    422: {"model": InvalidRequestResponse, "description": "The request is invalid"},
    500: {"model": FailureResponse, "description": "The environment failed"},
}
_OBSERVATION: dict[int | str, dict[str, Any]] = {
    200: {"model": ObservationResponse, "description": "The observation"},
    **_FAILURES,
}


class DescribedModels(SchemaResponse):
    """The JSON Schemas of the environment's messages."""

    reset_observation: dict[str, Any] = Field(description="JSON Schema of a reset's observation")


class Route(APIRoute):
    """Answers an exception with its description, whatever application it is part of."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                require_access_control(request.scope)
                return await handle(request)
            except (HTTPException, RequestValidationError):
                raise
            except MessageError as error:
                counts[CODES[error.code]] += 1
                raise _for_handlers(error) from None
            except ClientDisconnect:
                logger.debug("The client closed the connection before its request was complete")
                return Response(status_code=400)  # never delivered
            except Exception as error:  # noqa: BLE001 - an environment may raise anything
                described = describe(error)
                counts[CODES[described["code"]]] += 1
                failure = FailureResponse(detail=described["message"], code=described["code"])
                status = 503 if isinstance(error, StoppingError) else 500
                return JSONResponse(failure.model_dump(), status)

        return answer


def _for_handlers(error: MessageError) -> Exception:
    """The exception that the framework's servers raise, for exception handlers of the author."""
    entries = error.errors or [{"type": "json_invalid", "loc": ("body",), "msg": str(error)}]
    if entries[0]["loc"][:1] == ("body",):
        return RequestValidationError(entries)
    return HTTPException(422, entries)  # an invalid action


class EpisodeRoutes:
    """`/reset`, `/step` and `/state`."""

    def __init__(self, sessions: Sessions, decoder: MessageDecoder, episodes: HttpEpisodes) -> None:
        self._sessions = sessions
        self._decoder = decoder
        self._episodes = episodes

    def add_to(self, router: APIRouter) -> None:
        router.post(
            "/reset",
            tags=["Episode"],
            summary="Start an episode",
            responses=_OBSERVATION,
            openapi_extra=body_schema("ResetRequest"),
        )(self.reset)
        router.post(
            "/step",
            tags=["Episode"],
            summary="Take a step",
            responses=_OBSERVATION,
            openapi_extra=body_schema("StepRequest", is_required=True),
        )(self.step)
        router.get(
            "/state",
            tags=["Episode"],
            summary="Get the state of the episode",
            responses={200: {"model": State}, **_FAILURES},
        )(self.state)

    async def reset(self, request: Request) -> Response:
        """Start an episode and return its first observation. Every argument is optional."""
        body = self._decoder.decode_reset(await request.body())
        async with self._sessions.temporary() as session:
            observation = await session.reset(body.model_dump(exclude_unset=True))
            await make_room(request.scope, session.reply_size)
            return await self._episodes.keep(request, session, _observation_response(observation))

    async def step(self, request: Request) -> Response:
        """Take one step: in the cookie's episode or, without a cookie, in a fresh environment.

        Some environments refuse a step before the first reset.
        """
        arrived = now()
        body = self._decoder.decode_step(await request.body())
        action: Any = body.action
        async with self._sessions.temporary() as session:
            await self._episodes.resume(request, session)
            arguments = body.model_dump(exclude_unset=True, exclude={"action"})
            began = now()
            if type(action) in TOOL_ACTIONS:
                observation = await session.tools.act(session, action, arguments)
            else:
                observation = await session.step(action, arguments)
            ended = now()
            await make_room(request.scope, session.reply_size)
            response = _observation_response(observation)
            note_step(arrived, began, ended, session.caller.step_span)
            return await self._episodes.keep(request, session, response)

    async def state(self, request: Request) -> Response:
        """Return the state of the cookie's episode or, without a cookie, of a fresh environment."""
        async with self._sessions.temporary() as session:
            await self._episodes.resume(request, session)
            return _json_response(encode_state(await session.state()))


class DescriptionRoutes:
    """`/schema`, `/schema/scenario` and `/metadata`."""

    def __init__(
        self, sessions: Sessions, models: Models, factory: EnvironmentFactory, env_name: str
    ) -> None:
        self._sessions = sessions
        self._models = models
        self._factory = factory
        self._env_name = env_name

    def add_to(self, router: APIRouter, more: APIRouter) -> None:
        """`more` gets the routes that the framework's servers do not have."""
        router.get("/schema", tags=["Description"], summary="Get the JSON Schemas")(self.schema)
        more.get(
            "/schema/scenario",
            tags=["Description"],
            summary="Get the JSON Schema of a scenario",
        )(self.scenario_schema)
        router.get(
            "/metadata",
            tags=["Description"],
            summary="Describe the environment",
            responses={500: _FAILURES[500]},
        )(self.metadata)

    async def schema(self) -> DescribedModels:
        """Return the JSON Schemas of the action, the observations and the state."""
        return DescribedModels(
            action=TypeAdapter(self._models.action).json_schema(),
            observation=self._models.observation.model_json_schema(),
            reset_observation=self._models.reset_observation.model_json_schema(),
            state=self._models.state.model_json_schema(),
        )

    async def scenario_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the reset argument `scenario`."""
        return Scenario.model_json_schema()

    async def metadata(self) -> EnvironmentMetadata:
        """Return the environment's name, description, version, author and README."""
        described = metadata_of_class(self._factory.environment_cls, self._env_name)
        if described is not None:
            return described
        async with self._sessions.temporary() as session:
            own: EnvironmentMetadata
            own = await session.call(metadata_of, session.environment, self._env_name)
            return own


class OperationRoutes:
    """`/health`, `/ready` and `/sessions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add_to(self, router: APIRouter, more: APIRouter) -> None:
        """`more` gets the routes that the framework's servers do not have."""
        stopping = {"model": ReadinessResponse, "description": "The server is stopping"}
        router.get("/health", tags=["Operation"], summary="Check that the server runs")(self.health)
        more.get(
            "/ready",
            tags=["Operation"],
            summary="Check that the server accepts sessions",
            responses={503: stopping},
        )(self.ready)
        more.get("/sessions", tags=["Operation"], summary="Count the sessions")(self.count_sessions)

    async def health(self) -> HealthResponse:
        """Answer as long as the server runs, even while it is stopping."""
        return HealthResponse(status=HealthStatus.HEALTHY)

    async def ready(self, response: Response) -> ReadinessResponse:
        """Answer 503 while the server is stopping and opens no more sessions."""
        if self._sessions.draining and not self._sessions.places.others_accept:
            response.status_code = 503
            return ReadinessResponse(status="draining")
        return ReadinessResponse(status="ready")

    async def count_sessions(self) -> SessionsResponse:
        """Return the number of open sessions and the limit, both of the server as a whole."""
        return SessionsResponse(
            active_sessions=self._sessions.active_in_server, max_sessions=self._sessions.capacity
        )


def body_schema(model: str, is_required: bool = False) -> dict[str, Any]:
    """What a route says about its body in the OpenAPI document."""
    schema = {"$ref": SCHEMA_REFERENCE.format(model=model)}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": is_required, "content": content}}


def _observation_response(observation: Observation) -> Response:
    return _json_response(encode_observation(observation))


def _json_response(text: bytes) -> Response:
    return Response(text, media_type="application/json")
