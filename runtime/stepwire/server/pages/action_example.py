# SPDX-License-Identifier: BSD-3-Clause
"""An example action of an environment, which `/docs` and `/web` show first."""

from typing import Any, NamedTuple

from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from stepwire.protocol.examples import NoExample, example_of
from stepwire.server.wire import action_classes


class ActionExample(NamedTuple):
    """An action as JSON."""

    action: Any
    """`None` if none can be made."""
    problem: str | None
    """Why it cannot be sent unchanged; `None` if it can."""


def action_schema(action_cls: Any) -> dict[str, Any]:
    """The JSON Schema of the actions; for a class without one, a schema that allows anything."""
    try:
        return TypeAdapter[Any](action_cls).json_schema()
    except PydanticUserError:
        return {}


def action_example(action_cls: Any) -> ActionExample:
    """An action made of the schema's required fields and examples."""
    if all(issubclass(cls, CallToolAction | ListToolsAction) for cls in action_classes(action_cls)):
        # Tools belong to a session, but each environment can list them.
        return ActionExample({"type": "list_tools"}, None)
    try:
        action = example_of(action_schema(action_cls))
    except NoExample as error:
        return ActionExample(None, str(error))
    try:
        TypeAdapter[Any](action_cls).validate_python(action)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return ActionExample(action, f"{field}: {first['msg']}" if field else first["msg"])
    return ActionExample(action, None)
