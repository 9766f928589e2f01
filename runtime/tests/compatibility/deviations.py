# SPDX-License-Identifier: BSD-3-Clause
"""How our answers differ from the stock server's, and why."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any

IS_0_10 = any(each.metadata["Name"] == "openenv" for each in distributions())
VERSION = "0.10.0" if IS_0_10 else "0.3.0"
"""The generation of the installed framework: `openenv` or `openenv-core`."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Deviation:
    """Something that differs: `equalize` takes it out of an object of either server's answer."""

    name: str
    reason: str
    equalize: Callable[[Object], Object]


def _without(value: Object, *names: str) -> Object:
    return {name: each for name, each in value.items() if name not in names}


def _metadata(value: Object) -> Object:
    if IS_0_10 or not isinstance(value.get("observation"), dict) or "done" not in value:
        return value
    observation = _without(value["observation"], "metadata")
    return _without(value, "metadata") | {"observation": observation}


def _error_texts(value: Object) -> Object:
    if "code" in value and "message" in value:
        return _without(value, "message", "data")
    if value.get("status") == 500:
        return _without(value, "content")
    return value


def _explanations(value: Object) -> Object:
    return _without(value, "ctx", "url") if {"type", "loc", "msg"} <= value.keys() else value


def _version(value: Object) -> Object:
    if {"readme_content", "author"} <= value.keys():
        return _without(value, "version", "description", "readme_content")
    return value


def _state_fields(value: Object) -> Object:
    content = value.get("content")
    if not isinstance(content, dict):
        return value
    if "step_count" in content:
        content = {name: content[name] for name in ("episode_id", "step_count")}
    elif {"action", "observation", "state"} <= content.keys():
        content = _without(content, "state")
    return value | {"content": content}


def _reset_schema(value: Object) -> Object:
    if not IS_0_10 and {"action", "observation"} <= value.keys():
        return _without(value, "reset_observation")
    return value


def _mcp_names(value: Object) -> Object:
    if {"structured_content", "is_error"} <= value.keys():
        return _without(value, "structuredContent", "isError")
    schema = value.get("inputSchema", value.get("input_schema"))
    if "name" in value and schema is not None:
        value = _without(value, "inputSchema") | {"input_schema": schema}
        value["description"] = value["description"] or ""
    return value


DEVIATIONS = (
    Deviation(
        "metadata",
        "the observation's metadata reaches the client, as with 0.10; stock 0.3.0 drops it",
        _metadata,
    ),
    Deviation(
        "texts",
        "errors have the same codes but other texts: they name what is allowed, and the text of an "
        "unexpected exception stays in the log",
        _error_texts,
    ),
    Deviation(
        "rejections",
        "the errors of an invalid action lack pydantic's `ctx` and `url`",
        _explanations,
    ),
    Deviation(
        "version",
        "`/metadata` has the installed environment's version, docstring and README; stock always "
        "says 1.0.0 and repeats the name",
        _version,
    ),
    Deviation(
        "state",
        "`GET /state` and `/schema` have all fields of the environment's state",
        _state_fields,
    ),
    Deviation(
        "reset",
        "`/schema` has `reset_observation`, as with 0.10; stock 0.3.0 has none",
        _reset_schema,
    ),
    Deviation(
        "MCP's names",
        "over JSON-RPC, tools and results have MCP's standard field names as well as the "
        "framework's, and a tool without a description has an empty one, because the framework's "
        "client requires a text",
        _mcp_names,
    ),
)


@dataclass(frozen=True)
class StockFault:
    """Questions that the stock server answers with an error, or not at all, and ours answers."""

    environment: str
    question: str
    """A regular expression that each of the questions has."""
    reason: str
    versions: tuple[str, ...] = ("0.3.0", "0.10.0")


STOCK_FAULTS = (
    StockFault("plain", '"tools/', "`tools/list` fails where there are no tools"),
    StockFault(
        "nested_action",
        "a longer note",
        "an action that a model's own validator rejects ends the session",
    ),
    StockFault("numpy_metadata", "reset|step", "each reset and step fails", ("0.10.0",)),
    StockFault("blocking_async", "/mcp", "`POST /mcp` fails"),
    StockFault(
        "own_action_mcp", "_tool", "with its own action class, steps that call tools are rejected"
    ),
    StockFault(
        "parsed_arguments_mcp",
        r'"list_tools"|"arguments": "\{"\}',
        "no step lists the tools, and an action that its own validator rejects ends the session",
    ),
    StockFault("tools_only", '"tools/', "its tools are not offered over MCP", ("0.3.0",)),
    StockFault(
        "production", "POST /reset|POST /step|GET /state", "`OPENENV_MODE` is not read", ("0.3.0",)
    ),
    StockFault("tasks", "splits|/sums|/list_environments", "there is no Task API", ("0.3.0",)),
    StockFault("gradio_page", r'"two"|/web/step \{\}', "an invalid action is answered with 500"),
)

_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


def equalized(answer: Any, deviations: Iterable[Deviation]) -> Any:
    """The answer without what `deviations` name, and without random identifiers."""
    if isinstance(answer, str):
        return _UUID.sub("an id", answer)
    if isinstance(answer, list):
        return [equalized(each, deviations) for each in answer]
    if not isinstance(answer, dict):
        # `1`, `1.0` and `True` are equal in Python, and different for a client.
        return (type(answer).__name__, answer)
    for deviation in deviations:
        answer = deviation.equalize(answer)
    return {name: equalized(each, deviations) for name, each in answer.items()}
