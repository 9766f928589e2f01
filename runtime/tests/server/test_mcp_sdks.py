# SPDX-License-Identifier: BSD-3-Clause
"""`POST /mcp` with the official SDKs, oldest and newest, and MCP's own conformance suite.

Both need the package index, and npm.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.node

_HERE = Path(__file__).parent
_TOOLS = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "json_schema_2020_12_tool",
]
_TEXT = "This is a simple text response for testing."
# The first releases with Streamable HTTP.
_OLDEST_PYTHON, _OLDEST_TYPESCRIPT = "1.8.0", "1.10.0"
_TRANSPORT = "esm/client/streamableHttp.js"
_NPM_PACKAGES = (
    f"oldest@npm:@modelcontextprotocol/sdk@{_OLDEST_TYPESCRIPT}",
    "newest-1@npm:@modelcontextprotocol/sdk@1",
    "newest@npm:@modelcontextprotocol/client@2",
    "@modelcontextprotocol/conformance@0.1.13",  # the last for Node.js 20
)
# The others are about what this server does not offer: resources, prompts, logging, completion,
# sampling, elicitation, progress and event streams. FastMCP resolves the references that
# `json-schema-2020-12` looks for.
_SCENARIOS = (
    "server-initialize",
    "ping",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-embedded-resource",
    "tools-call-mixed-content",
    "tools-call-error",
    "dns-rebinding-protection",
)


@pytest.fixture(scope="module")
def url(start_shared_server: Any) -> str:
    server = start_shared_server(application=_HERE / "served_mcp_conformance.py")
    return f"{server.url}/mcp"


@pytest.fixture(scope="module")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    npm = shutil.which("npm")
    assert npm
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)]
    subprocess.run([*install, *_NPM_PACKAGES], check=True, timeout=900)
    return folder / "node_modules"


def _run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.mark.parametrize("release", ["oldest", "newest-1", "newest"])
def test_the_typescript_sdk_lists_and_calls_tools(url: str, npm_folder: Path, release: str) -> None:
    names = ("index.mjs",) if release == "newest" else ("esm/client/index.js", _TRANSPORT)
    files = (str(npm_folder / release / "dist" / name) for name in names)
    used = json.loads(_run("node", str(_HERE / "mcp_sdk_client.mjs"), url, *files))
    batch, answers = used.pop("batch"), used.pop("answers")
    assert used == {"tools": _TOOLS, "text": _TEXT, "failed": True, "session": None}
    if release == "oldest":  # of the version of MCP that has batches
        assert (batch, answers) == ("answered", ["one", "two"])
    else:
        assert "version 2025-03-26 only" in batch


@pytest.mark.parametrize("requirement", [f"mcp=={_OLDEST_PYTHON}", "mcp"])
def test_the_python_sdk_lists_and_calls_tools(url: str, requirement: str) -> None:
    python = ("uv", "run", "--quiet", "--isolated", "--no-project", "--with", requirement)
    used = json.loads(_run(*python, "python", str(_HERE / "mcp_sdk_client.py"), url))
    assert used == {"tools": _TOOLS, "text": _TEXT, "failed": True}


@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_mcps_own_conformance_suite_passes(url: str, npm_folder: Path, scenario: str) -> None:
    command = str(npm_folder / ".bin" / "conformance")
    report = _run(command, "server", "--url", url, "--scenario", scenario)
    assert "0 failed, 0 warnings" in report
