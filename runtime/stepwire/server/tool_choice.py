# SPDX-License-Identifier: BSD-3-Clause
"""How an environment offers its tools. Tools that cannot be served raise an error."""

from collections.abc import Callable, Collection
from typing import Any

from openenv.core.env_server.mcp_types import CallToolAction, ListToolsAction
from openenv.core.env_server.types import Action

from stepwire.server.logs import logger
from stepwire.server.mcp_tools import check_mcp_attributes, is_mcp_environment, mcp_tools
from stepwire.server.tool_functions import FunctionTools, function_tools
from stepwire.server.tools import StepTools, Tools
from stepwire.server.wire import action_classes

_Functions = tuple[Callable[..., Any], ...]

_NO_TOOLS = FunctionTools(())
_NO_TOOLS_BUT_ACTIONS = FunctionTools((), acts_in_steps=True)
_STEP_TOOLS = StepTools(acts_in_steps=True)


def check_tools(environment_cls: type[Any]) -> None:
    """Raise `ValueError` where the class alone shows that its tools cannot be served."""
    functions = _functions(environment_cls)
    function_tools(functions)
    on_fastmcp = check_mcp_attributes(environment_cls) or is_mcp_environment(environment_cls)
    _refuse_both(environment_cls, functions, on_fastmcp)
    if getattr(environment_cls, "TOOLS", None) and not functions:
        logger.warning("%s.TOOLS has no functions: it offers no tools", environment_cls.__name__)


def tools_of(environment: Any, action_cls: Any) -> Tools:
    """The tools of an environment whose actions are of `action_cls`, a class or a union.

    Raises `ValueError` where they cannot be served.
    """
    environment_cls = type(environment)
    functions = _functions(environment)
    is_native = is_mcp_environment(environment_cls)
    on_fastmcp = check_mcp_attributes(environment)
    if is_native and not on_fastmcp:
        raise ValueError(
            f"{environment_cls.__name__} is an MCPEnvironment without tools: its constructor must "
            "call super().__init__() with a FastMCP server"
        )
    _refuse_both(environment_cls, functions, on_fastmcp)
    if functions:
        return function_tools(functions)
    actions = action_classes(action_cls)
    names_tools = any(issubclass(cls, CallToolAction | ListToolsAction) for cls in actions)
    takes_any = Action in actions
    if on_fastmcp:
        return mcp_tools(is_native or names_tools or takes_any)
    if names_tools:
        return _STEP_TOOLS
    return _NO_TOOLS_BUT_ACTIONS if takes_any else _NO_TOOLS


def _functions(owner: Any) -> _Functions:
    """The functions in `TOOLS`; none if that is a constant of the author's for something else."""
    value = getattr(owner, "TOOLS", ())
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(items, Collection):
        return ()
    callables = [callable(item) for item in items]
    if not any(callables):
        return ()
    if isinstance(value, dict) or not all(callables):
        name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise ValueError(f"{name}.TOOLS must be a tuple of functions, to offer them as tools")
    return tuple(items)


def _refuse_both(environment_cls: type[Any], functions: _Functions, on_fastmcp: bool) -> None:
    if functions and on_fastmcp:
        raise ValueError(
            f"{environment_cls.__name__} offers tools twice: in TOOLS and with FastMCP. Register "
            "the functions of TOOLS with its FastMCP server, and leave TOOLS out."
        )
