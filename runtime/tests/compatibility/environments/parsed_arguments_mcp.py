# SPDX-License-Identifier: BSD-3-Clause
"""An `MCPEnvironment` served with a subclass of `CallToolAction`, made by a function."""

import json
from typing import Any

from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from pydantic import field_validator

from compatibility.environments.calculator_mcp import Calculator
from compatibility.served_by import create_app


class ParsedAction(CallToolAction):
    @field_validator("arguments", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


def make_calculator() -> Calculator:
    return Calculator()


app = create_app(make_calculator, ParsedAction, CallToolObservation, "calculator")
