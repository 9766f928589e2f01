# SPDX-License-Identifier: BSD-3-Clause
"""Rows `HTTP`: the routes beside `/ws`."""

from typing import Any
from uuid import uuid4

import requests

from stepwire.conformance.findings import NotApplicable
from stepwire.conformance.registry import check, require
from stepwire.conformance.server_under_test import ServerUnderTest

_ENOUGH = 3
_FORM = 'answer `{"observation":{…},"reward":…,"done":…}`'
_VALIDATE = "let the framework's request models validate the body; answer 422 with pydantic's list"


def _require_observation(answer: Any) -> None:
    require(isinstance(answer, dict), "an object", answer)
    require(isinstance(answer.get("observation"), dict), "an object as `observation`", answer)
    require("reward" in answer, "a `reward`", answer)
    require(isinstance(answer.get("done"), bool), "a boolean as `done`", answer)


def _require_unprocessable(server: ServerUnderTest, path: str, body: Any) -> None:
    response = server.http("POST", path, body)
    got = f"{response.status_code} {response.text[:200]}"
    require(response.status_code == 422, f"422 for {body!r:.60}", got)
    detail = response.json().get("detail")
    require(isinstance(detail, list) and detail, "a list `detail`", got)


@check(
    "http-reset", "HTTP-1", cause="the body is required, or the answer has another form", fix=_FORM
)
def reset_answers(server: ServerUnderTest) -> None:
    """`POST /reset` answers with or without a body."""
    for body in (None, {}, {"seed": 1, "episode_id": "conformance", "conformance": [1]}):
        _require_observation(server.http_json("POST", "/reset", body))


@check("http-reset-arguments", "HTTP-2", cause="the body is not validated", fix=_VALIDATE)
def arguments_of_reset_are_checked(server: ServerUnderTest) -> None:
    """`POST /reset` refuses a bad `seed` and `episode_id`."""
    _require_unprocessable(server, "/reset", {"seed": -1})
    _require_unprocessable(server, "/reset", {"episode_id": "x" * 256})


@check(
    "http-step", "HTTP-3", cause="`action` is not read, or the answer has another form", fix=_FORM
)
def step_answers(server: ServerUnderTest) -> None:
    """`POST /step` accepts an action, with and without options."""
    for options in ({}, {"timeout_s": 30, "request_id": "conformance"}):
        _require_observation(_step(server, options))


def _step(server: ServerUnderTest, options: dict[str, Any]) -> Any:
    """The answer to a step, after a reset if the environment needs one."""
    body = {"action": server.action(), **options}
    if not server.wants_reset:
        return server.http_json("POST", "/step", body)
    with requests.Session() as cookies:
        server.http_json("POST", "/reset", {}, cookies)
        if not cookies.cookies:
            raise NotApplicable(
                "The environment takes no step before a reset, and each request gets a new one."
            )
        return server.http_json("POST", "/step", body, cookies)


@check("http-step-arguments", "HTTP-4", cause="the body is not validated", fix=_VALIDATE)
def a_step_without_an_action_is_refused(server: ServerUnderTest) -> None:
    """`POST /step` refuses a body without an action, and a body that is not an object."""
    bodies: tuple[Any, ...] = ({}, {"action": None}, [])
    for body in bodies:
        _require_unprocessable(server, "/step", body)


@check(
    "http-json",
    "HTTP-13",
    cause="the parser's exception is not caught, or the answer has another form",
    fix="answer 422 with a list `detail`",
)
def a_body_that_is_not_json_is_refused(server: ServerUnderTest) -> None:
    """`POST /step` and `/reset` refuse a body that is not JSON."""
    for path in ("/step", "/reset"):
        _require_unprocessable(server, path, '{"action":')


@check(
    "http-not-finite",
    "HTTP-14",
    cause="the refusal quotes the number, and NaN cannot be sent as JSON",
    fix="answer 422 with a list `detail` that quotes it as text",
)
def a_number_that_is_not_finite_is_refused(server: ServerUnderTest) -> None:
    """`POST /reset` refuses NaN and infinities as `seed`."""
    for number in ("NaN", "-Infinity", "1e999"):
        _require_unprocessable(server, "/reset", f'{{"seed":{number}}}')


@check(
    "http-state",
    "HTTP-5",
    cause="the environment's `state` is not the framework's `State`",
    fix="return `State(episode_id=…, step_count=…)`, or a subclass with more fields",
)
def state_answers(server: ServerUnderTest) -> None:
    """`GET /state` has an `episode_id` and a `step_count`."""
    state = _state(server)
    require(isinstance(state, dict) and "episode_id" in state, "an `episode_id`", state)
    require(isinstance(state.get("step_count"), int), "an integer as `step_count`", state)


def _state(server: ServerUnderTest) -> Any:
    """The state, after a reset if the environment has none before it."""
    if not server.wants_reset_for_state:
        return server.http_json("GET", "/state")
    with requests.Session() as cookies:
        server.http_json("POST", "/reset", {}, cookies)
        if not cookies.cookies:
            raise NotApplicable(
                "The environment has no state before a reset, and each request gets a new one."
            )
        return server.http_json("GET", "/state", None, cookies)


@check(
    "http-schema",
    "HTTP-6",
    cause="a schema is missing, or is not made from a model",
    fix="answer with `model_json_schema()` of the action, the observation and the state",
)
def schema_answers(server: ServerUnderTest) -> None:
    """`GET /schema` has three schemas of objects."""
    schemas = server.schemas()
    for part in ("action", "observation", "state"):
        schema = schemas.get(part)
        require(isinstance(schema, dict), f"a schema of the {part}", schemas)
        described = schema and (schema.get("properties") or "anyOf" in schema or "oneOf" in schema)
        require(described, f"a schema of the {part} that has properties", schema)


@check(
    "http-metadata",
    "HTTP-7",
    cause="`get_metadata()` of the environment raises, or returns something else",
    fix="return the framework's `EnvironmentMetadata`, or leave the method as inherited",
)
def metadata_answers(server: ServerUnderTest) -> None:
    """`GET /metadata` has a name and a description."""
    metadata = server.http_json("GET", "/metadata")
    require(isinstance(metadata, dict), "an object", metadata)
    for key in ("name", "description"):
        require(isinstance(metadata.get(key), str), f"a string as `{key}`", metadata)


@check(
    "http-health",
    "HTTP-8",
    cause="the answer has another text",
    fix='answer `{"status":"healthy"}`: clients compare that word',
)
def health_answers(server: ServerUnderTest) -> None:
    """`GET /health` says `healthy`."""
    health = server.http_json("GET", "/health")
    require(isinstance(health, dict) and health.get("status") == "healthy", "`healthy`", health)


@check(
    "http-openapi",
    "HTTP-9",
    cause="the version is the application's, not the contract's, or routes are hidden",
    fix='`FastAPI(version="1.0.0")`, and routes with `include_in_schema`',
)
def openapi_describes_the_routes(server: ServerUnderTest) -> None:
    """`GET /openapi.json` has version 1.x and the routes of an episode."""
    openapi = server.http_json("GET", "/openapi.json")
    version = str(openapi.get("info", {}).get("version"))
    require(version.startswith("1."), "version 1.x", version)
    paths = set(openapi.get("paths", {}))
    require({"/reset", "/step", "/state"} <= paths, "`/reset`, `/step` and `/state`", sorted(paths))


@check(
    "http-isolation",
    "HTTP-10",
    cause="requests share one environment",
    fix="make an environment for each request without a cookie",
)
def requests_share_nothing(server: ServerUnderTest) -> None:
    """A request without cookies gets a new environment, whatever came before."""
    before = server.http("GET", "/state")
    statuses = [
        server.http("POST", "/step", {"action": server.action()}).status_code
        for _ in range(_ENOUGH)
    ]
    if before.status_code == 200 and statuses == [200] * _ENOUGH:
        state, later = before.json(), server.http_json("GET", "/state")
        counts = [each.get("step_count") for each in (state, later)]
        # A new environment may count more, such as the opponent's first move.
        shared = all(isinstance(count, int) for count in counts) and (
            counts[1] >= counts[0] + _ENOUGH
        )
        require(not shared, f"no step count that {_ENOUGH} other requests raised", counts)
    episode_id = f"conformance-{uuid4().hex}"
    server.http_json("POST", "/reset", {"episode_id": episode_id})
    later_one = server.http("GET", "/state")
    require(
        episode_id not in later_one.text,
        "another episode than that of an earlier request",
        later_one.text,
    )


@check(
    "http-observation-metadata",
    "HTTP-11",
    cause="the server drops `Observation.metadata`, like that of openenv-core 0.3.0",
    fix="send it as `metadata`, null when it is empty",
)
def metadata_is_beside_the_observation(server: ServerUnderTest) -> None:
    """Answers of `/reset` and `/step` have a key `metadata`."""
    for answer in (server.http_json("POST", "/reset", {}), _step(server, {})):
        require("metadata" in answer, "a key `metadata`", answer)


@check(
    "http-cookies",
    "HTTP-12",
    cause="the server ignores cookies, or cannot keep this environment's episode in one",
    fix="keep the episode in a cookie, or on the server under an id in a cookie; this repository's "
    "server does so for environments with `dump_state()` and `load_state()`",
)
def cookies_keep_the_episode(server: ServerUnderTest) -> None:
    """A client that sends cookies back continues the episode that `/reset` began."""
    action = server.action()
    with requests.Session() as cookies:
        server.http_json("POST", "/reset", {}, cookies)
        require(cookies.cookies, "a cookie from `POST /reset`", dict(cookies.cookies))
        before = server.http_json("GET", "/state", None, cookies)
        server.http_json("POST", "/step", {"action": action}, cookies)
        after = server.http_json("GET", "/state", None, cookies)
    ids, counts = (
        [each.get(key) for each in (before, after)] for key in ("episode_id", "step_count")
    )
    require(ids[0] == ids[1] and counts[0] <= counts[1], "the same episode after a step", after)
    require(ids[0] is not None or counts[0] < counts[1], "an episode that goes on", after)
