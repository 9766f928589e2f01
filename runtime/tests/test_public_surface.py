# SPDX-License-Identifier: BSD-3-Clause
"""The public names of the runtime. Everything else may change without notice."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stepwire

_ERRORS = [
    "CapacityReachedError",
    "CommandNotFoundError",
    "ConnectFailedError",
    "DockerUnavailableError",
    "EnvClientError",
    "ImageNotFoundError",
    "InvalidActionError",
    "InvalidOptionError",
    "LostEpisodesError",
    "PortTakenError",
    "ProtocolViolationError",
    "ReplyTimeoutError",
    "ServerError",
    "ServerExitedError",
    "ServerNotHealthyError",
    "ServerStartError",
    "SessionLostError",
    "UsageError",
]
_PUBLIC = {
    "stepwire.server": ["HTTPEnvServer", "Settings", "create_app", "create_fastapi_app", "serve"],
    "stepwire.client": [
        "AwaitableState",
        "LostEpisode",
        "SessionClient",
        "SessionPool",
        "ToolDialect",
        "verify_stamp",
        *_ERRORS,
    ],
    "stepwire.new": ["NewEnvironmentError", "create_environment"],
    "stepwire.testing": ["Conversation", "EnvironmentConformance", "Server", "server_fixture"],
}


@pytest.mark.parametrize("package", _PUBLIC)
def test_the_public_names_are_these(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(_PUBLIC[package])
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_the_public_names_of_the_gymnasium_module_are_these() -> None:
    # Read, not imported: Gymnasium need not be installed.
    folder = Path(stepwire.__file__).parent
    source = ast.parse((folder / "integrations" / "gymnasium.py").read_text(encoding="utf-8"))
    (names,) = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert names == ["SessionEnv", "SessionVectorEnv", "register"]


@pytest.mark.parametrize("package", _PUBLIC)
def test_a_public_package_imports_by_itself(package: str, execute: Callable[..., str]) -> None:
    assert execute(f"import {package} as p; print(*sorted(p.__all__))").split() == sorted(
        _PUBLIC[package]
    )


def test_the_conformance_kit_is_a_command(run: Callable[..., Any]) -> None:
    done = run("-m", "stepwire.conformance", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "stepwire.conformance" in done.stdout
