# SPDX-License-Identifier: BSD-3-Clause
"""`/web` and the addresses that lead to it, also below a path prefix."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests


@pytest.mark.parametrize(("path", "target"), [("/", "web"), ("/web/", "../web")])
def test_other_addresses_lead_to_the_page(server: Any, path: str, target: str) -> None:
    response = requests.get(server.url + path, allow_redirects=False, timeout=60)
    assert (response.status_code, response.headers["Location"]) == (307, target)
    assert requests.get(server.url + path, timeout=60).url == server.url + "/web"


def test_the_page_works_below_a_path_prefix(environments: Any) -> None:
    response = requests.get(environments.url + "/full/", timeout=60)
    assert response.url == environments.url + "/full/web"
    assert response.headers["Content-Type"].startswith("text/html")


def test_the_page_loads_nothing_from_other_servers(server: Any) -> None:
    page = requests.get(server.url + "/web", timeout=60).text
    assert "<html" in page
    for address in ('src="http', 'src="/', 'href="http', 'href="/', "url(http"):
        assert address not in page


def test_only_files_of_the_page_are_served(server: Any) -> None:
    for path in ("/web/nope.js", "/web/%2e%2e/app.py", "/web/..%2fapp.py"):
        assert requests.get(server.url + path, timeout=60).status_code == 404


def test_the_policy_of_the_page(server: Any) -> None:
    headers = requests.get(server.url + "/web", timeout=60).headers
    assert headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "require-trusted-types-for 'script'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    ]
    assert headers["Cache-Control"] == "no-cache"
    assert "X-Frame-Options" not in headers
    file = requests.get(server.url + "/web/inspector.js", timeout=60)
    assert file.headers["Cache-Control"] == "no-cache"
    assert file.headers["Content-Type"].startswith("text/javascript")


def _versions(server: Any) -> tuple[str, str | None, str, str]:
    """As `/web`, `/metadata` and `/docs` show them; the last one is the contract's."""
    page = requests.get(server.url + "/web", timeout=60).text
    described = requests.get(server.url + "/metadata", timeout=60).json()
    info = requests.get(server.url + "/openapi.json", timeout=60).json()["info"]
    shown = re.search(r"Server ([^<]+)<", page)
    assert shown is not None
    return shown[1], described["version"], info["description"].split(". ")[0], info["version"]


def test_the_version_shown_is_that_of_the_environments_distribution(
    start_server: Callable[..., Any], server: Any, tmp_path: Path
) -> None:
    installed = tmp_path / "notes_env-4.5.6.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: notes-env\nVersion: 4.5.6\n")
    (installed / "top_level.txt").write_text("notes_env\n")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    assert _versions(start_server(env={"PYTHONPATH": path})) == (
        "4.5.6",
        "4.5.6",
        "Reset, step and observe an environment: notes-env 4.5.6",
        "1.0.0",
    )
    assert _versions(server) == (
        "from a checkout",
        None,
        "Reset, step and observe an environment",
        "1.0.0",
    )


def test_a_browser_without_the_token_gets_a_form(start_server: Callable[..., Any]) -> None:
    server = start_server(env={"API_TOKEN": "a-rather-long-secret", "FRAME_ANCESTORS": "'none'"})
    for path in ("/web", "/docs", "/"):
        answer = requests.get(server.url + path, headers={"Accept": "text/html"}, timeout=60)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "no-store")
        assert '<input name="token" type="password"' in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert policy.endswith("frame-ancestors 'none'")
    assert requests.get(server.url + "/web", timeout=60).json()["detail"]  # not a browser
