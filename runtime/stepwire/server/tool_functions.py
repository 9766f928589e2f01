# SPDX-License-Identifier: BSD-3-Clause
"""Tools that are the functions in an environment's class attribute `TOOLS`.

A function's name, annotations and docstring become the tool's schema. Tools are called the same way
as steps. Calling one is not a step: it earns no reward and leaves the step count as it is.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any

from openenv.core.env_server.mcp_types import (
    RESERVED_TOOL_NAMES,
    JsonRpcErrorCode,
    ToolErrorType,
)
from pydantic import TypeAdapter, ValidationError, validate_call

from stepwire.server.errors import MessageError, describe
from stepwire.server.tools import ToolFailure, ToolResult, Tools, ToolUser, result_of


@dataclass(frozen=True)
class OfferedFunction:
    """One of the functions: `call` is `function` with validated arguments."""

    function: Callable[..., Any]
    specification: dict[str, Any]
    call: Callable[..., Any]


class FunctionTools(Tools):
    """The functions in `TOOLS`, which may be none."""

    def __init__(
        self, functions: tuple[Callable[..., Any], ...], *, acts_in_steps: bool = False
    ) -> None:
        """Raises `ValueError` for a function that cannot be offered."""
        super().__init__(acts_in_steps=acts_in_steps)
        self.functions: dict[str, OfferedFunction] = {}
        for function in functions:
            offered = _offered(function)
            name = offered.specification["name"]
            if name in self.functions:
                raise ValueError(f"TOOLS has two functions of the name {name!r}; rename one")
            self.functions[name] = offered

    async def specifications(self, user: ToolUser) -> list[dict[str, Any]]:
        return [offered.specification for offered in self.functions.values()]

    async def _call(self, user: ToolUser, name: str, arguments: dict[str, Any]) -> Any:
        if name not in self.functions:
            offered = ", ".join(self.functions) or "none"
            message = f"Unknown tool: {name[:80]!r} (offered: {offered})"
            raise _invalid(ToolErrorType.TOOL_NOT_FOUND, message)
        try:
            result = await user.call(self.functions[name].call, **arguments)
            return await result if inspect.isawaitable(result) else result
        except ValidationError as error:
            entries = MessageError.from_validation(error).errors or []
            reasons = "; ".join(
                f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in entries
            )
            raise _invalid(ToolErrorType.INVALID_ARGS, reasons) from None
        except Exception as error:
            text = describe(error)["message"]
            raise ToolFailure(ToolErrorType.EXECUTION_ERROR, text) from error

    def _in_form(self, result: Any) -> ToolResult:
        return result_of(result)


@lru_cache
def function_tools(functions: tuple[Callable[..., Any], ...]) -> FunctionTools:
    """The functions of a class, checked and described once. Raises `ValueError`."""
    return FunctionTools(functions)


def _offered(function: Callable[..., Any]) -> OfferedFunction:
    name = getattr(function, "__name__", None)
    if name is None:
        raise ValueError(f"TOOLS may hold functions only, not {function!r}: it has no __name__")
    if name in RESERVED_TOOL_NAMES:
        raise ValueError(f"A tool may not be called {name!r}: the protocol reserves that name")
    signature = inspect.signature(function)
    if "self" in signature.parameters:
        raise ValueError(f"The tool {name!r} takes `self`, but is called without the environment")
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.POSITIONAL_ONLY in kinds:
        raise ValueError(f"The tool {name!r} has positional-only parameters; calls give names")
    named = (
        _without_var_positional(function) if inspect.Parameter.VAR_POSITIONAL in kinds else function
    )
    try:
        specification = {
            "name": name,
            "description": inspect.getdoc(function) or "",
            "inputSchema": TypeAdapter(named).json_schema(),
        }
        return OfferedFunction(function, specification, validate_call(named))
    except Exception as error:
        raise ValueError(f"The tool {name!r} in TOOLS cannot be offered: {error}") from error


def _without_var_positional(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without its `*args`, which a call by name cannot fill."""

    @wraps(function)
    def named(**arguments: Any) -> Any:
        return function(**arguments)

    signature = inspect.signature(function)
    kept = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
    ]
    named.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return named


def _invalid(kind: ToolErrorType, message: str) -> ToolFailure:
    return ToolFailure(kind, message, JsonRpcErrorCode.INVALID_PARAMS)
