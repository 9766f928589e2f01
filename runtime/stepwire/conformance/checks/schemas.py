# SPDX-License-Identifier: BSD-3-Clause
"""Rows `SCH`: what the server sends, compared with `/schema`."""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from stepwire.conformance.registry import check, fail, require
from stepwire.conformance.server_under_test import ServerUnderTest

_COMMON = {"metadata", "reward", "done"}


def require_valid(value: Any, schema: Any, what: str) -> None:
    """Fail unless `schema` is a JSON Schema and `value` is valid against it."""
    try:
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(value)
    except SchemaError as error:
        fail(f"The schema of the {what} is not a JSON Schema: {error.message}")
    except ValidationError as error:
        fail(f"The {what} {value!r:.200} does not match its schema: {error.message:.200}")


@check(
    "schema-observation",
    "SCH-1",
    cause="the environment sets fields that its observation's model lacks or types otherwise",
    fix="declare these fields in the model that `/schema` is made from",
)
def observations_are_valid(server: ServerUnderTest) -> None:
    """The answers to `reset` and `step` are valid against the schemas of the observations."""
    schemas = server.schemas()
    later = schemas.get("observation")
    first = schemas.get("reset_observation", later)
    with server.session() as session:
        begun = session.begin()
        for schema, data in (
            (first, begun),
            *((later, each) for each in session.play(2)),
        ):
            observation = data.get("observation")
            whole = dict(observation) if isinstance(observation, dict) else {}
            whole |= {key: data[key] for key in ("reward", "done") if key in data}
            if data is begun and first == later and set(whole) <= _COMMON:
                continue  # the framework's own class, as environments of tools return it
            require_valid(whole, schema, "observation")


@check(
    "schema-state",
    "SCH-2",
    cause="`/schema` is made from another class than the environment's `state`",
    fix="return the declared class or a subclass",
)
def states_are_valid(server: ServerUnderTest) -> None:
    """The answer to `state` is valid against the schema of the state."""
    schema = server.schemas().get("state")
    with server.session() as session:
        session.begin()
        require_valid(session.state(), schema, "state")


@check(
    "schema-action",
    "SCH-3",
    cause="the server fills in fields that the schema requires",
    fix="validate actions with the model that the schema is made from",
)
def required_fields_are_required(server: ServerUnderTest) -> None:
    """An action without a required field is refused, for each required field."""
    schema = server.schemas().get("action") or {}
    for name in schema.get("required", ()):
        lacking = {key: value for key, value in server.action().items() if key != name}
        with server.session() as session:
            session.begin()
            reply = session.ask({"type": "step", "data": lacking})
            data = reply.get("data") if isinstance(reply, dict) else None
            refused = isinstance(data, dict) and data.get("code") == "VALIDATION_ERROR"
            require(refused, f"a refusal of an action without `{name}`", reply)
